"""Who loses most, counted by hand, and kept on the disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from compression.accuracy.detection_ranking import (
    DetectionRanking,
    ObjectOutcome,
    RankRow,
    find_ranking,
    rank_classes,
    rank_images,
    rank_sizes,
    ranking_key,
    save_ranking,
    size_of,
    total_of,
)


def outcome(image: str, class_name: str, size: str, found: str) -> ObjectOutcome:
    """`found` names the models that find it: "ba", "b", "a" or ""."""
    return ObjectOutcome(image=image, class_name=class_name, size=size, before="b" in found, after="a" in found)


OUTCOMES = [
    # Of ten objects two are lost and one is found anew.
    *(outcome("many.jpg", "disc", "large", "ba") for _ in range(7)),
    *(outcome("many.jpg", "ring", "small", "b") for _ in range(2)),
    outcome("many.jpg", "ring", "small", "a"),
    # All of one.
    outcome("one.jpg", "disc", "small", "b"),
    # Better than before.
    outcome("more.jpg", "disc", "medium", "a"),
    # Found by neither.
    outcome("none.jpg", "star", "medium", ""),
]


def row(name: str, *counts: int) -> RankRow:
    n_objects, n_before, n_after, n_lost, n_gained = counts
    return RankRow(name=name, n_objects=n_objects, n_before=n_before, n_after=n_after, n_lost=n_lost, n_gained=n_gained)


def test_images_are_ranked_by_objects_then_by_recall() -> None:
    assert rank_images(OUTCOMES) == (
        row("one.jpg", 1, 1, 0, 1, 0),
        row("many.jpg", 10, 9, 8, 2, 1),
        row("none.jpg", 1, 0, 0, 0, 0),
        row("more.jpg", 1, 0, 1, 0, 1),
    )


def test_classes_and_sizes_are_ranked_by_recall() -> None:
    assert rank_classes(OUTCOMES) == (
        row("ring", 3, 2, 1, 2, 1),
        row("disc", 9, 8, 8, 1, 1),
        row("star", 1, 0, 0, 0, 0),
    )
    assert rank_sizes(OUTCOMES) == (
        row("small", 4, 3, 1, 3, 1),
        row("large", 7, 7, 7, 0, 0),
        row("medium", 2, 0, 1, 0, 1),
    )
    assert [one.loss for one in rank_sizes(OUTCOMES)] == [0.5, 0, -0.5]


def test_all_objects_together() -> None:
    total = total_of(OUTCOMES)
    assert total == row("all", 13, 10, 9, 3, 2)
    assert (total.recall_before, total.recall_after) == (10 / 13, 9 / 13)
    assert total.loss == pytest.approx(1 / 13)


def test_nothing_is_ranked_of_nothing() -> None:
    assert rank_images([]) == rank_classes([]) == rank_sizes([]) == ()


def test_sizes_are_those_of_coco() -> None:
    areas = [0, 32 * 32 - 1, 32 * 32, 96 * 96 - 1, 96 * 96]
    assert [size_of(area) for area in areas] == ["small", "small", "medium", "medium", "large"]


def ranking() -> DetectionRanking:
    question = {"imgsz": 320, "head": "e2e", "conf": 0.25}
    return DetectionRanking(
        key=ranking_key("ab" * 32, "cd" * 32, "ef" * 32, imgsz=320, head="e2e", conf=0.25),
        before="yolo26n",
        after="yolo26n-level5",
        before_sha256="ab" * 32,
        after_sha256="cd" * 32,
        data="shapes",
        data_fingerprint="ef" * 32,
        n_images=5,
        total=total_of(OUTCOMES),
        images=rank_images(OUTCOMES),
        classes=rank_classes(OUTCOMES),
        sizes=rank_sizes(OUTCOMES),
        created="2026-05-20T10:00:00+00:00",
        environment={"torch": "2.14"},
        **question,  # type: ignore[arg-type]
    )


def test_a_ranking_is_found_again(own_home: Path) -> None:
    assert find_ranking(ranking().key) is None
    save_ranking(ranking())
    assert find_ranking(ranking().key) == ranking()
    assert [file.name for file in (own_home / "detections").iterdir()] == [f"{ranking().key}.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"n_images": "many"},
        {"head": "other"},
        {"unknown": 1},
        {"images": [{"name": "a"}]},
        {"key": "0" * 64},
        {"total": None},
    ],
)
def test_a_damaged_ranking_is_made_anew(own_home: Path, change: dict[str, object]) -> None:
    save_ranking(ranking())
    file = own_home / "detections" / f"{ranking().key}.json"
    file.write_text(json.dumps(ranking().to_dict() | change))
    assert find_ranking(ranking().key) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"text"'])
def test_a_file_that_is_no_ranking(own_home: Path, text: str) -> None:
    save_ranking(ranking())
    (own_home / "detections" / f"{ranking().key}.json").write_text(text)
    assert find_ranking(ranking().key) is None


def test_whatever_decides_a_ranking_is_in_its_key() -> None:
    keys = {
        ranking_key("a", "b", "f", imgsz=320, head="e2e", conf=0.25),
        ranking_key("b", "a", "f", imgsz=320, head="e2e", conf=0.25),
        ranking_key("a", "b", "g", imgsz=320, head="e2e", conf=0.25),
        ranking_key("a", "b", "f", imgsz=640, head="e2e", conf=0.25),
        ranking_key("a", "b", "f", imgsz=320, head="nms", conf=0.25),
        ranking_key("a", "b", "f", imgsz=320, head="e2e", conf=0.5),
    }
    assert len(keys) == 6


def test_a_later_ranking_takes_the_place_of_an_earlier_one() -> None:
    save_ranking(ranking())
    save_ranking(replace(ranking(), n_images=6))
    found = find_ranking(ranking().key)
    assert found is not None
    assert found.n_images == 6
