"""A cost sheet, after a trip through JSON, computes what the engine does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cache.record import RecordError
from cache.store import own_store, plan_key, sheet_key
from compression.graph.cost_sheet import CostSheet, parse_sheet
from compression.levels import target_of
from compression.pruning.cut import plan_all
from compression.spec import Target
from pages.parts.conditions import find_data, plan_question
from pages.parts.jobs.planning import find_plans
from pages.parts.source import Source
from tests.compression.small_models import DEEP, FAMILIES, LEVEL_5, plan, planner
from tests.compression.task_data import architecture

families = pytest.mark.parametrize("name", FAMILIES)


def stored(name: str) -> CostSheet:
    return parse_sheet(json.dumps(planner(name).costs.to_dict()))


@families
@pytest.mark.parametrize("target", [LEVEL_5, DEEP])
def test_a_stored_sheet_gives_costs_and_rows_of_a_plan(name: str, target: Target) -> None:
    sheet, cut = stored(name), plan(name, target)
    kept = np.array([len(channels) for channels in cut.kept], dtype=np.float64)
    assert sheet.costs(sheet.widths) == cut.before
    assert sheet.costs(kept) == cut.after
    assert sheet.rows(kept) == cut.layers


@families
def test_many_plans_cost_the_same_by_both(name: str) -> None:
    ours, sheet = planner(name).costs, stored(name)
    draw = np.random.default_rng(0)
    plans = np.ceil(ours.widths[:, None] * draw.uniform(0.2, 1, (len(ours.widths), 7)))
    for mine, theirs in zip(ours.training_costs(plans), sheet.training_costs(plans), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("damage", [{"version": 99}, {"layers": [{"name": 1}]}, {"groups": [[]]}, {"ties": 3}])
def test_a_damaged_sheet_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="cost sheet"):
        parse_sheet(json.dumps({**planner("yolov8n").costs.to_dict(), **damage}))


@pytest.mark.parametrize("text", ["no json", "[]"])
def test_what_is_no_sheet_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_sheet(text)


def test_planning_without_images_keeps_the_sheet_for_the_page() -> None:
    (made,) = plan_all("yolo26n.yaml", {3: target_of(3)}, imgsz=64)
    sheet = own_store().find_sheet(sheet_key("yolo26n.yaml", None, 80, 64))
    assert sheet is not None
    assert sheet.costs(sheet.widths) == made.before
    # Neither is taken for the other.
    assert own_store().find_plan(sheet_key("yolo26n.yaml", None, 80, 64)) is None
    assert own_store().find_sheet(plan_key("yolo26n.yaml", None, 80, 64, 3)) is None


def test_key_points_of_two_data_sets_have_two_sheets_and_plans(tmp_path: Path) -> None:
    model, seen = str(architecture(tmp_path, "pose")), []
    for points in (3, 5):
        data = tmp_path / f"points-{points}.yaml"
        data.write_text(f"train: images\nval: images\nnames: [wide, tall]\nkpt_shape: [{points}, 3]\n")
        (made,) = plan_all(model, {1: target_of(1)}, imgsz=64, data=str(data))
        found = find_data(data.stem, str(data), [])
        question = plan_question(Source(model=model, weights_sha256=None), "tiny-pose", found, 64, None)
        assert question is not None
        assert find_plans(own_store(), question, [1]) == {1: made}
        sheet = own_store().find_sheet(question.sheet_key)
        assert sheet is not None
        assert sheet.costs(sheet.widths) == made.before
        seen.append(made.before)
    assert seen[0] != seen[1]


def test_arithmetic_needs_no_torch() -> None:
    code = "import sys, compression.graph.layer_groups, compression.graph.cost_sheet; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
