"""A budget seen from outside: what the system says that a process and its files take while it runs.

Each program loads a model of random weights whose experts are most of it, reads a prompt and decodes, while
somebody else looks at it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

process_watch = pytest.importorskip("process_watch")

from araio.config import ModelConfig  # noqa: E402
from araio.formats.layout import expected_tensors  # noqa: E402
from araio.formats.store_layout import StoreCodecs  # noqa: E402
from araio.formats.write import write_checkpoint  # noqa: E402
from araio.testing.checkpoints import tiny_config  # noqa: E402
from araio.testing.random_weights import RandomWeights  # noqa: E402
from araio.testing.tokenizers import write_tiny_tokenizer  # noqa: E402
from araio.weights.convert import convert  # noqa: E402

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is asked of /proc"),
]

MIB = 1 << 20
OVER = 1.05

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import araio
from araio.errors import BudgetError
folder, ram, io = sys.argv[1:]
try:
    model = araio.load(folder, ram=int(ram), io=io, threads=1)
except BudgetError as error:
    print(json.dumps({"refused": str(error)}), flush=True)
    sys.exit()
budget = model.budget
facts = {name: getattr(budget, name) for name in ("slots", "smallest", "whole", "process", "used")}
print(json.dumps(facts), flush=True)
if int(ram) < 2**40:
    words = "a b c d e f g h " * 40
    model.complete(words, max_tokens=12, temperature=1.0, seed=0)
    for seed in range(3):
        model.complete("abc", max_tokens=12, temperature=1.0, seed=seed)
    print("done", flush=True)
    sys.stdin.readline()
"""


@dataclass(frozen=True)
class Seen:
    """Facts that a program told of its budget, and the most that it and its files took: bytes."""

    facts: dict[str, int]
    own: int
    cached: int


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of 170 MB in bfloat16, 95 % of it experts, and the store of it in q8."""
    home = tmp_path_factory.mktemp("held")
    config: ModelConfig = tiny_config(
        "v3",
        hidden_size=256,
        intermediate_size=512,
        moe_intermediate_size=512,
        num_hidden_layers=5,
        n_routed_experts=48,
        num_experts_per_tok=4,
        n_group=1,
        topk_group=1,
        num_nextn_predict_layers=0,
        max_position_embeddings=2048,
    )
    folder = home / "published"
    folder.mkdir()
    config.save(folder / "config.json")
    write_tiny_tokenizer(folder)
    source = RandomWeights(config, StoreCodecs("bf16", "bf16", "bf16"))
    write_checkpoint(folder, ((name, source.read_weight(name)) for name in expected_tensors(config)))
    convert(folder, home / "store", StoreCodecs("bf16", "q8", "bf16"))
    return {"published": folder, "store": home / "store"}


def watched(folder: Path, ram: int, io: str, home: Path) -> Seen:
    """Run the program; `home` gets what it says and what it keeps."""
    files = list(folder.glob("*.safetensors"))
    process_watch.drop_from_cache(files)
    said = home / "said"
    with (
        said.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(ram), io],
            stdin=subprocess.PIPE,
            stdout=out,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(home)},
        ) as program,
    ):
        own = cached = 0
        while not said.read_text().endswith("done\n") and program.poll() is None:
            cached = max(cached, sum(map(process_watch.cached_bytes, files)))
            with suppress(StopIteration, FileNotFoundError, ProcessLookupError):  # it may be about to end
                own = max(own, process_watch.memory_of(program.pid, []).peak)
            time.sleep(0.01)
        program.communicate("\n", timeout=60)
    assert program.returncode == 0
    lines = said.read_text().splitlines()
    assert lines[-1] == "done", lines
    return Seen(json.loads(lines[0]), own, cached)


def facts_of(folder: Path) -> dict[str, int]:
    """What a budget that is large enough says of the model."""
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(1 << 32), "auto"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    facts: dict[str, int] = json.loads(out.splitlines()[0])
    return facts


@pytest.mark.parametrize("name", ["store", "published"])
@pytest.mark.parametrize(("share", "io"), [(0.0, "auto"), (0.5, "auto"), (0.5, "buffered"), (0.95, "auto")])
def test_a_process_stays_within_its_budget(
    folders: dict[str, Path], tmp_path: Path, name: str, share: float, io: str
) -> None:
    facts = facts_of(folders[name])
    # A little more than the smallest: from one run to the next the interpreter differs by some pages.
    ram = round(facts["smallest"] + share * (facts["whole"] - facts["smallest"])) + 4 * MIB
    seen = watched(folders[name], ram, io, tmp_path)
    assert seen.facts["slots"] is not None
    assert seen.facts["used"] <= ram
    assert seen.own <= OVER * ram
    if io != "buffered":  # what passes through the page cache is given back, and some of it stays a while
        assert seen.own + seen.cached <= OVER * ram
