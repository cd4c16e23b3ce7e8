"""What a series may be compared with."""

from __future__ import annotations

from cache.series import Series, series_of
from cache.siblings import neighbours_of, repeats_of
from tests import factories


def _series() -> Series:
    return series_of(factories.series())[0]


def test_one_model_is_no_line_of_siblings() -> None:
    assert neighbours_of("yolo26n", _series(), factories.series()).siblings == ()


def test_published_results_of_another_image_size_are_named_not_drawn() -> None:
    neighbours = neighbours_of("yolo26n", _series(), [*factories.series(), factories.published(0, "yolo26n")])
    assert neighbours.siblings_published == ()
    assert neighbours.left_out == "Published results at 640 px are not drawn: this series was measured at 320 px."


def test_only_what_was_trained_here_is_repeated_by_another_seed() -> None:
    given = [factories.original("yolo26n", 1.0, 0.6, seed=seed) for seed in (0, 1)]
    assert repeats_of(given[0], given) == [given[0]]
    trained = [factories.original("yolo26n", 1.0, 0.6, weights_sha256=None, epochs=50, seed=seed) for seed in (1, 0)]
    others = [
        factories.original("yolo26n", 1.0, 0.6, weights_sha256=None, epochs=20),
        factories.original("yolo26s", 4.0, 0.6, weights_sha256=None, epochs=50),
    ]
    assert repeats_of(trained[0], [*trained, *others]) == trained[::-1]
