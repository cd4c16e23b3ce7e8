"""The tables of a report: means over seeds, intervals, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cache.record import RunRecord
from compression.errors import SpecError
from compression.spec import Target
from pages.report.findings import Findings, findings_of
from pages.report.levels import class_cells, comparison_cells, lead, levels_of, steps_cells, time_cells
from tests import factories


def _findings(records: Sequence[RunRecord], **changes: object) -> Findings:
    return findings_of(records, [], model="yolo26n", data="shapes", **changes)  # type: ignore[arg-type]


def _with_accuracy(level: int, seed: int, map50_95: float) -> RunRecord:
    record = factories.record(level, spec=factories.spec(level, seed=seed))
    return replace(record, metrics=replace(record.metrics, map50_95=map50_95))


def test_seeds_are_averaged_with_their_interval() -> None:
    records = [*factories.series((0, 1)), _with_accuracy(3, 0, 0.60), _with_accuracy(3, 1, 0.62)]
    levels = levels_of(_findings(records))
    assert [level.name for level in levels] == ["Original", *(f"Level {number}" for number in range(1, 6))]
    cells = {cell.label: cell for cell in comparison_cells(levels[3], levels[0], "detect")}
    # 0.61 +- 12.706 * 0.01414 / sqrt(2); the original has 0.72.
    assert (cells["mAP50-95"].value, cells["mAP50-95"].note, cells["mAP50-95"].change) == ("0.610", "± 0.127", "-15.3%")
    assert (levels[3].seeds, levels[1].seeds, levels[0].seeds) == ("mean of seeds 0, 1", "seed 0", "seed 0")
    assert cells["mAP50-95"].better is False
    assert (cells["GFLOPs"].value, cells["GFLOPs"].change, cells["GFLOPs"].better) == ("1.32", "-13.2%", True)
    assert cells["GFLOPs, deployed"].value == "1.17"
    assert steps_cells(levels[3])[-1].value == "0.600, 0.620"


def test_what_was_not_measured_says_so() -> None:
    levels = levels_of(_findings(factories.series((0, 2))))
    assert [cell.value for cell in comparison_cells(levels[1], levels[0], "detect")] == ["not measured"]
    assert [cell.value for cell in steps_cells(levels[2])][:2] == ["not measured", "not measured"]
    assert time_cells(levels[2], _findings(factories.series((0, 2)))) == []


def test_custom_targets_follow_the_levels_and_the_reference_comes_first() -> None:
    custom = []
    for kept in (0.4, 1.0):
        spec = factories.spec(None, target=Target(gflops_kept=kept, params_kept=None if kept < 1 else 1.0))
        custom.append(replace(factories.record(5, spec=spec), level=None))
    levels = levels_of(_findings([*factories.series((0,)), *custom]))
    assert [level.name for level in levels[6:]] == ["Original, fine-tuned alike", "40% of the GFLOPs"]
    assert lead(levels, "detect").startswith(
        "The cut to 40% of the GFLOPs has mAP50-95 0.620 (-13.9%) at 1.19 GFLOPs (-22.0%)"
    )


def test_an_original_that_was_not_measured_is_known_from_what_was_cut() -> None:
    levels = levels_of(_findings(factories.series((5,))))
    assert comparison_cells(levels[0], levels[0], "detect")[0].value == "0.720"
    assert lead(levels, "detect").startswith("Level 5 has mAP50-95 0.620 (-13.9%)")


def test_classes_are_compared_with_the_original() -> None:
    levels = levels_of(_findings(factories.series((0, 5))))
    cells = class_cells("disc", [levels[0], levels[5]])
    assert [(cell.value, cell.change) for cell in cells] == [("0.720", ""), ("0.620", "-13.9%")]


def test_conditions_are_chosen_by_their_name() -> None:
    records = [*factories.series((0, 3, 5)), *factories.series((3,), criterion="taylor")]
    assert _findings(records).other_conditions == ("criterion taylor",)
    assert _findings(records, conditions="criterion taylor").series.spec.criterion == "taylor"
    with pytest.raises(SpecError, match="conditions 'magic'; choose one of 'default method', 'criterion taylor'"):
        _findings(records, conditions="magic")


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(SpecError, match="Nothing is measured of 'yolo26n' on 'shapes'"):
        _findings([factories.published()])


def test_seeds_of_an_untrained_target_are_named_and_those_of_the_original_are_not() -> None:
    target = Target(gflops_kept=0.4, params_kept=None)
    specs = [factories.spec(None, target=target, seed=seed, epochs=0) for seed in (0, 1, 2)]
    cuts = [replace(factories.record(5), level=None, spec=spec, key=spec.key) for spec in specs]
    original = factories.record(0, spec=factories.spec(0, epochs=0))
    levels = levels_of(_findings([original, *cuts]))
    assert (levels[0].seeds, levels[-1].seeds) == ("", "mean of seeds 0, 1, 2")
