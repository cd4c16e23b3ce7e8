from __future__ import annotations

import pytest

from cache.published import load_published
from cache.record import Costs, Metrics, RunRecord

# Deployed parameters (M), deployed GFLOPs, mAP50-95 nms and e2e (%), training graph's parameters (M) and GFLOPs, as the
# official tables print them.
OFFICIAL = {
    "yolo26n": (2.4, 5.4, 40.9, 40.1, 2.57, 6.1),
    "yolo26s": (9.5, 20.7, 48.6, 47.8, 10.01, 22.8),
    "yolo26m": (20.4, 68.2, 53.1, 52.5, 21.90, 75.4),
    "yolo26l": (24.8, 86.4, 55.0, 54.4, 26.30, 93.8),
    "yolo26x": (55.7, 193.9, 57.5, 56.9, 58.99, 209.5),
}


def _one(model: str, level: int, head: str) -> RunRecord:
    (record,) = [r for r in load_published() if (r.model, r.level, r.head) == (model, level, head)]
    return record


def test_the_aiminify_table() -> None:
    record = _one("yolo26s", 5, "e2e")
    assert record.costs_original == Costs(gflops=22.8, params=10_000_000, gflops_deployed=None, params_deployed=None)
    assert record.costs == Costs(gflops=17.7, params=7_500_000, gflops_deployed=None, params_deployed=None)
    assert record.metrics_original == Metrics(map50=0.641, map50_95=0.476, precision=0.693, recall=0.583)
    assert record.metrics == Metrics(map50=0.590, map50_95=0.428, precision=0.680, recall=0.538)
    assert (record.data, record.imgsz) == ("coco", 640)
    assert record.published_training == {"recipe": "plain", "epochs": 100}
    assert record.source is not None
    assert "aiminify.com" in record.source


@pytest.mark.parametrize("model", OFFICIAL)
def test_the_official_family(model: str) -> None:
    params_deployed, gflops_deployed, nms, e2e, params, gflops = OFFICIAL[model]
    for head, accuracy in (("nms", nms), ("e2e", e2e)):
        record = _one(model, 0, head)
        assert record.metrics == Metrics(map50=None, map50_95=round(accuracy / 100, 3), precision=None, recall=None)
        assert record.costs.params is not None
        assert round(record.costs.params / 1e6, 2) == params
        assert record.costs.gflops == gflops
        assert record.costs.gflops_deployed == gflops_deployed
        assert record.costs.params_deployed == pytest.approx(params_deployed * 1e6)
        assert (record.data, record.imgsz, record.architecture) == ("coco", 640, model)


def test_published_results_are_marked_and_have_keys_of_their_own() -> None:
    records = load_published()
    assert len(records) == 11
    assert len({record.key for record in records}) == 11
    assert {(record.provenance, record.spec) for record in records} == {("published", None)}
    assert all(record.source and record.warnings for record in records)


def test_level_0_is_its_own_original() -> None:
    originals = [record for record in load_published() if record.level == 0]
    assert len(originals) == 10
    for record in originals:
        assert record.costs == record.costs_original
        assert record.metrics == record.metrics_original
