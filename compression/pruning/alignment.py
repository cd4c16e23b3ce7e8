"""Which steps of channels a backend's kernels like; `benchmarks/latency.py` measures it."""

from __future__ import annotations

from compression.errors import SpecError
from compression.spec import ALIGNMENTS, BackendName

AUTO = "auto"

# Latency of level 5 of yolo26s at 640, one thread of an AMD EPYC with AVX-512, over its part of the deployed GFLOPs:
# 1.10, 1.02 and 1.03 on ONNX Runtime 1.32 and 1.09, 1.02 and 1.02 on OpenVINO 2026.4 with steps of 8, 16 and 32. Both
# work on blocks of 16 channels; steps of 32 gain nothing more and are coarse on narrow models.
MEASURED: dict[BackendName, int] = {"onnx": 16, "openvino": 16}
DEFAULT_BACKEND: BackendName = "onnx"


def alignment_for(backend: BackendName) -> int:
    """The steps of channels for a backend.

    Raises:
        SpecError: nothing was measured there.
    """
    if backend not in MEASURED:
        raise SpecError(
            f"Which steps of channels backend {backend} likes was not measured; give --align "
            f"{', '.join(map(str, ALIGNMENTS))} yourself, or one of the backends {', '.join(MEASURED)}."
        )
    return MEASURED[backend]
