from __future__ import annotations

import json
from typing import Any

import pytest

from cache.published import load_published
from cache.record import PlanRecord, RecordError, RunRecord, parse_plan, parse_record
from compression.spec import RunSpec
from tests.cache.samples import make_plan, make_record, make_spec

OF_SOME_CLASSES = make_record(make_spec(classes=(0, 2), steps=3), metrics_pruned=None, metrics_recovered=None)


@pytest.mark.parametrize("record", [make_record(), OF_SOME_CLASSES, load_published()[0]])
def test_a_record_survives_json(record: RunRecord) -> None:
    assert parse_record(json.dumps(record.to_dict())) == record


def test_a_plan_survives_json() -> None:
    assert parse_plan(json.dumps(make_plan().to_dict())) == make_plan()


def test_a_spec_survives_json() -> None:
    assert RunSpec.from_dict(json.loads(json.dumps(make_spec().to_dict()))) == make_spec()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 99}, "version 99"),
        ({"colour": "red"}, "colour"),
        ({"costs": {"gflops": 1.0}}, "params"),
        ({"costs": None}, "cannot be read"),
        ({"spec": {"version": 98}}, "version 98"),
    ],
)
def test_another_form_of_record_is_refused_with_a_reason(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecordError, match=complaint):
        RunRecord.from_dict(make_record().to_dict() | change)


def test_a_plan_for_an_impossible_target_is_refused() -> None:
    with pytest.raises(RecordError, match=r"0\.1 of the GFLOPs"):
        PlanRecord.from_dict(make_plan().to_dict() | {"target": {"gflops_kept": 0.1, "params_kept": None}})


@pytest.mark.parametrize("text", ["", "{half", "[1, 2]", "null"])
def test_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        parse_record(text)
