"""`TraceHeader`: the `trace.json` of a trace, which says whose routes it holds and how they were recorded.

A folder with this file is a trace, and a complete one: it is written last. Refused are versions that came
after this program, keys that it does not know and numbers that no model has. Read `columns.py` for what the
files beside it hold, `trace.py` for the reader.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from araio.config import ModelConfig
from araio.errors import AraioError, TraceError
from araio.json_reader import ObjectReader, parse_object, read_object, shown
from araio.traces.columns import OPTIONAL

__all__ = [
    "HEADER_NAME",
    "MAX_EXPERTS",
    "MAX_LAYERS",
    "PARTIAL_SUFFIX",
    "VERSION",
    "TraceFiles",
    "TraceHeader",
    "header_text",
    "parse_header",
    "read_header",
]

HEADER_NAME = "trace.json"
PARTIAL_SUFFIX = ".partial"
VERSION = 1

_FORMAT = "araio-trace"
_MAX_BYTES = 4 << 20
# No router has more; a hostile file may not make the square of a number that its own size does not warrant.
MAX_EXPERTS = 4096
MAX_LAYERS = 4096
_MAX_DRAFT_LAYERS = 8
_MAX_TOP_K = 256
_MAX_ROWS = (1 << 31) - 1
_MAX_DOMAINS = 256
_MAX_TEXT = 4096


@dataclass(frozen=True, kw_only=True)
class TraceHeader:
    """Whose routes a trace holds, and how they were recorded.

    model                  its name, for people
    fingerprint            of its routers, as `nn.identity.router_fingerprint` gives it; None if unknown
    layers                 numbers of the MoE layers, in order; empty where the model is unknown
    mtp_layers             numbers of the layers that draft, if their routes are there too
    n_routed_experts       E
    top_k                  K
    scoring_func           softmax or sigmoid, None if unknown
    norm_topk_prob         whether the weights of a token add up to 1; None if unknown
    routed_scaling_factor  what the model multiplies weights by, which those of the trace are not
    engine                 what recorded them
    precision              of the weights, as the engine names it
    tokenizer              SHA-256 of tokenizer.json
    profile                id of the profile that restricted the choice, None for a free one
    domains                their names; the column `domain` counts from 0
    created                ISO 8601
    columns                optional columns that are there

    Raises TraceError for numbers that contradict each other.
    """

    model: str = "unknown"
    fingerprint: str | None = None
    layers: tuple[int, ...] = ()
    mtp_layers: tuple[int, ...] = ()
    n_routed_experts: int
    top_k: int
    n_group: int = 1
    topk_group: int = 1
    scoring_func: str | None = None
    norm_topk_prob: bool | None = None
    routed_scaling_factor: float = 1.0
    engine: str = "unknown"
    precision: str | None = None
    tokenizer: str | None = None
    profile: str | None = None
    seed: int | None = None
    domains: tuple[str, ...] = ("all",)
    created: str | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.n_routed_experts <= MAX_EXPERTS:
            raise TraceError(f"n_routed_experts is {self.n_routed_experts}; expected 1 to {MAX_EXPERTS}")
        if not 1 <= self.top_k <= self.n_routed_experts:
            raise TraceError(f"top_k is {self.top_k}; expected 1 to the {self.n_routed_experts} experts")
        if self.n_routed_experts % self.n_group or self.topk_group > self.n_group:
            raise TraceError(
                f"n_group is {self.n_group} and topk_group {self.topk_group}; expected groups of one "
                f"size for {self.n_routed_experts} experts, and no more chosen than there are"
            )
        for layers in (self.layers, self.mtp_layers):
            if any(later <= earlier for earlier, later in pairwise(layers)):
                raise TraceError(f"layers are {shown(list(layers))}; expected rising numbers")
        if not 1 <= len(self.domains) <= _MAX_DOMAINS or len(set(self.domains)) != len(self.domains):
            raise TraceError(
                f"domains are {shown(list(self.domains))}; expected 1 to {_MAX_DOMAINS} different names"
            )
        unknown = [name for name in self.columns if name not in OPTIONAL]
        if unknown:
            raise TraceError(
                f"column {shown(unknown[0])} is not known; expected some of {', '.join(OPTIONAL)}"
            )

    @classmethod
    def of(cls, config: ModelConfig, **known: Any) -> TraceHeader:
        """The header of a model's routes: what its config says, and what else is known."""
        return cls(
            layers=tuple(config.moe_layers),
            n_routed_experts=config.n_routed_experts,
            top_k=config.num_experts_per_tok,
            n_group=config.n_group,
            topk_group=config.topk_group,
            scoring_func=config.scoring_func,
            norm_topk_prob=config.norm_topk_prob,
            routed_scaling_factor=config.routed_scaling_factor,
            **known,
        )

    @property
    def has_text(self) -> bool:
        """Whether the tokens themselves are there, and not only their routes."""
        return "token_id" in self.columns

    def of_drafts(self) -> TraceHeader:
        """The header of the routes of the layers that draft."""
        return replace(self, layers=self.mtp_layers, mtp_layers=())


