"""Verdicts on made-up results: what is compared, what is said, and what is left open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cache.record import Metrics, RunRecord
from cache.series import by_label, series_of
from cache.timings import Times, times_of
from cache.verdict import Verdict, published_verdicts, verdicts_of
from compression.spec import Target
from tests import factories

# 1.35 and 5.41 deployed GFLOPs.
SMALL = factories.original("yolo26n", 1.0, 0.66)
LARGE = factories.original("yolo26s", 4.0, 0.72)


def cut(level: int, **changes: Any) -> RunRecord:
    """A level of the larger model, with the accuracy that `factories.metrics` gives it unless told."""
    accuracy = changes.pop("accuracy", None)
    if accuracy is not None:
        changes["metrics"] = replace(factories.metrics(level), map50_95=accuracy)
    return factories.cut_of(LARGE, level, **changes)


def uncut(source: RunRecord, accuracy: float, seed: int = 0) -> RunRecord:
    """An original after the fine-tuning that `cut` got."""
    assert source.spec is not None
    spec = replace(source.spec, level=None, target=Target(gflops_kept=1.0, params_kept=1.0), epochs=20, seed=seed)
    metrics = replace(source.metrics, map50_95=accuracy)
    return replace(source, key=spec.key, spec=spec, level=None, metrics=metrics)


def judged(*records: RunRecord, times: Times | None = None, model: str = "yolo26s", **options: Any) -> list[Verdict]:
    (same,) = by_label(series_of(r for r in records if r.model == model)).values()
    return verdicts_of(same, records, times or {}, **options)


def test_below_the_line_a_sibling_is_the_better_choice() -> None:
    (verdict,) = judged(SMALL, LARGE, cut(3))
    # 0.66 + 0.06 x (4.6969 - 1.3528) / (5.4112 - 1.3528).
    assert verdict.cells() == {
        "verdict": "sibling",
        "verdict_at": "deployed GFLOPs",
        "siblings_map50_95": 0.70944,
        "siblings_difference_points": -2.54,
        "siblings_difference_low_points": None,
        "siblings_difference_high_points": None,
    }
    assert verdict.text == (
        "Rather take yolo26n or keep yolo26s, as far as one seed tells: level 3 has mAP50-95 0.684 at 4.7 deployed "
        "GFLOPs, 2.5 points below the 0.709 of the line from yolo26n to yolo26s (unpruned)."
    )
    assert verdict.sureness == (
        "One seed does not tell how sure this is. Level 3 was fine-tuned for up to 20 epochs and the unpruned models "
        "were not, which flatters it."
    )
    assert verdict.command == (
        "trimboard run yolo26s.pt --data=shapes --level=3 --epochs=20 --imgsz=320 --seed=1 --head=e2e"
    )


def test_a_small_model_that_is_better_is_named() -> None:
    (verdict,) = judged(SMALL, LARGE, cut(5))
    assert verdict.text.startswith("Take yolo26n, as far as one seed tells: level 5 has mAP50-95 0.620 at 4.22")


def test_above_the_line_pruning_pays() -> None:
    (verdict,) = judged(factories.original("yolo26n", 1.0, 0.5), LARGE, cut(1))
    assert (verdict.word, verdict.keys) == ("prune", (cut(1).key,))
    assert verdict.text.startswith("Prune, as far as one seed tells: level 1 has mAP50-95 0.716 at 5.17")
    assert "0.9 points above the 0.707 of the line" in verdict.text


def test_seeds_tell_how_sure_it_is_also_of_a_level_with_one() -> None:
    records = [cut(3, seed=seed, accuracy=accuracy) for seed, accuracy in enumerate((0.680, 0.684, 0.688))]
    third, fifth = judged(SMALL, LARGE, *records, cut(5, accuracy=0.70))
    assert third.text.startswith("Rather take yolo26n or keep yolo26s: level 3 has mAP50-95 0.684 (mean of 3 seeds)")
    assert third.command == ""
    # Standard deviation 0.004, 4.303 of two degrees of freedom, single siblings with parts 0.17602 and 0.82398.
    half = 100 * 4.3027 * 0.004 * (1 / 3 + 0.17602**2 + 0.82398**2) ** 0.5
    assert third.cells()["siblings_difference_low_points"] == round(-2.544 - half, 2)
    assert "2 degrees of freedom" in third.sureness
    # 0.70 against 0.70240, with an interval of over two points to both sides.
    assert fifth.word == "undecided"
    assert fifth.text.startswith("Cannot be told apart: level 5")


def test_fine_tuning_counts_for_the_siblings_where_it_was_measured_of_all_of_them() -> None:
    tuned = [uncut(SMALL, 0.68), uncut(LARGE, 0.74)]
    (verdict,) = judged(SMALL, LARGE, cut(3), *tuned)
    assert verdict.cells()["siblings_map50_95"] == 0.72944
    assert "flatters" not in verdict.sureness
    (verdict,) = judged(SMALL, LARGE, cut(3), tuned[1])
    assert verdict.cells()["siblings_map50_95"] == 0.70944
    assert "flatters" in verdict.sureness


def test_seeds_of_a_sibling_that_was_trained_here_count_together() -> None:
    trained = [
        factories.original("yolo26n", 1.0, best, weights_sha256=None, epochs=50, seed=seed)
        for seed, best in enumerate((0.65, 0.67))
    ]
    (verdict,) = judged(*trained, LARGE, cut(3))
    assert verdict.cells()["siblings_map50_95"] == 0.70944
    assert "1 degree of freedom" in verdict.sureness


def test_time_decides_where_both_were_timed_with_the_original() -> None:
    assert LARGE.spec is not None
    large, level = LARGE.spec.weights_sha256, cut(3)
    small = factories.with_checkpoint(SMALL, b"x", "5" * 64)
    latencies = [
        factories.timed(level.checkpoint_sha256 or "", large, 0.95),
        factories.timed("5" * 64, large, 0.45),
        factories.timed(level.checkpoint_sha256 or "", large, 0.5, backend="openvino"),
    ]
    times = times_of(latencies, {large or ""}, imgsz=320, head="e2e")
    (verdict,) = judged(small, LARGE, level, times=times)
    # Ten elevenths of the way from 0.45 to 1.
    assert verdict.cells()["verdict_at"] == "time on onnx 1.2, fp32, 1 thread, a processor"
    assert verdict.cells()["siblings_map50_95"] == round(0.66 + 0.06 * 0.5 / 0.55, 5)
    assert "0.95 of the original's time on onnx" in verdict.text
    assert "By measured time on onnx 1.2, fp32, 1 thread, a processor; that times vary" in verdict.sureness
    # A time that may be the original's is no cost to judge by.
    noisy = [replace(one, ratio_high=1.02) for one in latencies]
    (verdict,) = judged(small, LARGE, level, times=times_of(noisy, {large or ""}, imgsz=320, head="e2e"))
    assert verdict.cells()["verdict_at"] == "deployed GFLOPs"


def test_the_smallest_model_has_no_sibling_to_take() -> None:
    (verdict,) = judged(SMALL, LARGE, factories.cut_of(SMALL, 5), model="yolo26n")
    assert (verdict.word, verdict.judgement) == ("none smaller", None)
    assert verdict.text == (
        "Only pruning goes there: no YOLO26 is smaller than yolo26n. Level 5 has mAP50-95 0.560 at 1.06 deployed "
        "GFLOPs, the unpruned yolo26n 0.660: -10.0 points."
    )
    assert verdict.cells()["siblings_map50_95"] is None


def test_a_cut_below_the_smallest_sibling_has_none_to_compare_with() -> None:
    level = cut(5, costs=factories.costs(0, 0.8))
    assert level.spec is not None
    spec = replace(level.spec, level=None, target=Target(gflops_kept=0.2, params_kept=None))
    (verdict,) = judged(SMALL, LARGE, replace(level, level=None, spec=spec, key=spec.key))
    assert (verdict.word, verdict.level, verdict.name) == ("none smaller", None, "the cut to 20% of the GFLOPs")


def test_a_sibling_that_was_not_measured_is_asked_for() -> None:
    (verdict,) = judged(LARGE, cut(3), factories.original("yolo26n", 1.0, 0.66, imgsz=640))
    assert verdict.word == "unknown"
    assert verdict.text == (
        "Not known: no smaller sibling of yolo26s is measured on shapes under these conditions (320 pixels, e2e head) "
        "that costs as little as level 3."
    )
    assert verdict.command == "trimboard run yolo26n.pt --data=shapes --level=0 --imgsz=320 --head=e2e"


def test_a_sibling_is_to_be_trained_as_the_original_was() -> None:
    trained = factories.original("yolo26s", 4.0, 0.72, weights_sha256=None, epochs=50, recipe="standard", batch=8)
    trained = factories.with_checkpoint(trained, b"x", "7" * 64)
    (verdict,) = judged(trained, factories.cut_of(trained, 3, weights_sha256="7" * 64))
    assert verdict.command == (
        "trimboard run yolo26n.yaml --data=shapes --level=0 --epochs=50 --imgsz=320 --batch=8 --recipe=standard "
        "--head=e2e"
    )


def test_an_architecture_of_ones_own_has_no_known_siblings() -> None:
    own = factories.original("mine", 1.0, 0.7)
    (verdict,) = judged(own, factories.cut_of(own, 3), model="mine")
    assert verdict.text == "Not known: mine is not in the catalog, so its siblings are unknown."


def test_a_plan_has_a_line_to_beat() -> None:
    planned = {3: factories.costs(3, 4.0), 5: factories.costs(5, 4.0)}
    third, fifth = judged(SMALL, LARGE, cut(3), planned=planned)
    assert third.word == "sibling"
    assert (fifth.level, fifth.keys) == (5, ())
    assert fifth.text == (
        "Not known: level 5 is not measured. At the 4.22 deployed GFLOPs that are planned for it, it has to beat the "
        "0.702 of the line from yolo26n to yolo26s (unpruned)."
    )
    assert fifth.cells()["siblings_difference_points"] is None


def test_published_siblings_stand_in_and_are_called_so() -> None:
    small = factories.published(
        0, "yolo26n", costs=factories.costs(0), metrics=factories.metrics(0, 0.6), data="shapes"
    )
    large = factories.published(0, "yolo26s", data="shapes")
    (verdict,) = judged(LARGE, cut(3), *(replace(one, imgsz=320, data="shapes") for one in (small, large)))
    assert "as far as published figures tell" in verdict.text
    assert "(unpruned, published)" in verdict.text
    assert verdict.sureness == "The siblings' figures are published, not measured here under the same conditions."


def test_a_published_level_is_judged_by_published_siblings() -> None:
    small = factories.published(0, "yolo26n", costs=factories.costs(0), metrics=factories.metrics(0, 0.66))
    (verdict,) = published_verdicts("yolo26s", [small, factories.published(0), factories.published(5)])
    assert (verdict.level, verdict.word) == (5, "sibling")
    assert verdict.sureness == "All figures are published, one run each, so nothing tells how sure this is."
    silent = factories.published(5, metrics=Metrics(map50=0.5, map50_95=None, precision=None, recall=None))
    assert published_verdicts("yolo26s", [small, factories.published(0), silent]) == []


def test_what_cuts_nothing_has_no_verdict() -> None:
    assert judged(SMALL, LARGE, uncut(LARGE, 0.73)) == []


def test_a_pruned_model_that_was_measured_as_an_original_is_no_sibling() -> None:
    pruned = factories.cut_of(SMALL, 5)
    taken_for_original = factories.original("yolo26n", 0.78, 0.71, weights_sha256=pruned.checkpoint_sha256)
    (verdict,) = judged(SMALL, LARGE, cut(3), pruned, replace(taken_for_original, created="2027-01-01"))
    assert verdict.cells()["siblings_map50_95"] == 0.70944


@pytest.mark.parametrize("accuracy", [0.7094, 0.7095])
def test_a_difference_that_rounds_to_nothing_decides_nothing(accuracy: float) -> None:
    (verdict,) = judged(SMALL, LARGE, cut(3, accuracy=accuracy))
    assert verdict.word == "undecided"
