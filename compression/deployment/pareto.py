"""What nothing else is better than: the Pareto front of cost and accuracy."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other one beats, by rising cost and so by rising accuracy.

    A point is beaten by one that costs no more and is no less accurate, and is better in one of both. Of equal points
    none beats the other.

    Args:
        points: cost, of which less is better, and accuracy, of which more is.

    Returns:
        Their places in `points`.
    """
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1])):
        # By rising cost, only what is more accurate than all before it, or equal to the last, is beaten by none.
        if not front or points[place][1] > points[front[-1]][1] or points[place] == points[front[-1]]:
            front.append(place)
    return front
