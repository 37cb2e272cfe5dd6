"""`araio run`: one question from an argument, a flag or stdin, or a prompt loop."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from araio import env
from araio.api import Model
from araio.api.votes import check_votes
from araio.cli.approximation_text import approximation_text
from araio.cli.budget_text import budget_text
from araio.cli.ctrl_c import ctrl_c
from araio.cli.load_options import (
    AdapterFolder,
    Approximate,
    CacheTokens,
    Country,
    Io,
    PriceList,
    ProfileModeName,
    Ram,
    Speculation,
    Tdp,
    Threads,
    load_by,
)
from araio.cli.numbers import bytes_text
from araio.cli.profile_text import profile_lines
from araio.cli.progress import progress_bar
from araio.cli.prompt_loop import prompt_loop
from araio.cli.receipt_keeper import ReceiptKeeper
from araio.cli.screen import Screen
from araio.cli.votes_text import votes_line
from araio.engine.answer import Answer, Finish
from araio.engine.effort import EFFORTS, budget_of
from araio.engine.request import DEFAULT_MAX_TOKENS, check_thinking_budget, params_from
from araio.errors import ModelNotFoundError, RequestError
from araio.weights.hindsight import Hindsight
from araio.weights.locate import BUNDLED, PRESETS, locate

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    'araio run "What is 47 + 38 - 12?"',
    'araio run pocket "What is 47 + 38 - 12?"',
    'araio run -m ~/models/DeepSeek-V2-Lite "Why is the sky blue?" --temperature 0.6',
    'araio run ~/models/r1-q4 "Why is the sky blue?" --ram 16GiB',
    'echo "What is 17 + 25?" | araio run --json',
    'araio run "What is 47 + 38 - 12?" --votes 8          what most of eight answers come to',
    'araio run "What is 47 + 38 - 12?" --thinking-budget 20',
    "araio run ~/models/r1-q4 --ram 16GiB --approximate cached",
    "araio run ~/models/r1-q4 --ram 16GiB --profile math.json",
    'araio run "What is 17 + 25?" --receipt --country FRA',
    "araio run                      a conversation; Ctrl-C stops an answer, Ctrl-D leaves",
)

# A path, or a name as hubs use it; nobody opens a question this way. ("3/4" has no letter in front.)
LOOKS_LIKE_A_MODEL = re.compile(r"(\.{0,2}|~)/\S+|[A-Za-z][\w.-]*/[\w./-]+")


# The options, each with its help, as typer reads them.
# The metavar closes its own bracket, so that the usage line shows two words and not a list of lists.
Words = Annotated[list[str] | None, typer.Argument(metavar="MODEL] [PROMPT", hidden=True)]
ModelName = Annotated[str | None, typer.Option("--model", "-m", help="The model; then PROMPT stands alone.")]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="The question, whatever it looks like.")]
System = Annotated[str | None, typer.Option("--system", help="A system message before the first question.")]
HideThinking = Annotated[bool, typer.Option("--hide-thinking", help="Show the answer only.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
MaxTokens = Annotated[
    int | None, typer.Option(help=f"Limit of thinking and answer together ({DEFAULT_MAX_TOKENS}).")
]
ThinkingBudget = Annotated[
    int | None,
    typer.Option(help="Tokens of thinking after which the answer begins; as long as it takes if not given."),
]
EffortName = Annotated[
    str | None, typer.Option("--effort", help=f"The same in words: {', '.join(EFFORTS)}.", metavar="EFFORT")
]
Guard = Annotated[
    bool,
    typer.Option(
        "--repetition-guard",
        help="Close a thinking that only repeats itself, and end an answer that does.",
    ),
]
NumberOfVotes = Annotated[
    int | None,
    typer.Option("--votes", metavar="N", help="Answer so many times, and give what most come to."),
]
Temperature = Annotated[
    float | None, typer.Option(help="0 takes the likeliest token; 1 samples as the model believes.")
]
TopP = Annotated[float | None, typer.Option(help="Keep the likeliest tokens up to this probability.")]
TopK = Annotated[int | None, typer.Option(help="Keep this many of the likeliest tokens; 0 keeps all.")]
MinP = Annotated[float | None, typer.Option(help="Drop tokens below this share of the likeliest.")]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Above 1 discourages tokens that were there before.")
]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same text.")]
ProfileFile = Annotated[
    Path | None, typer.Option("--profile", metavar="FILE", help="Experts for a domain; see `araio profile`.")
]
Whole = Annotated[bool, typer.Option("--receipt", help="Print the whole receipt, not its one line.")]
NoLog = Annotated[bool, typer.Option("--no-log", help="Keep no receipt for `araio receipts`.")]


def command(
    words: Words = None,
    model: ModelName = None,
    prompt: Prompt = None,
    system: System = None,
    hide_thinking: HideThinking = False,
    as_json: AsJson = False,
    max_tokens: MaxTokens = None,
    thinking_budget: ThinkingBudget = None,
    effort: EffortName = None,
    votes: NumberOfVotes = None,
    repetition_guard: Guard = False,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    stop: Stop = None,
    seed: Seed = None,
    threads: Threads = None,
    ram: Ram = None,
    cache_tokens: CacheTokens = None,
    io: Io = None,
    speculate: Speculation = None,
    approximate: Approximate = None,
    profile: ProfileFile = None,
    profile_mode: ProfileModeName = "pin",
    adapter: AdapterFolder = None,
    receipt: Whole = False,
    no_log: NoLog = False,
    country: Country = None,
    prices: PriceList = None,
    tdp: Tdp = None,
) -> None:
    """Ask a model: it thinks (dim, on stderr), then answers (on stdout).

    MODEL is `pocket`, which comes with araio and is the default, or a checkpoint folder. Without a question
    it reads stdin if something is piped in, and opens a prompt loop otherwise.
    """
    name, question = _choose(words or [], model, prompt)
    _check_model(name, is_only_word=words == [name] and question is None)
    question = _checked(question, as_json)
    given = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop or None,
        "seed": seed,
    }
    sampling = {field: value for field, value in given.items() if value is not None}
    # A value out of range is told before a large model is loaded.
    params_from(sampling)
    check_thinking_budget(thinking_budget)
    budget = budget_of(effort, thinking_budget)
    if votes is not None:
        check_votes(votes)
        if question is None:
            raise RequestError("--votes answers one question; give it as an argument, with -p, or on stdin")
    if budget is not None:
        sampling["thinking_budget"] = budget
    if repetition_guard:
        sampling["repetition_guard"] = True
    screen = Screen(hide_thinking=hide_thinking, whole_receipt=receipt)
    keeper = ReceiptKeeper(screen.note, is_off=no_log)
    loaded = load_by(
        name,
        threads=threads,
        speculate=speculate,
        ram=ram,
        cache_tokens=cache_tokens,
        io=io,
        approximate=approximate,
        profile=profile,
        profile_mode=profile_mode,
        adapter=adapter,
        country=country,
        prices=prices,
        tdp=tdp,
    )
    if ram is not None or loaded.experts is not None:
        screen.note(budget_text(loaded.budget, loaded.experts))
    for line in profile_lines(loaded):
        screen.note(line)
    if approximate is not None:
        screen.note(approximation_text(loaded, approximate, screen.note))
    if votes is not None and question is not None:
        _vote(loaded, _messages(system, question), votes, sampling, keeper, as_json=as_json, screen=screen)
        return
    _run(loaded, question, system, sampling, keeper, as_json=as_json, screen=screen)


def _checked(question: str | None, as_json: bool) -> str | None:
    """The question, from stdin if something is piped in; None opens the prompt loop."""
    if question is None and not sys.stdin.isatty():
        question = _read_stdin()
    if question is not None and not question.strip():
        raise RequestError("the question is empty; give it as an argument, with -p, or on stdin")
    if question is None and as_json:
        raise RequestError("--json answers one question; give it as an argument, with -p, or on stdin")
    return question


def _messages(system: str | None, question: str) -> list[dict[str, str]]:
    opening = [] if system is None else [{"role": "system", "content": system}]
    return [*opening, {"role": "user", "content": question}]


def _vote(
    model: Model,
    messages: list[dict[str, str]],
    n: int,
    sampling: dict[str, Any],
    keeper: ReceiptKeeper,
    *,
    as_json: bool,
    screen: Screen,
) -> None:
    """The answer that most of `n` come to, on the screen or as JSON; receipts of all of them are kept."""
    with progress_bar() as progress:
        bar = progress.add_task("answering", total=n)

        def on_answer() -> None:
            ctrl_c.check()
            progress.advance(bar)

        votes = model.vote(messages, n, on_answer=on_answer, **sampling)
    if as_json:
        sys.stdout.write(json.dumps(votes.to_dict(), ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        screen.show_finished(votes.answer)
        screen.note(votes_line(votes))
    for candidate in votes.candidates:
        keeper.keep(candidate)


def _run(
    model: Model,
    question: str | None,
    system: str | None,
    sampling: dict[str, Any],
    keeper: ReceiptKeeper,
    *,
    as_json: bool,
    screen: Screen,
) -> None:
    opening = [] if system is None else [{"role": "system", "content": system}]
    if question is None:
        prompt_loop(lambda messages: model.stream(messages, **sampling), opening, screen, keeper.keep)
        return
    messages = _messages(system, question)
    if as_json:
        *_, finish = ctrl_c.watched(model.stream(messages, **sampling))
        assert isinstance(finish, Finish)
        sys.stdout.write(json.dumps(finish.answer.to_dict(), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        keeper.keep(finish.answer)
        return
    try:
        keeper.keep(_show(model, messages, sampling, screen))
    except KeyboardInterrupt:
        screen.interrupt("Stopped.")
        raise


def _show(model: Model, messages: list[dict[str, str]], sampling: dict[str, Any], screen: Screen) -> Answer:
    """The answer on the screen; if experts came from disk, also how much less could have been read."""
    if model.experts is None:
        return screen.show(model.stream(messages, **sampling))
    with Hindsight(model.network, model.experts) as hindsight:
        answer = screen.show(model.stream(messages, **sampling))
    if (read := hindsight.read_per_token()) is not None:
        made, least = (bytes_text(round(size)) for size in read)
        screen.note(f"decoding read {made} a token from disk; with hindsight {least} would have been enough")
    return answer


def _check_model(name: str, is_only_word: bool) -> None:
    """Tell a wrong name before stdin is waited for, and how to ask a word such as `km/h` as a question."""
    try:
        locate(name)
    except ModelNotFoundError as error:
        if is_only_word:
            raise ModelNotFoundError(f"{error}. To ask it: araio run -p {shlex.quote(name)}") from None
        raise


def _choose(words: Sequence[str], model: str | None, prompt: str | None) -> tuple[str, str | None]:
    """The model's name and the question, None if it is still to come.

    With neither flag, two words are model and question. One word is the model if it names one: bundled, a
    folder, or something that looks like a path; otherwise it is the question.
    """
    default = env.get("ARAIO_MODEL")
    match words, model, prompt:
        case [], _, _:
            return model or default, prompt
        case [word], None, None:
            return (word, None) if _names_a_model(word) else (default, word)
        case [word], None, _:
            return word, prompt
        case [word], str(), None:
            return model, word
        case [first, second], None, None:
            return first, second
        case [_], _, _:
            raise RequestError(f"two questions: {prompt!r} and {words[0]!r}; give one of them")
    raise RequestError(
        f'too many words: {" ".join(words)!r}; put the question in quotes, as in araio run "What is 2 + 2?"'
    )


def _names_a_model(word: str) -> bool:
    known = [*BUNDLED, *PRESETS]
    # os.path.isdir is False, and Path.is_dir an error, for a question longer than a file name.
    if word in known or os.path.isdir(word) or LOOKS_LIKE_A_MODEL.fullmatch(word):  # noqa: PTH112
        return True
    if close := get_close_matches(word.lower(), known, n=1, cutoff=0.8):
        raise ModelNotFoundError(
            f"no model {word!r}; did you mean {close[0]}? To ask it as a question: araio run -p {word}"
        )
    return False


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RequestError(f"stdin is not UTF-8 text ({error.reason} at byte {error.start})") from None
