"""The slider: which cut a compression level asks for."""

from __future__ import annotations

from compression.errors import SpecError
from compression.spec import Target

ORIGINAL = 0
LEVELS = (1, 2, 3, 4, 5)

# Level 5 is the published cut of Aiminify's "Compressing YOLO26": 22.8 -> 17.7 GFLOPs and 10.0M -> 7.5M parameters.
# The levels below it are a fifth of the way each.
LEVEL_5_GFLOPS_CUT = 0.22
LEVEL_5_PARAMS_CUT = 0.25


def target_of(level: int) -> Target:
    """The costs that a level keeps, as parts of the original's.

    Raises:
        SpecError: `level` is not one of 0 to 5.
    """
    if isinstance(level, bool) or level not in (ORIGINAL, *LEVELS):
        raise SpecError(f"Level {level!r} does not exist; choose 1 to 5, or 0 for the original.")
    part = level / LEVELS[-1]
    return Target(
        gflops_kept=round(1 - part * LEVEL_5_GFLOPS_CUT, 6),
        params_kept=round(1 - part * LEVEL_5_PARAMS_CUT, 6),
    )


def resolve_target(level: int | None, target: Target | None) -> Target:
    """What is to be kept, of a caller who gives a level or a target of his own.

    Raises:
        SpecError: both or none are given, or the level does not exist.
    """
    if target is not None and level is None:
        return target
    if level is not None and target is None:
        return target_of(level)
    raise SpecError("Give either a level from 0 to 5 or a target of GFLOPs and parameters to keep.")
