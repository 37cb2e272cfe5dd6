"""`report_document`: everything that a report shows, as one JSON document.

    {"format": "araio-lens-report", "version": 1, "title": "pocket", "headline": "...",
     "summary": {...}, "serving": {...}, "comparison": null, "ablation": null, "timeline": null,
     "strip": {...}}

`summary` is `Summary.to_json()` as `araio lens --json` prints it; the rest is what is too large for that, or
was measured elsewhere. Read `write.py` for how it becomes a page, `page/model.js` for how it is read there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from araio.lens.compare import Comparison
from araio.lens.domains import DomainUse
from araio.lens.report.headline import headline
from araio.lens.report.packing import pack
from araio.lens.report.strip import TextOf, strip_of
from araio.lens.report.timeline import timeline_of
from araio.lens.report.write import MOST_BYTES
from araio.lens.result import to_json
from araio.lens.summary import Summary
from araio.traces.trace import Trace

__all__ = ["report_document"]

FORMAT, VERSION = "araio-lens-report", 1
PAGE_BYTES = 160 << 10
"""Room for the page itself."""


def report_document(
    trace: Trace,
    summary: Summary,
    *,
    text_of: TextOf | None = None,
    comparison: tuple[str, Comparison] | None = None,
    ablation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The document of a trace's report.

    summary     of this trace
    text_of     gives the text of a token; without it tokens are shown by number
    comparison  the name of another trace of the same tokens, and how much it agrees
    ablation    `eval.ablation.Ablation.to_json()`
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "title": trace.header.model,
        "headline": headline(summary),
        "summary": summary.to_json(),
        "serving": _serving(summary.domain_use),
        "comparison": None if comparison is None else {"name": comparison[0], **comparison[1].to_json()},
        "ablation": None if ablation is None else dict(ablation),
        "timeline": timeline_of(trace),
    }
    taken = len(json.dumps(pack(document)).encode()) + PAGE_BYTES
    return {**document, "strip": strip_of(trace, MOST_BYTES - taken, text_of)}


def _serving(use: DomainUse) -> dict[str, Any]:
    """Every expert that serves a domain, by columns: its layer's place, itself, and how sure its load is.

    low, high, difference, npmi, adjusted_p  as in `DomainUse`
    """
    layer, expert = np.nonzero(use.serves >= 0)
    domain = use.serves[layer, expert]
    columns = {"layer": layer, "expert": expert, "domain": domain}
    for name in ("low", "high", "difference", "npmi", "adjusted_p"):
        columns[name] = getattr(use, name)[domain, layer, expert]
    return {name: to_json(values) for name, values in columns.items()}
