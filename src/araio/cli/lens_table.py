"""What `araio lens` prints: findings by domain, numbers by layer, what to be careful with, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from araio.cli.printable import printable
from araio.eval.ablation import NOTHING, RANDOM, Ablation
from araio.eval.wilson import wilson_interval
from araio.lens.compare import Comparison
from araio.lens.domains import ServingExpert
from araio.lens.report.headline import headline
from araio.lens.summary import Summary

__all__ = ["ablation_table", "comparison_table", "findings"]

MOST_LAYERS = 12
LEGEND = (
    "experts at work: so many of equal load; overload: the busiest over the mean, less 1; bits: what the "
    "expert tells of the domain, p by shuffled sequences; used again: by the next token, and what the same "
    "loads would give; LRU, best: hits of a cache of so many experts a layer"
)
NAMED = 3


def findings(found: Summary) -> RenderableType:
    """Which experts serve which domain and how sure that is, then every layer, then what limits it."""
    header = found.header
    title = Text(printable(f"{header.model}: {headline(found)}"), style="bold")
    tokens = sum(domain.tokens for domain in found.domains)
    sequences = sum(domain.sequences for domain in found.domains)
    size = (
        f"{tokens:,} tokens in {sequences:,} sequences; {len(found.layers)} layers of "
        f"{header.n_routed_experts} experts, {header.top_k} for each token"
    )
    parts: list[RenderableType] = [title, size, "", _domains(found), _sureness(found), "", _layers(found)]
    parts += [Text(LEGEND, style="dim")]
    parts += _cautions(found)
    return Group(*parts)


def _domains(found: Summary) -> Table:
    """As wide as 80 columns; a domain's most distinct experts each on a line."""
    table = _table("domain", "tokens", "texts", "serve it", "layer, expert", "chosen for", "elsewhere")
    experts = len(found.layers) * found.header.n_routed_experts
    for index, domain in enumerate(found.domains):
        mine = [one for one in found.serving if one.domain == index][:NAMED]
        served = int(np.count_nonzero(found.domain_use.serves == index))
        cells = [_expert(found, one) for one in mine] or [("none", "", "")]
        table.add_row(
            Text(printable(domain.name)),
            f"{domain.tokens:,}",
            f"{domain.sequences:,}",
            f"{served} of {experts}",
            *("\n".join(lines) for lines in zip(*cells, strict=True)),
        )
    return table


def _expert(found: Summary, one: ServingExpert) -> tuple[str, str, str]:
    """Which it is, of what share of its domain's tokens it is chosen for, and of the most in another."""
    rate = found.header.top_k / found.header.n_routed_experts
    shares = found.domain_use.relative[:, found.layers.index(one.layer), one.expert] * rate
    others = np.nanmax(np.delete(shares, one.domain))  # NaN is a domain without tokens
    chosen = f"{one.relative * rate:.0%} ({100 * one.low * rate:.0f} to {one.high * rate:.0%})"
    return f"{one.layer}, {one.expert}", chosen, f"{others:.0%}"


def _sureness(found: Summary) -> Text:
    use, told = found.domain_use, found.information
    named = int(np.count_nonzero(use.serves >= 0))
    if not told.most:
        return Text("specialisation compares domains; give a trace of another one too")
    sure = int(np.count_nonzero(told.p <= 0.05))
    return Text(
        f"an expert tells {told.bits.mean():.3f} bit of the domain, of {told.most:.3f}; shuffled sequences "
        f"{told.null_mean.mean():.3f}, 95 % of them below {told.null_high.mean():.3f}\n"
        f"more than shuffled in {sure} of {len(found.layers)} layers (p <= 0.05); of the {named} that serve "
        f"a domain {use.rate:.0%} may do so by chance; in brackets 95 % intervals over sequences",
        style="dim",
    )


def _layers(found: Summary) -> Table:
    half = int(np.argmin(np.abs(found.caching.capacities - found.header.n_routed_experts / 2)))
    capacity = int(found.caching.capacities[half])
    table = _table(
        "layer",
        "experts at work",
        "overload",
        "bits of domain",
        "p",
        "used again",
        "if no memory",
        f"LRU of {capacity}",
        "best",
    )
    columns = (
        (found.load.effective_experts, "{:.1f}"),
        (found.load.imbalance, "{:.2f}"),
        (found.information.bits, "{:.3f}"),
        (found.information.p, "{:.3f}"),
        (found.reuse.overlap[:, 0], "{:.0%}"),
        (found.reuse.overlap_same, "{:.0%}"),
        (found.caching.hits["lru"][:, half], "{:.0%}"),
        (found.caching.hits["optimal"][:, half], "{:.0%}"),
    )
    for row in _shown(len(found.layers)):
        table.add_row(str(found.layers[row]), *(_cell(values[row], form) for values, form in columns))
    table.add_section()
    table.add_row("mean", *(_cell(float(np.mean(values)), form) for values, form in columns))
    return table


def _shown(layers: int) -> list[int]:
    """All layers, or some of a deep model, the first and the last among them; --json has all."""
    if layers <= MOST_LAYERS:
        return list(range(layers))
    return sorted({round(place) for place in np.linspace(0, layers - 1, MOST_LAYERS).tolist()})


def _cautions(found: Summary) -> Iterator[Text]:
    for caution in found.cautions:
        yield Text(printable(f"careful: {caution.text}"), style="yellow")


def comparison_table(name: str, found: Comparison, layers: Sequence[int]) -> RenderableType:
    """How much the experts of the same tokens agree."""
    alike = f"{found.tokens:,} tokens of both, {found.whole_path:.0%} alike in all layers"
    table = _table("layer", "of both", "Jaccard", "first the same", "all the same")
    columns = (found.overlap, found.jaccard, found.first, found.identical)
    for row in _shown(len(layers)):
        table.add_row(str(layers[row]), *(f"{values[row]:.1%}" for values in columns))
    table.add_section()
    table.add_row("mean", *(f"{values.mean():.1%}" for values in columns))
    return Group(Text(printable(f"beside {name}: {alike}")), table)


def ablation_table(found: Ablation) -> RenderableType:
    """Accuracy by domain when experts are away."""
    title = (
        f"accuracy without {found.per_layer} experts of each layer, {found.n} questions of each task, "
        "95 % intervals"
    )
    table = _table("removed", *(f"asked: {domain}" for domain in found.domains))
    words = {NOTHING: "nothing", RANDOM: f"as many at random, {found.draws} draws"}
    for removed in dict.fromkeys(row.removed for row in found.rows):
        rows = {row.asked: row for row in found.rows if row.removed == removed}
        cells = []
        for domain in found.domains:
            row = rows[domain]
            low, high = wilson_interval(row.correct, row.n)
            cells.append(f"{row.correct / row.n:.0%} ({100 * low:.0f} to {high:.0%})")
        table.add_row(Text(printable(words.get(removed, f"those of {removed}"))), *cells)
    return Group(Text(title), table)


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _cell(value: float, form: str) -> str:
    return "" if np.isnan(value) else form.format(value)
