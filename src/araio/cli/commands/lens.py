"""`araio lens`: what the experts of traces do, as a table, JSON, a picture, or a report for a browser."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from rich.console import Console

from araio.cli.ctrl_c import ctrl_c
from araio.cli.lens_table import ablation_table, comparison_table, findings
from araio.cli.numbers import bytes_text
from araio.cli.out_file import check_out
from araio.cli.picture import check_picture, picture
from araio.cli.progress import note, progress_bar
from araio.cli.token_text import text_of_tokens
from araio.errors import RequestError
from araio.eval.ablation import Ablation, ablate, answers_needed, check_ablation
from araio.lens.compare import Comparison, compare
from araio.lens.routes import Routes
from araio.lens.summary import PARTS, Summary, summarise
from araio.traces.columns import Phase
from araio.traces.trace import Trace
from araio.weights.locate import locate

if TYPE_CHECKING:
    from araio.api import Model

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio lens math.moetrace",
    "araio lens math.moetrace logic.moetrace language.moetrace --report experts.html",
    "araio lens full.moetrace --compare q4.moetrace --json",
    "araio lens all.moetrace --plot experts.png",
    "araio lens all.moetrace --tokens decoded   # what was written, without what was read",
    "araio lens all.moetrace --ablate pocket --remove 0.25 --report experts.html",
)

PICTURE_IN = (12, 8)

TokensOf: TypeAlias = Literal["all", "decoded", "prefill"]
PHASES: dict[TokensOf, Sequence[Phase] | None] = {
    "all": None,
    "decoded": (Phase.DECODE,),
    "prefill": (Phase.PREFILL, Phase.FORCED),
}


def command(
    traces: Annotated[
        list[Path], typer.Argument(metavar="TRACE...", help="Traces of one model, pooled if several.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page for a browser: one file, no network needed."),
    ] = None,
    compare_with: Annotated[
        Path | None,
        typer.Option("--compare", metavar="TRACE", help="The same tokens in another model or precision."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the main figures into a PNG, PDF or SVG.")
    ] = None,
    ablate_model: Annotated[
        str | None,
        typer.Option(
            "--ablate",
            metavar="MODEL",
            help="Ask the traced model questions without each domain's experts, and without random ones.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="With --ablate: questions of each task.")] = 20,
    remove: Annotated[
        float, typer.Option(metavar="SHARE", help="With --ablate: of each layer's experts, taken away.")
    ] = 0.25,
    draws: Annotated[int, typer.Option(help="With --ablate: how often random experts are drawn.")] = 3,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Whose tokenizer gives tokens their text; found by name if not given."
        ),
    ] = None,
    which: Annotated[
        TokensOf,
        typer.Option(
            "--tokens", help="all; decoded: those that the model wrote; prefill: those that it read."
        ),
    ] = "all",
    seed: Annotated[
        int, typer.Option(help="Of all shuffles and draws; the same one gives the same numbers.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Say which experts serve which domain and how sure that is; load, reuse, caches, what goes together.

    Every number stands beside what chance alone gives. Record traces with `araio trace`.
    """
    check_out(report, "--report")
    check_picture(plot)
    if ablate_model is not None:
        locate(ablate_model)
        if not 0 < remove < 1:
            raise RequestError(f"--remove is {remove}; expected a share above 0 and below 1, as in 0.25")
    trace = _opened(traces)
    asked = None if ablate_model is None else _loaded(ablate_model, trace, n, remove, draws)
    other = None if compare_with is None else Trace.open(compare_with)
    text_of = None if report is None else text_of_tokens(trace.header, tokenizer)
    comparison = None if other is None else compare(Routes.of(trace), Routes.of(other))
    summary = _summarised(trace, seed, PHASES[which])
    ablation = None if asked is None else _ablated(asked, trace, n, remove, draws, seed)
    named = None if comparison is None or compare_with is None else (compare_with.name, comparison)
    if report is not None:
        from araio.lens.report import report_document

        measured = None if ablation is None else ablation.to_json()
        _write(report, report_document(trace, summary, text_of=text_of, comparison=named, ablation=measured))
    if plot is not None:
        _draw(summary, plot)
    if as_json:
        sys.stdout.write(json.dumps(_document(summary, named, ablation), ensure_ascii=False) + "\n")
        return
    console = Console()
    console.print(findings(summary))
    if named is not None:
        console.print("", comparison_table(*named, summary.layers))
    if ablation is not None:
        console.print("", ablation_table(ablation))


def _opened(paths: list[Path]) -> Trace:
    """All traces as one."""
    if len(paths) > 1 and len({path.resolve() for path in paths}) < len(paths):
        raise RequestError("one trace is given twice; its tokens would count twice")
    return Trace.join([Trace.open(path) for path in paths])


def _summarised(trace: Trace, seed: int, phases: Sequence[Phase] | None) -> Summary:
    with progress_bar() as progress:
        bar = progress.add_task("looking at load", total=len(PARTS))

        def on_part(part: str) -> None:
            ctrl_c.check()
            done = PARTS.index(part)
            progress.update(bar, completed=done, description=f"looking at {part}")

        return summarise(trace, seed, phases=phases, on_part=on_part)


def _loaded(name: str, trace: Trace, n: int, share: float, draws: int) -> Model:
    """The model to ask, once it is known that it can be asked; a mistake must not cost a summary first."""
    from araio.api import load

    model = load(name)
    check_ablation(model, trace, n=n, share=share, draws=draws)
    return model


def _ablated(model: Model, trace: Trace, n: int, share: float, draws: int, seed: int) -> Ablation:
    with progress_bar() as progress:
        bar = progress.add_task("answering", total=answers_needed(trace.domains, n, draws))

        def on_answer() -> None:
            ctrl_c.check()
            progress.advance(bar)

        return ablate(model, trace, n=n, share=share, draws=draws, seed=seed, on_answer=on_answer)


def _write(path: Path, document: dict[str, Any]) -> None:
    from araio.lens.report import write_report

    try:
        write_report(path, document)
    except OSError as error:
        raise RequestError(f"--report {path}: cannot be written ({error.strerror})") from None
    note(Console(stderr=True), f"wrote {path}, {bytes_text(path.stat().st_size)}; open it in a browser")


def _draw(summary: Summary, path: Path) -> None:
    from araio.lens.plots import main_figures

    with picture(path, *PICTURE_IN) as figure:
        axes = figure.subplots(2, 2)
        for place, draw in zip(axes.flat, main_figures(summary), strict=True):
            draw(summary, place)


def _document(
    summary: Summary, comparison: tuple[str, Comparison] | None, ablation: Ablation | None
) -> dict[str, Any]:
    """The summary's document, and what else was asked for."""
    document = summary.to_json()
    if comparison is not None:
        document["comparison"] = {"name": comparison[0], **comparison[1].to_json()}
    if ablation is not None:
        document["ablation"] = ablation.to_json()
    return document
