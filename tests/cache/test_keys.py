from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cache.store import plan_key, sheet_key
from compression.levels import target_of
from compression.spec import LatencyTarget, Target
from compression.wishes import Wish
from tests.cache.samples import make_spec

LATENCY = LatencyTarget(kept=0.5, backend="onnx", machine="a processor", backend_version="1.2.3")


@pytest.mark.parametrize(
    "same", [{"model": "/elsewhere/copy.pt"}, {"device": "0,1"}, {"data": "my-shapes"}, {"data_source": "/data.yaml"}]
)
def test_a_run_has_the_same_key_wherever_its_files_lie(same: dict[str, Any]) -> None:
    assert make_spec(**same).key == make_spec().key


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "d" * 64},
        {"weights_sha256": None},
        {"data_fingerprint": "e" * 64},
        {"level": None},
        {"target": Target(gflops_kept=0.5, params_kept=None)},
        {"target": Target(gflops_kept=None, params_kept=None, latency=LATENCY)},
        {"target": replace(target_of(5), layers=(Wish(layer="model.0", kept=1),))},
        {"head": "nms"},
        {"recipe": "plain"},
        {"epochs": 31},
        {"patience": 11},
        {"imgsz": 640},
        {"batch": 16},
        {"seed": 4},
        {"criterion": "taylor"},
        {"allocation": "uniform"},
        {"recovery": "none"},
        {"calibration_images": 64},
        {"steps": 3},
        {"align": 16},
        {"classes": (0, 2)},
    ],
)
def test_what_decides_the_result_decides_the_key(change: dict[str, Any]) -> None:
    assert make_spec(**change).key != make_spec().key


def test_keys_of_before_there_were_latencies_are_the_same() -> None:
    assert make_spec().key == "9a0831cdfb6fefa33338aba077ab7a05c66eb12fa7b9b65cd49ee9a7436f5a58"


@pytest.mark.parametrize(
    "change",
    [{"kept": 0.6}, {"backend": "openvino"}, {"threads": 2}, {"machine": "another"}, {"backend_version": "1.2.4"}],
)
def test_a_latency_is_asked_for_of_one_machine_and_one_way_to_run(change: dict[str, Any]) -> None:
    keys = [
        make_spec(level=None, target=Target(gflops_kept=None, params_kept=None, latency=latency)).key
        for latency in (LATENCY, replace(LATENCY, **change))
    ]
    assert keys[0] != keys[1]


def test_random_weights_are_told_apart_by_architecture() -> None:
    here = make_spec(model="yolo26n.yaml", weights_sha256=None)
    assert here.key == make_spec(model="configs/yolo26n.yaml", weights_sha256=None).key
    assert here.key != make_spec(model="yolo26s.yaml", weights_sha256=None).key


def test_plan_keys_are_equal_for_two_paths_of_the_same_weights() -> None:
    assert plan_key("a/x.pt", "f" * 64, 80, 640, 5) == plan_key("b/y.pt", "f" * 64, 80, 640, 5)


def test_plan_keys_differ_by_everything_that_decides_a_plan() -> None:
    keys = {
        plan_key("yolo26n.yaml", None, 80, 640, 5),
        plan_key("yolo26s.yaml", None, 80, 640, 5),
        plan_key("yolo26n.pt", "f" * 64, 80, 640, 5),
        plan_key("yolo26n.pt", "e" * 64, 80, 640, 5),
        plan_key("yolo26n.yaml", None, 10, 640, 5),
        plan_key("yolo26n.yaml", None, 80, 320, 5),
        plan_key("yolo26n.yaml", None, 80, 640, 4),
        plan_key("yolo26n.yaml", None, 80, 640, 5, (17, 3)),
        plan_key("yolo26n.yaml", None, 80, 640, 5, (4, 3)),
    }
    assert len(keys) == 9


def test_sheets_of_other_key_points_have_other_keys_and_older_keys_stay() -> None:
    asked = ("yolo26n-pose.yaml", None, 1, 640)
    assert len({sheet_key(*asked), sheet_key(*asked, (17, 3)), sheet_key(*asked, (4, 3))}) == 3
    older = "e9fed48c17d1cff4611f3cbab4b56c7df5da16c4f28df4475abe49f1e4020fe3"
    assert plan_key("yolo26n.yaml", None, 80, 640, 5) == older
