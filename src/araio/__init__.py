"""araio: run, serve, inspect and train sparse mixture-of-experts reasoning models.

Names are loaded when they are first used, so that `import araio` costs nothing. Start with `load`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from araio.api import Model, load
    from araio.config import ModelConfig
    from araio.costs.receipt import Receipt
    from araio.engine.answer import Answer, ContentDelta, Finish, ReasoningDelta, ToolCall, ToolCallDelta
    from araio.engine.request import SamplingParams
    from araio.errors import AraioError
    from araio.expert_profile import ExpertProfile

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "AraioError",
    "ContentDelta",
    "ExpertProfile",
    "Finish",
    "Model",
    "ModelConfig",
    "ReasoningDelta",
    "Receipt",
    "SamplingParams",
    "ToolCall",
    "ToolCallDelta",
    "__version__",
    "load",
]

_HOME = {
    "Answer": "araio.engine.answer",
    "AraioError": "araio.errors",
    "ContentDelta": "araio.engine.answer",
    "ExpertProfile": "araio.expert_profile",
    "Finish": "araio.engine.answer",
    "Model": "araio.api",
    "ModelConfig": "araio.config",
    "ReasoningDelta": "araio.engine.answer",
    "Receipt": "araio.costs.receipt",
    "SamplingParams": "araio.engine.request",
    "ToolCall": "araio.text.tool_calls",
    "ToolCallDelta": "araio.text.tool_calls",
    "load": "araio.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'araio' has no attribute {name!r}; public names: {', '.join(__all__)}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
