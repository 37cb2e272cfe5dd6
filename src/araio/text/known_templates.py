"""The chat templates DeepSeek publishes, and the dialect that stands in for each.

A template is recognised by its whole text, never by a guess from the model's name or its tokens: a fine-tune
that changed one character gets what it asked for, in the sandbox of `template.py`. The texts under
`templates/` are configuration that DeepSeek publishes with its models, kept verbatim for that comparison;
they are also the tests' yardstick for `deepseek.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files

from araio.text.deepseek import Dialect, TaggedDialect, TurnDialect

__all__ = ["DIALECTS", "R1_CHAT_TEMPLATE", "find_dialect", "template_text"]

# By the name of the file under templates/.
DIALECTS: dict[str, Dialect] = {
    "deepseek_v2": TurnDialect(),
    "deepseek_v2_5": TaggedDialect(joins_systems=False, indents_systems=True),
    "deepseek_v3": TaggedDialect(),
    "deepseek_r1": TaggedDialect(prefills_think=True, drops_reasoning=True, revises_tools=True),
    "deepseek_r1_distill": TaggedDialect(prefills_think=True, drops_reasoning=True, joins_systems=False),
}


def template_text(name: str) -> str:
    """Text of the template `name` of `DIALECTS`, as `tokenizer_config.json` holds it."""
    file = files("araio.text").joinpath("templates", f"{name}.jinja")
    return file.read_text(encoding="utf-8").removesuffix("\n")


R1_CHAT_TEMPLATE = template_text("deepseek_r1")
"""DeepSeek-R1's template; the bundled model speaks it as well."""


def find_dialect(template: str) -> Dialect | None:
    """The dialect whose published template is `template`, or None."""
    return _dialects_by_text().get(_normalised(template))


@cache
def _dialects_by_text() -> dict[str, Dialect]:
    known: dict[str, Dialect] = {}
    for name, dialect in DIALECTS.items():
        text = _normalised(template_text(name))
        known[text] = dialect
        if isinstance(dialect, TaggedDialect) and dialect.prefills_think:
            # R1 and its distillations were first published without the opening tag in the prompt.
            known[text.replace("<think>\n", "")] = replace(dialect, prefills_think=False)
    return known


def _normalised(template: str) -> str:
    r"""The text with its line breaks written one way; published copies differ in it and render alike.

    All `\n` of the known templates stand inside string literals, where Jinja reads an escape and a line
    break as the same character. It drops one line break at the end.
    """
    return template.replace("\\n", "\n").removesuffix("\n")
