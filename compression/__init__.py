"""The engine: `from compression import compress, plan, prune`; torch is imported when one of them is first used."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# Ultralytics installs by itself what an export or a backend lacks, unless told not to before it is imported. Here what
# is missing is named instead; whoever wants it otherwise sets the variable.
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
# It also sets this variable to 1 where it is not set; what was stated before is what limits us, see `all_cores`.
STATED_THREADS = os.environ.get("OMP_NUM_THREADS")
# OpenVINO and NNCF report their use to their makers where they find this package, and ask nobody. They do without it.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from compression.pipeline import compress
    from compression.pruning.cut import plan, prune

__all__ = ["compress", "plan", "prune"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from compression import pipeline
        from compression.pruning import cut

        return getattr(pipeline if name == "compress" else cut, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
