"""`write_report`: the page's own files and one JSON document, put together as a single HTML file.

The page is written in ES modules, style sheets and HTML in `page/`. They are put into one file here: imports
and exports are dropped, since all modules share one scope then, and a policy allows this script and this
style and no request to anywhere. Nothing from a trace becomes markup: the document is JSON with `<` escaped,
and the page makes text of it. Read `page/main.js` next for what is on it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from araio.atomic import write_text
from araio.errors import FormatError
from araio.lens.report.packing import pack, unpack

__all__ = ["MOST_BYTES", "read_report", "report_html", "write_report"]

MOST_BYTES = 3_000_000
"""What a report may come to, 58 layers of 256 experts and 2,000 tokens included."""

STYLES = ("style.css", "charts.css")
# In the order in which they need each other.
MODULES = (
    "dom.js",
    "numbers.js",
    "arrays.js",
    "measures.js",
    "model.js",
    "controls.js",
    "table.js",
    "heatmap.js",
    "lines.js",
    "bars.js",
    "verdict.js",
    "provenance.js",
    "load.js",
    "maps.js",
    "specialisation.js",
    "coactivation.js",
    "locality.js",
    "strip.js",
    "coverage.js",
    "comparison.js",
    "ablation.js",
    "timeline.js",
    "main.js",
)

IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const)\b)", re.MULTILINE)
DOCUMENT = re.compile(r'<script type="application/json" id="document">(.*?)</script>', re.DOTALL)


def write_report(path: Path, document: dict[str, Any]) -> None:
    """Write the report of `document` (see `document.py`) to a file, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, report_html(document))


def report_html(document: dict[str, Any]) -> str:
    """The report of a document as one HTML page."""
    script = "\n".join(_module(name) for name in MODULES)
    style = "\n".join(_file(name) for name in STYLES)
    policy = f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    data = json.dumps(pack(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "policy": policy,
        "title": html.escape(document["title"]),
        "style": style,
        "script": script,
        # The only ways in which a script element could end, or a comment begin within it.
        "document": data.replace("<", "\\u003c"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("index.html"))


def read_report(path: Path) -> dict[str, Any]:
    """The document of a report that was written before.

    Raises:
        FormatError: the file is not a report.
    """
    found = DOCUMENT.search(path.read_text(encoding="utf-8", errors="replace"))
    if found is None:
        raise FormatError(f"{path} holds no report; expected a file that `araio lens --report` wrote")
    document: dict[str, Any] = unpack(json.loads(found[1]))
    return document


def _file(name: str) -> str:
    return (resources.files("araio.lens.report") / "page" / name).read_text(encoding="utf-8")


def _module(name: str) -> str:
    return EXPORT.sub("", IMPORT.sub("", _file(name)))


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
