"""`EngineState`: how busy an engine is, for whoever watches it; `Engine.state` gives one."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineState"]


@dataclass(frozen=True)
class EngineState:
    """That of a moment.

    running         requests in the batch
    waiting         requests in line
    free_pages      of the cache, that no request holds
    total_pages     of the cache
    prefix_queries  tokens of prompts that were looked up in the prefix cache since loading
    prefix_hits     those of them that were found
    """

    running: int
    waiting: int
    free_pages: int
    total_pages: int
    prefix_queries: int
    prefix_hits: int
