import re

from araio.cli.budget_text import budget_text
from araio.weights.budget import Budget

MIB = 1 << 20
ROOMY = Budget(
    ram=20_000 * MIB,
    process=130 * MIB,
    dense=4 * MIB,
    cache=140 * MIB,
    activations=7 * MIB,
    staging=0,
    experts=20 * MIB,
    slots=None,
    cache_tokens=131_072,
    chunk=512,
    smallest=140 * MIB,
    whole=163 * MIB,
)


def test_the_parts_come_to_what_is_said_to_be_used():
    text = budget_text(ROOMY, None)
    total, *parts = map(int, re.findall(r"(\d+) MiB", text))
    assert total == sum(parts) == ROOMY.used // MIB
    assert "of 19.5 GiB" in text
