"""Statistics of traces, and what chance makes of them: who serves what, how soon, and how sure that is.

`summarise` computes everything that a report shows; single metrics are functions of `Routes`.
"""

from araio.lens.compare import Comparison, compare
from araio.lens.domains import domains_of_experts
from araio.lens.routes import Routes
from araio.lens.summary import Summary, summarise

__all__ = ["Comparison", "Routes", "Summary", "compare", "domains_of_experts", "summarise"]
