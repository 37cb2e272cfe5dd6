"""Draws the experts that one token lights: docs/assets/route.svg, from a real forward pass.

    .venv/bin/python scripts/draw_route.py                       the bundled model, the README's picture
    .venv/bin/python scripts/draw_route.py --model FOLDER --text "All wugs are daxes." --token daxes

Rows are the layers with a mixture of experts, columns their routed experts; the brighter, the more weight the
router gave. The shared expert works on every token. The picture follows the reader's light or dark theme.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import araio
from araio.costs.parameters import count_parameters
from araio.text.deepseek import ASSISTANT, USER

OUT = Path(__file__).parents[1] / "docs" / "assets" / "route.svg"

LEFT, TOP, GRID_WIDTH, ROW_HEIGHT, BELOW = 88, 64, 704, 22, 36
GAP = 4
FAINTEST = 0.35  # opacity of an expert with next to no weight: still lit

STYLE = """
text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #57606a }
.words { font: 16px ui-monospace, monospace }
.token { fill: #e8590c; font-weight: bold }
.off { fill: #d0d7de }
.on { fill: #e8590c }
.shared { fill: #1c7ed6 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .off { fill: #30363d }
  .token, .on { fill: #ff922b }
  .shared { fill: #4dabf7 }
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="pocket", help="a bundled model or a folder")
    parser.add_argument("--text", default="What is 47 + 38 - 12?", help="what the model reads")
    parser.add_argument("--token", default="+", help="which of its tokens to look at, the first that fits")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    picture = draw(araio.load(arguments.model), arguments.text, arguments.token)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(picture, encoding="utf-8")
    print(arguments.out)


def draw(model: araio.Model, text: str, token: str) -> str:
    """The picture of `token` in `text`, as the model meets it in a user's question."""
    ids = model.chat_format.render([{"role": "user", "content": text}]).ids
    pieces = [model.tokenizer.decode([token_id]) for token_id in ids]
    first, last = pieces.index(USER) + 1, pieces.index(ASSISTANT)
    asked = pieces[first:last]
    if token not in map(str.strip, asked):
        raise SystemExit(f"{text!r} has no token {token!r}; its tokens are {asked}")
    place = [piece.strip() for piece in asked].index(token)
    experts, weights = (routed[first + place].tolist() for routed in model.route(ids))
    config = model.config
    layers = len(config.moe_layers)
    height = TOP + layers * ROW_HEIGHT + BELOW
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height}" role="img">',
        f"<style>{STYLE}</style>",
        words(asked, place),
        f'<text x="{LEFT}" y="{TOP - 10}">routed experts</text>',
        f'<text x="{LEFT + GRID_WIDTH + 16}" y="{TOP - 10}">shared</text>',
    ]
    for row, layer in enumerate(config.moe_layers):
        lit = dict(zip(experts[row], weights[row], strict=True))
        lines += grid_row(row, f"layer {layer}", lit, config.n_routed_experts, config.n_shared_experts > 0)
    lines += [f'<text x="{LEFT}" y="{height - 10}">{caption(config)}</text>', "</svg>"]
    return "\n".join(lines) + "\n"


def words(pieces: Sequence[str], lit: int) -> str:
    """The tokens in one line, the lit one marked."""
    spans = [escape(piece) for piece in pieces]
    spans[lit] = f'<tspan class="token">{spans[lit]}</tspan>'
    return f'<text class="words" x="{LEFT}" y="24" xml:space="preserve">{"".join(spans)}</text>'


def grid_row(row: int, label: str, lit: dict[int, float], experts: int, has_shared: bool) -> list[str]:
    """One layer: a cell for each routed expert, bright by its weight, and one for the shared expert."""
    pitch = GRID_WIDTH / experts
    y, height = TOP + row * ROW_HEIGHT, ROW_HEIGHT - GAP
    brightest = max(lit.values())
    cells = [f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{label}</text>']
    for expert in range(experts):
        box = f'x="{LEFT + expert * pitch:.1f}" y="{y}" width="{pitch - GAP:.1f}" height="{height}" rx="3"'
        if expert in lit:
            opacity = FAINTEST + (1 - FAINTEST) * lit[expert] / brightest
            title = f"<title>expert {expert}, weight {lit[expert]:.2f}</title>"
            cells.append(f'<rect class="on" {box} opacity="{opacity:.2f}">{title}</rect>')
        else:
            cells.append(f'<rect class="off" {box}/>')
    if has_shared:
        x = LEFT + GRID_WIDTH + 16
        cells.append(f'<rect class="shared" x="{x}" y="{y}" width="40" height="{height}" rx="3"/>')
    return cells


def caption(config: araio.ModelConfig) -> str:
    size = count_parameters(config).model
    return (
        f"{config.num_experts_per_tok} of {config.n_routed_experts} routed experts in each of "
        f"{len(config.moe_layers)} layers: {size.active / 1e6:.1f} of {size.total / 1e6:.1f} million "
        "parameters work on this token"
    )


if __name__ == "__main__":
    main()
