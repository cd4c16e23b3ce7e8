"""Requests as they are typed, stored and typed again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from compression.errors import SpecError
from compression.request import RunRequest
from compression.spec import CutMethod, Target

REQUEST = RunRequest(
    model="yolo26n.yaml",
    data="shapes",
    level=3,
    recipe="plain",
    epochs=1,
    patience=5,
    imgsz=64,
    batch=2,
    device="cpu",
)


def test_a_request_is_the_command_line_that_a_user_would_type() -> None:
    assert " ".join(REQUEST.arguments()) == (
        "yolo26n.yaml --data=shapes --level=3 --epochs=1 --patience=5 --imgsz=64 --batch=2 --seed=0 --recipe=plain "
        "--criterion=obs --allocation=budget --recovery=least_squares --calibration-images=256 --align=8 "
        "--steps=1 --device=cpu"
    )


def test_method_classes_and_head_are_part_of_it() -> None:
    method = CutMethod(criterion="taylor", allocation="uniform", recovery="none", calibration_images=64, align=16)
    request = replace(REQUEST, method=method, steps=3, classes="disc,-ring", head="nms", device="")
    assert request.arguments()[9:] == (
        *("--criterion=taylor", "--allocation=uniform", "--recovery=none", "--calibration-images=64", "--align=16"),
        *("--steps=3", "--classes=disc,-ring", "--head=nms"),
    )


def test_a_size_is_told_unless_it_is_the_models_own() -> None:
    # A catalog's name may stand for a file here, whose own size is known once it is open.
    command = RunRequest(model="yolo26n.pt", data="shapes", level=3).command()
    assert command == "trimboard run yolo26n.pt --data=shapes --level=3"
    assert replace(REQUEST, imgsz=640).command().count("--imgsz=640") == 1
    assert not any("imgsz" in argument for argument in replace(REQUEST, imgsz=None).arguments())


def test_what_is_to_be_measured_again_says_so() -> None:
    assert replace(REQUEST, again=True).command().endswith(" --again")


def test_a_custom_target_names_what_it_keeps() -> None:
    request = replace(REQUEST, level=None, target=Target(gflops_kept=0.4, params_kept=None))
    assert request.arguments()[1:4] == ("--data=shapes", "--keep-gflops=0.4", "--epochs=1")


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        replace(REQUEST, imgsz=None),
        replace(REQUEST, level=None, target=Target(gflops_kept=0.4, params_kept=0.5), classes="0"),
        replace(REQUEST, again=True),
    ],
)
def test_a_stored_request_is_the_same(request_: RunRequest) -> None:
    assert RunRequest.from_dict(json.loads(json.dumps(request_.to_dict()))) == request_


@pytest.mark.parametrize("damage", [{"target": {"gflops": 1}}, {"method": None}, {"depth": 3}])
def test_a_damaged_request_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="stored request cannot be read"):
        RunRequest.from_dict({**REQUEST.to_dict(), **damage})
