from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cache.record import Costs, EpochRow, RunRecord
from cache.shipped import load_shipped
from cache.strict import misfit
from tests.cache.samples import EPOCH, LAYER, make_record, make_spec

RECORD = make_record()


@pytest.mark.parametrize(
    "record", [RECORD, make_record(metrics_pruned=None, level=None), *load_shipped().by_key.values()]
)
def test_real_results_fit(record: Any) -> None:
    assert misfit(getattr(record, "record", record), RunRecord) is None


def _with(part: Any, **changes: Any) -> Any:
    """Changed as no type checker would let it pass."""
    return replace(part, **changes)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"level": "5"}, "level"),
        ({"level": True}, "level"),
        ({"provenance": "guessed"}, "provenance"),
        ({"imgsz": 320.5}, "imgsz"),
        ({"model": None}, "model"),
        ({"costs": _with(RECORD.costs, gflops="2")}, "costs.gflops"),
        ({"costs": {"gflops": 2.0}}, "costs"),
        ({"metrics": _with(RECORD.metrics, per_class={"disc": "0.5"})}, "metrics.per_class"),
        ({"metrics": _with(RECORD.metrics, per_class=["disc"])}, "metrics.per_class"),
        ({"metrics_pruned": _with(RECORD.metrics, map50="x")}, "metrics_pruned"),
        ({"layers": (LAYER, _with(LAYER, params_after="1"))}, "layers.params_after"),
        ({"curve": (_with(EPOCH, losses={1: 0.5}),)}, "curve.losses"),
        ({"curve": [EPOCH]}, "curve"),
        ({"warnings": ("a", 1)}, "warnings"),
        ({"environment": {"gpu": None}}, "environment"),
        ({"spec": _with(make_spec(), model=3)}, "spec"),
    ],
)
def test_the_first_misfit_is_named(changes: dict[str, Any], path: str) -> None:
    assert misfit(replace(RECORD, **changes), RunRecord) == path


def test_a_whole_number_is_a_number() -> None:
    assert misfit(Costs(gflops=2, params=1, gflops_deployed=None, params_deployed=None), Costs) is None
    assert misfit(replace(EPOCH, lr=1), EpochRow) is None