@dataclass(frozen=True)
class TraceFiles:
    """What lies beside the header: rows of each shard, likewise of drafts, and the number of cache events."""

    shards: tuple[int, ...]
    draft_shards: tuple[int, ...] = ()
    cache_events: int = 0


def header_text(header: TraceHeader, files: TraceFiles) -> str:
    """The content of `trace.json`."""
    return (
        json.dumps({"format": _FORMAT, "version": VERSION, **asdict(header), **asdict(files)}, indent=2)
        + "\n"
    )


def read_header(path: Path) -> tuple[TraceHeader, TraceFiles]:
    """Read a `trace.json`; raises TraceError when it is malformed, or of a version that came later."""
    try:
        return _parsed(ObjectReader(read_object(path, _MAX_BYTES)))
    except (AraioError, ValueError) as error:
        raise TraceError(f"{path}: {error}") from None


def parse_header(content: bytes, where: str) -> tuple[TraceHeader, TraceFiles]:
    """The same from the text itself; raises TraceError, naming `where`."""
    try:
        return _parsed(ObjectReader(parse_object(content)))
    except (AraioError, ValueError) as error:
        raise TraceError(f"{where}: {error}") from None


def _parsed(reader: ObjectReader) -> tuple[TraceHeader, TraceFiles]:
    reader.choice("format", [_FORMAT])
    version = reader.integer("version", 1, 1 << 31)
    if version > VERSION:
        raise ValueError(f"is of version {version}, this araio reads up to {VERSION}; install a newer araio")
    experts = reader.integer("n_routed_experts", 1, MAX_EXPERTS)
    header = TraceHeader(
        model=_text(reader, "model") or "unknown",
        fingerprint=_text(reader, "fingerprint"),
        layers=reader.integers("layers", 0, MAX_LAYERS, MAX_LAYERS),
        mtp_layers=reader.integers("mtp_layers", 0, MAX_LAYERS, _MAX_DRAFT_LAYERS),
        n_routed_experts=experts,
        top_k=reader.integer("top_k", 1, _MAX_TOP_K),
        n_group=reader.integer("n_group", 1, experts),
        topk_group=reader.integer("topk_group", 1, experts),
        scoring_func=reader.choice("scoring_func", ["softmax", "sigmoid", ""], "") or None,
        norm_topk_prob=reader.boolean("norm_topk_prob", False) if reader.has("norm_topk_prob") else None,
        routed_scaling_factor=reader.number("routed_scaling_factor", 0.0, 1e6, 1.0),
        engine=_text(reader, "engine") or "unknown",
        precision=_text(reader, "precision"),
        tokenizer=_text(reader, "tokenizer"),
        profile=_text(reader, "profile"),
        seed=reader.integer("seed", -(1 << 63), 1 << 64) if reader.has("seed") else None,
        domains=_texts(reader, "domains"),
        created=_text(reader, "created"),
        columns=_texts(reader, "columns"),
    )
    files = TraceFiles(
        shards=reader.integers("shards", 1, _MAX_ROWS, 1 << 16),
        draft_shards=reader.integers("draft_shards", 1, _MAX_ROWS, 1 << 16),
        cache_events=reader.integer("cache_events", 0, _MAX_ROWS, 0),
    )
    reader.refuse_the_rest()
    return header, files


def _text(reader: ObjectReader, key: str) -> str | None:
    if not reader.has(key):
        return None
    value = reader.document[key]
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise reader.failure(key, f"text of at most {_MAX_TEXT} characters")
    return value


def _texts(reader: ObjectReader, key: str) -> tuple[str, ...]:
    value: Sequence[object] = reader.document[key] if reader.has(key) else []
    is_list = isinstance(value, list) and len(value) <= _MAX_DOMAINS
    if not is_list or not all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in value):
        raise reader.failure(key, f"at most {_MAX_DOMAINS} texts")
    return tuple(str(text) for text in value)
