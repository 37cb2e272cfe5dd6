"""`araio plan`: where a model would lie, how fast it would be, what a token would take."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from araio import env
from araio.cli.commands.show import ConfigName, stored_codecs
from araio.cli.plan_table import Comparison, compare, plan_document, plan_screen
from araio.codecs import CODECS
from araio.config import ModelConfig
from araio.costs.hardware import find_hardware
from araio.costs.plan import Site, site_here, site_of
from araio.costs.storage import Storage
from araio.costs.tariff import choose_tariff
from araio.costs.tiers import Load
from araio.errors import CostError, RequestError
from araio.quantities import parse_bytes, parse_bytes_per_s, parse_tokens
from araio.weights.locate import locate_config

__all__ = ["EXAMPLES", "command"]

EXAMPLES = (
    "araio plan deepseek-r1 --hardware m3-ultra --hardware 8xb200",
    "araio plan deepseek-r1 --hardware epyc-9755 --ram 64GiB --disk 7GB/s --hit-rate 0.7",
    "araio plan deepseek-v2-lite --hardware here --quant q4 --threads 2 --context 32k",
    "araio plan deepseek-r1 --hardware 8xh200 --batch 64 --country DEU --rent 16 --price deepseek-r1",
    "araio plan deepseek-r1 --hardware m4-max --disk 7GB/s --quant q4 --plot plan.png",
)

# The options, each with its help, as typer reads them.
Names = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Of the table, several as in 8xb200, or `here`, the default: this machine, measured once. "
        "Give it again to compare.",
        show_default=False,
    ),
]
Ram = Annotated[str | None, typer.Option(metavar="SIZE", help="Memory for the model, as in 64GiB or 48GB.")]
Disk = Annotated[
    str | None,
    typer.Option(
        metavar="SPEED", help="Of the disk that experts come from, as in 7GB/s, or a folder to measure."
    ),
]
Context = Annotated[str, typer.Option(metavar="TOKENS", help="That a token attends to; 32k are 32,768.")]
Batch = Annotated[int, typer.Option(metavar="SEQUENCES", help="Decoded together.")]
Prompt = Annotated[
    str | None,
    typer.Option(metavar="TOKENS", help="Of one prompt; as many as the context if not given."),
]
HitRate = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Of experts found in memory; the share that fits if not given."),
]
Quant = Annotated[
    str | None,
    typer.Option(metavar="CODEC", help=f"Store weights in {', '.join(CODECS)}; as they are if not given."),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Of this machine; every processor if not given.")
]
Country = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the power grid, DEU or Germany, or grams per kWh.")
]
PerKwh = Annotated[float, typer.Option(metavar="USD", help="Price of electricity.")]
Rent = Annotated[
    float | None, typer.Option(metavar="USD", help="Of the whole machine per hour.", show_default=False)
]
PriceList = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="To compare with: a list's name, or INPUT,OUTPUT per million tokens."),
]
MeasureAgain = Annotated[
    bool, typer.Option("--measure-again", help="Forget what was measured of this machine.")
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw cost over batch, context and experts: PNG, PDF or SVG."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def command(
    model: ConfigName = None,
    hardware: Names = None,
    ram: Ram = None,
    disk: Disk = None,
    context: Context = "4096",
    batch: Batch = 1,
    prompt: Prompt = None,
    hit_rate: HitRate = None,
    quant: Quant = None,
    threads: Threads = None,
    country: Country = None,
    per_kwh: PerKwh = 0.30,
    rent: Rent = None,
    price: PriceList = None,
    measure_again: MeasureAgain = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Predict memory, speed, energy and cost of a model on hardware, beside dense twins of its sizes.

    Needs a config alone. What is measured, stated or modelled is said below the table.
    """
    name = model or env.get("ARAIO_MODEL")
    config = locate_config(name)
    storage = _storage(name, config, quant)
    tokens = parse_tokens("--context", context)
    load = Load(batch, tokens, tokens if prompt is None else parse_tokens("--prompt", prompt))
    _check_context(config, load)
    tariff = choose_tariff(name, country, price)
    machines = _Machines(None if ram is None else parse_bytes("--ram", ram), disk, threads, measure_again)
    sites = [machines.site(wanted) for wanted in dict.fromkeys(hardware or ["here"])]
    found, refused = _compared(config, sites, load, storage, hit_rate)
    if plot is not None:
        from araio.cli.plan_plot import draw_plan

        draw_plan(config, found, storage, plot)
    if as_json:
        document = plan_document(name, found, storage, tariff, per_kwh, rent) | {"left_out": refused}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    for reason in refused:
        sys.stderr.write(f"left out: {reason}\n")
    screen = plan_screen(name, config, found, storage, tariff, per_kwh, rent, hit_rate)
    Console(highlight=False).print(screen)


def _compared(
    config: ModelConfig, sites: list[Site], load: Load, storage: Storage, hit_rate: float | None
) -> tuple[list[Comparison], list[str]]:
    """Predictions for the machines that the model can run on, and why others cannot; one must."""
    found, refused = [], []
    for site in sites:
        try:
            found.append(compare(config, site, load, storage, hit_rate))
        except CostError as error:
            refused.append(str(error))
    if not found:
        raise CostError("; ".join(refused))
    return found, refused


def _storage(name: str, config: ModelConfig, quant: str | None) -> Storage:
    """As asked for, as a store says, or as the config publishes its weights."""
    if quant is None:
        stored = stored_codecs(name)
        return Storage(**stored["codecs"]) if stored else Storage.published(config)
    if quant not in CODECS:
        raise RequestError(f"--quant is {quant!r}; expected one of {', '.join(CODECS)}")
    return Storage(quant, quant, "bf16" if quant == "fp8" else quant)


def _check_context(config: ModelConfig, load: Load) -> None:
    most = config.max_position_embeddings
    for option, tokens in (("--context", load.context), ("--prompt", load.prompt)):
        if tokens > most:
            raise RequestError(f"{option} is {tokens:,} tokens; this model's context is {most:,} at most")


@dataclass(frozen=True)
class _Machines:
    """What was said of every machine that is asked for.

    ram   bytes; None takes what there is
    disk  a speed, a folder to measure, or None
    """

    ram: int | None
    disk: str | None
    threads: int | None
    measure_again: bool

    def site(self, name: str) -> Site:
        """The machine of a name."""
        disk = self._disk_speed()
        if name != "here":
            return site_of(find_hardware(name), self.ram, disk)
        from araio.eval.machine import this_machine
        from araio.kernels.select import select
        from araio.meters.modelled import estimate_power

        with _progress() as tell:
            machine = this_machine(self.threads, measure_again=self.measure_again, on_step=tell)
        power = estimate_power()
        threads = select("auto", self.threads).threads
        assert threads is not None
        watts = power.full_watts + power.dram_watts
        return site_here(machine, threads, watts, power.idle_watts, self.ram, disk)

    def _disk_speed(self) -> float | None:
        if self.disk is None:
            return None
        folder = Path(self.disk).expanduser()
        if not folder.is_dir():
            return parse_bytes_per_s("--disk", self.disk)
        from araio.eval.disk import disk_speed

        speed = disk_speed(folder)
        if speed is None:
            raise RequestError(
                f"--disk {self.disk}: this file system cannot be read past the page cache; give a speed"
            )
        return speed


@contextmanager
def _progress() -> Iterator[Any]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: None
        return
    with console.status("measuring this machine, once") as status:
        yield lambda what: status.update(f"measuring this machine, once: {what}")
