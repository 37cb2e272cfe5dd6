import json
import os
import re
import signal
import subprocess
import sys

import pytest

import araio
from araio.cli.commands.run import _choose
from araio.errors import ModelNotFoundError, RequestError
from araio.testing.profiles import profile_of

QUESTION = "What is 47 + 38 - 12?"


def test_an_answer_goes_to_stdout_and_the_rest_to_stderr(araio_command, tiny):
    done = araio_command("run", "-m", tiny, QUESTION, "--max-tokens", 12, "--seed", 1)
    assert done.returncode == 0
    # Random weights never close their thinking in twelve tokens, so all of it is thinking.
    assert done.stdout == ""
    *thinking, footer = done.stderr.splitlines()
    assert "".join(thinking)
    for part in ("thought 12 tokens", "answered 0 tokens", " s · ", "tok/s", "weights active per token"):
        assert part in footer
    assert "raise --max-tokens" in footer
    assert "\x1b" not in footer


def test_hidden_thinking_leaves_the_footer(araio_command, tiny):
    done = araio_command("run", "-m", tiny, QUESTION, "--max-tokens", 12, "--hide-thinking", "--seed", 1)
    assert done.stderr.startswith("thought 12 tokens")
    assert done.stderr.count("\n") == 1


def test_json_is_one_document_of_the_promised_shape(araio_command, tiny):
    done = araio_command("run", tiny, QUESTION, "--json", "--max-tokens", 12, "--seed", 1)
    assert done.returncode == 0
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert list(document) == ["model", "reasoning", "content", "finish_reason", "usage"]
    assert document["model"] == str(tiny)
    assert document["finish_reason"] == "length"
    usage = document["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 12}
    assert usage["araio"]["tok_per_s"] > 0


def test_every_way_to_ask_asks_the_same(araio_command, tiny):
    sampling = ["--json", "--max-tokens", 12, "--seed", 5]

    def reasoning(*arguments, **more):
        done = araio_command("run", *arguments, *sampling, **more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["reasoning"]

    asked = reasoning(tiny, QUESTION)
    assert reasoning("-m", tiny, QUESTION) == asked
    assert reasoning(tiny, "-p", QUESTION) == asked
    assert reasoning("--model", tiny, "--prompt", QUESTION) == asked
    assert reasoning(QUESTION, ARAIO_MODEL=str(tiny)) == asked
    assert reasoning(tiny, stdin=QUESTION + "\n") == asked
    assert reasoning("tiny", QUESTION, cwd=tiny.parent) == asked
    assert reasoning(tiny, "Something else?") != asked


def test_sampling_flags_reach_the_sampler(araio_command, tiny):
    def reasoning(*flags):
        done = araio_command("run", tiny, QUESTION, "--json", "--max-tokens", 12, *flags)
        return json.loads(done.stdout)["reasoning"]

    greedy = reasoning("--temperature", 0)
    assert reasoning("--temperature", 5, "--top-k", 1) == greedy
    assert reasoning("--temperature", 5, "--top-p", 1e-6) == greedy
    assert reasoning("--temperature", 5, "--min-p", 1) == greedy
    assert reasoning("--temperature", 5, "--seed", 1) != greedy
    assert reasoning("--temperature", 0, "--system", "Be brief.") != greedy
    assert reasoning("--temperature", 0, "--repetition-penalty", 9) != greedy
    first, last = greedy[1], greedy[-1]
    assert reasoning("--temperature", 0, "--stop", last, "--stop", first) == greedy[: greedy.index(first)]


def test_a_thinking_budget_ends_the_thinking(araio_command, tiny):
    sampling = ["--json", "--max-tokens", 20, "--seed", 1]
    free = json.loads(araio_command("run", tiny, QUESTION, *sampling).stdout)
    document = json.loads(araio_command("run", tiny, QUESTION, *sampling, "--thinking-budget", 5).stdout)
    assert free["content"] == ""
    assert document["content"]
    assert free["reasoning"].startswith(document["reasoning"].rstrip("\ufffd"))
    # Five, and the closing tag, which the tiny model's vocabulary has as a line break and one token.
    assert document["usage"]["completion_tokens_details"] == {"reasoning_tokens": 7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1", "hi"], "temperature is -1.0; expected a number from 0 to 100"),
        (["--top-p", "nan", "hi"], "top_p is nan"),
        (["--max-tokens", "0", "hi"], "max_tokens is 0"),
        (["--thinking-budget", "-1", "hi"], "thinking_budget is -1"),
        (["poket"], "did you mean pocket?"),
        (["./nowhere", "hi"], "./nowhere"),
        (["/nowhere"], "/nowhere"),
        (["km/h"], "To ask it: araio run -p km/h"),
        (["--stop", "", "hi"], "stop holds ''"),
        (["--repetition-penalty", "11", "hi"], "repetition_penalty is 11.0"),
        (
            ["--approximate", "top-4", "hi"],
            "no approximation 'top-4'; this model has top-1 to top-3 and cached",
        ),
        (["-m", "nowhere", "hi"], "nowhere"),
        (["deepseek-ai/DeepSeek-R1", "hi"], "DeepSeek-R1"),
        (["deepseek-r1", "hi"], "known by its config only"),
        (["what", "is", "this"], "in quotes"),
        (["what is this", "-m", "pocket", "-p", "that"], "two questions"),
        (["-p", " "], "the question is empty"),
        ([], "the question is empty"),  # stdin is the null device
    ],
)
def test_mistakes_are_told_in_one_line(araio_command, tiny, arguments, message):
    done = araio_command("run", *arguments, ARAIO_MODEL=str(tiny))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_folder_without_a_model_is_told(araio_command, tmp_path):
    done = araio_command("run", tmp_path, "hi")
    assert done.returncode == 2
    assert "has no config.json" in done.stderr


def test_a_question_that_fills_the_context_is_told(araio_command, tiny):
    done = araio_command("run", tiny, stdin="why? " * 200)
    assert done.returncode == 2
    assert "the model's context holds 256" in done.stderr


def test_bytes_that_are_no_text_are_told(araio_command, tiny):
    for done in (araio_command("run", tiny, stdin="\udcff"), araio_command("run", tiny, "-p", "\udcff")):
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "model", "prompt", "chosen"),
    [
        ([], None, None, ("pocket", None)),
        ([], None, "hi", ("pocket", "hi")),
        ([], "x", None, ("x", None)),
        (["What is 2 + 2?"], None, None, ("pocket", "What is 2 + 2?")),
        (["hello"], None, None, ("pocket", "hello")),
        (["3/4"], None, None, ("pocket", "3/4")),
        (["x" * 5000], None, None, ("pocket", "x" * 5000)),
        (["pocket"], None, None, ("pocket", None)),
        (["pocket"], "x", None, ("x", "pocket")),
        (["./x"], None, None, ("./x", None)),
        (["~/x"], None, None, ("~/x", None)),
        (["x"], None, "hi", ("x", "hi")),
        (["x", "hi"], None, None, ("x", "hi")),
    ],
)
def test_words_are_model_and_question(monkeypatch, tmp_path, words, model, prompt, chosen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARAIO_MODEL", raising=False)
    assert _choose(words, model, prompt) == chosen


def test_a_folder_beside_you_is_a_model(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert _choose(["mine"], None, None) == ("mine", None)


@pytest.mark.parametrize("words", [["a", "b", "c"], ["a", "b"]])
def test_too_many_words_are_refused(words):
    with pytest.raises(RequestError, match="in quotes"):
        _choose(words, "x", None)


def test_a_word_close_to_a_model_is_asked_about():
    with pytest.raises(ModelNotFoundError, match=r"did you mean pocket\?.*-p Pockt"):
        _choose(["Pockt"], None, None)


def start(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "araio", "run", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def test_ctrl_c_ends_one_question_with_130_and_no_traceback(endless):
    process = start(endless, "hi", "--temperature", 0, "--max-tokens", 100_000)
    first = os.read(process.stderr.fileno(), 1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=120)
    assert first
    assert process.returncode == 130
    assert b"Traceback" not in rest
    assert rest.endswith(b"\nStopped.\n")


def test_a_reader_that_leaves_ends_it_quietly(endless):
    process = start(endless, "hi", "--json", "--temperature", 0, "--max-tokens", 100)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(120) == 1
    process.stderr.close()


def test_an_approximation_tells_what_it_costs_at_every_start(araio_command, tiny, tmp_path):
    arguments = ("run", "-m", tiny, "-p", "hi", "--approximate", "top-2", "--max-tokens", "8", "--json")
    first, second = (araio_command(*arguments, XDG_CACHE_HOME=tmp_path) for _ in range(2))
    figures = r"KL \d\.\d{3} nats, first choice kept \d+% \(measured on 96 tokens\); read \d+% less of memory"
    for result in (first, second):
        assert result.returncode == 0
        assert re.search(rf"^approximate \(top-2\): {figures}$", result.stderr, re.MULTILINE)
        assert json.loads(result.stdout)["usage"]["araio"]["approximation"] == "top-2"
    assert "measuring what it costs, once" in first.stderr
    assert "measuring" not in second.stderr


def test_cached_says_where_it_changes_nothing(araio_command, tiny):
    arguments = ("run", "-m", tiny, "-p", "hi", "--seed", "0", "--max-tokens", "8", "--json")
    cached, exact = araio_command(*arguments, "--approximate", "cached"), araio_command(*arguments)
    assert "approximate (cached): every expert is in memory, so answers are exact" in cached.stderr
    assert "approximate" not in exact.stderr
    documents = [json.loads(result.stdout) for result in (cached, exact)]
    assert documents[0]["content"] == documents[1]["content"]
    assert [document["usage"]["araio"]["approximation"] for document in documents] == [None, None]


@pytest.fixture
def profile_file(tiny, tmp_path):
    model = araio.load(tiny)
    size = model.config.n_routed_experts
    kept = [expert for expert in range(size) if expert % 4 != 3]
    profile_of(model.config, kept, model.fingerprint).save(tmp_path / "math.json")
    return tmp_path / "math.json"


def test_a_pinned_profile_says_that_answers_are_as_without(araio_command, tiny, profile_file):
    arguments = ("run", "-m", tiny, "-p", "hi", "--seed", "0", "--max-tokens", "8", "--json")
    pinned, plain = araio_command(*arguments, "--profile", profile_file), araio_command(*arguments)
    assert "profile math: every expert is in memory, so there is nothing to pin" in pinned.stderr
    assert json.loads(pinned.stdout)["content"] == json.loads(plain.stdout)["content"]
    assert json.loads(pinned.stdout)["usage"]["araio"]["mask"] is None


def test_a_mask_says_that_answers_change(araio_command, tiny, profile_file):
    arguments = ("run", "-m", tiny, "-p", "hi", "--max-tokens", "8", "--profile", profile_file)
    done = araio_command(*arguments, "--profile-mode", "mask", "--receipt")
    assert done.returncode == 0
    assert re.search(
        r"^mask math: \d+ of \d+ experts \(75%\) answer, and no others", done.stderr, re.MULTILINE
    )
    assert "not known, `araio profile eval` measures it" in done.stderr
    assert "by mask math; without it the answer may be another" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "none.json"], "none.json: cannot be read"),
        (["--profile-mode", "mask"], "'mask' without a profile"),
        (["--profile-mode", "export"], "profile_mode is 'export'; expected pin or mask"),
    ],
)
def test_a_profile_that_cannot_be_used_is_told_in_one_line(araio_command, tiny, arguments, message):
    done = araio_command("run", "-m", tiny, "-p", "hi", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
