"""The Pareto front, by cases that can be seen through."""

from __future__ import annotations

import pytest

from compression.deployment.pareto import pareto_front


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([], []),
        ([(1.0, 0.5)], [0]),
        # Dearer and better each: all stand on it, by cost.
        ([(3.0, 0.7), (1.0, 0.5), (2.0, 0.6)], [1, 2, 0]),
        # The second costs more and is worse, the third costs as much and is worse, the fourth is as good and dearer.
        ([(1.0, 0.5), (2.0, 0.4), (1.0, 0.3), (3.0, 0.5)], [0]),
        # What lies below the line between two points is on the front all the same.
        ([(1.0, 0.1), (2.0, 0.2), (3.0, 0.9)], [0, 1, 2]),
        # Of equal points none beats the other, but both are beaten together.
        ([(1.0, 0.5), (1.0, 0.5)], [0, 1]),
        ([(1.0, 0.5), (1.0, 0.5), (0.5, 0.6)], [2]),
    ],
)
def test_what_nothing_beats(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


def test_it_is_what_the_definition_says() -> None:
    """Against every pair, on a grid with many ties."""
    points = [(float(a * 7 % 5), float(a * 11 % 6)) for a in range(40)]
    unbeaten = {
        place
        for place, (cost, accuracy) in enumerate(points)
        if not any(c <= cost and a >= accuracy and (c < cost or a > accuracy) for c, a in points)
    }
    front = pareto_front(points)
    assert set(front) == unbeaten
    assert [points[place] for place in front] == sorted(points[place] for place in front)
