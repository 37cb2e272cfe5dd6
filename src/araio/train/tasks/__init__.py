"""Task families: problems with worked reasoning, exact answers and strict verifiers, made without end.

`TASKS` maps a family's name to its `Task`. One file a family; `prose.py` stands beside them, since prose
has no question. Pure Python: nothing here loads PyTorch or NumPy. Read `base.py` next.
"""

from __future__ import annotations

from araio.train.tasks.base import Domain, Example, Split, Task
from araio.train.tasks.chain import Chain
from araio.train.tasks.countdown import Countdown
from araio.train.tasks.equation import Equation
from araio.train.tasks.family import Family
from araio.train.tasks.implication import Implication
from araio.train.tasks.knights import Knights
from araio.train.tasks.letters import Letters
from araio.train.tasks.order import Order
from araio.train.tasks.recall import Recall
from araio.train.tasks.story import Story

__all__ = ["TASKS", "Domain", "Example", "Split", "Task"]

FAMILIES: tuple[Task, ...] = (
    Chain(),
    Countdown(),
    Equation(),
    Story(),
    Knights(),
    Implication(),
    Order(),
    Family(),
    Letters(),
    Recall(),
)

TASKS: dict[str, Task] = {task.name: task for task in FAMILIES}
