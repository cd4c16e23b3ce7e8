"""The slider: which cut a compression level asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compression.errors import SpecError
from compression.spec import Target
from compression.wishes import Wish, in_words

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


def resolve_target(level: int | None, target: Target | None, layers: Sequence[Wish] = ()) -> Target:
    """What is to be kept, of a caller who gives a level or a target of his own, wishes about layers, or both.

    Raises:
        SpecError: a level and a target are given, or nothing at all; the level does not exist, or is the original and
            layers of it are to be cut; or wishes contradict each other.
    """
    if level == ORIGINAL and layers:
        raise SpecError(
            f"Level {ORIGINAL} is the original, of which nothing is cut; leave out that {in_words(layers)}."
        )
    if level is not None and target is None:
        return replace(target_of(level), layers=tuple(layers))
    if target is not None and level is None:
        return replace(target, layers=(*target.layers, *layers))
    if target is None and level is None and layers:
        return Target(gflops_kept=None, params_kept=None, layers=tuple(layers))
    raise SpecError("Give either a level from 0 to 5 or a target of GFLOPs and parameters to keep.")
