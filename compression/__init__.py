"""The engine: `from compression import compress, plan, prune`; torch is imported when one of them is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compression.cut import plan, prune
    from compression.pipeline import compress

__all__ = ["compress", "plan", "prune"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from compression import cut, pipeline

        return getattr(pipeline if name == "compress" else cut, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
