"""What a run asks a cluster to set aside for it, as it is typed: "gpu=2,cpu=8"."""

from __future__ import annotations

from compression.errors import SpecError

CPU, GPU = "CPU", "GPU"
# Ray keeps account of these by itself, in bytes, and takes them in another way.
_NOT_COUNTED = ("memory", "object_store_memory")


def parse_resources(text: str) -> dict[str, float]:
    """Amounts by Ray's names; none where nothing is stated.

    Args:
        text: names and amounts, as in "gpu=1,cpu=4"; further names are those that nodes were started with.

    Raises:
        SpecError: it cannot be understood.
    """
    stated: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, amount = (piece.strip() for piece in part.partition("="))
        try:
            stated[_ray_name(name)] = _checked(float(amount))
        except ValueError:
            raise SpecError(
                f"{part!r} in --resources is not understood; give names and amounts, as in gpu=1,cpu=4."
            ) from None
    if stated.get(GPU, 0) > 1 and stated[GPU] % 1:
        raise SpecError(f"{stated[GPU]:g} GPUs cannot be set aside; give a part of one, or a whole number.")
    return stated


def resources_text(resources: dict[str, float]) -> str:
    """The inverse of `parse_resources`."""
    return ",".join(f"{name.lower() if name in (CPU, GPU) else name}={amount:g}" for name, amount in resources.items())


def _ray_name(name: str) -> str:
    if not name or name in _NOT_COUNTED:
        raise ValueError
    return name.upper() if name.upper() in (CPU, GPU) else name


def _checked(amount: float) -> float:
    # Ray counts to a ten-thousandth.
    if not 1e-4 <= amount < float("inf"):
        raise ValueError
    return amount
