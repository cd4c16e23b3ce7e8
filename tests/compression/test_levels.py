"""What each level keeps, worked out by hand from the published cut."""

from __future__ import annotations

import pytest

from compression.errors import SpecError
from compression.levels import LEVELS, ORIGINAL, target_of


@pytest.mark.parametrize(
    ("level", "gflops_kept", "params_kept"),
    [(0, 1.0, 1.0), (1, 0.956, 0.95), (2, 0.912, 0.9), (3, 0.868, 0.85), (4, 0.824, 0.8), (5, 0.78, 0.75)],
)
def test_targets(level: int, gflops_kept: float, params_kept: float) -> None:
    target = target_of(level)
    assert target.gflops_kept == gflops_kept
    assert target.params_kept == params_kept


def test_level_5_is_the_published_cut() -> None:
    target = target_of(5)
    assert target.gflops_kept is not None
    assert target.params_kept is not None
    # Published are 22.8 -> 17.7 GFLOPs and 10.0M -> 7.5M parameters.
    assert abs(17.7 / 22.8 - target.gflops_kept) < 0.005
    assert 10.0 * target.params_kept == 7.5


def test_levels_are_the_slider() -> None:
    assert ORIGINAL == 0
    assert LEVELS == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("level", [-1, 6, 2.5, True, "3", None])
def test_other_levels_do_not_exist(level: object) -> None:
    with pytest.raises(SpecError, match=rf"Level {level!r} does not exist; choose 1 to 5"):
        target_of(level)  # type: ignore[arg-type]
