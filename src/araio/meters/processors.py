"""Thermal design power of common processors, for the energy model where nothing counts joules.

Watts are those of `cpu_power.csv` of CodeCarbon 3.3.2 (MIT licence), which collects the vendors' pages;
threads are the vendors'. A processor that is missing is no mistake: the model then says so and counts by
thread. Read `modelled.py` for who asks.
"""

from __future__ import annotations

__all__ = ["PROCESSORS", "find_processor", "read_processor_name"]

PROCESSORS = {
    "EPYC 7452": (155, 64),
    "EPYC 7742": (225, 128),
    "EPYC 7763": (280, 128),
    "EPYC 7R13": (225, 96),
    "EPYC 9474F": (360, 96),
    "EPYC 9554": (360, 128),
    "EPYC 9654": (360, 192),
    "EPYC 9755": (500, 256),
    "Ryzen 5 5600X": (65, 12),
    "Ryzen 7 5800U": (15, 16),
    "Ryzen 7 5800X": (105, 16),
    "Ryzen 7 7700X": (105, 16),
    "Ryzen 7 7800X3D": (120, 16),
    "Ryzen 7 7840U": (28, 16),
    "Ryzen 9 5950X": (105, 32),
    "Ryzen 9 7950X": (170, 32),
    "Ryzen 9 9950X": (170, 32),
    "Threadripper PRO 7995WX": (350, 192),
    "i7-1165G7": (28, 8),
    "i9-13900K": (125, 32),
    "Ultra 9 285K": (125, 24),
    "N100": (6, 4),
    "E5-2680 v4": (120, 28),
    "E5-2686 v4": (145, 36),
    "Gold 6140": (140, 36),
    "Gold 6248": (150, 40),
    "Gold 6248R": (205, 48),
    "Platinum 8168": (205, 48),
    "Platinum 8259CL": (210, 48),
    "Platinum 8272CL": (195, 52),
    "Platinum 8375C": (300, 64),
    "Platinum 8480+": (350, 112),
    "Platinum 8592+": (350, 128),
}
"""Watts of a socket at full load and its threads, by the words that tell it from its neighbours."""


def find_processor(name: str) -> str | None:
    """The key of the table that a system's name for its processor contains as whole words, or None."""
    return next((key for key in PROCESSORS if f" {key} " in f" {name} "), None)


def read_processor_name() -> str:
    """What the system calls its processor; empty where it does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a line is enough, of thousands
            named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(named, "")
    except OSError:  # not Linux
        return ""
