"""The run specification: what makes two questions equal, its round trip, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from compression.catalog import model_label
from compression.errors import SpecError, TrimboardError
from compression.spec import RunSpec, Target, parse_recipe

SPEC = RunSpec(
    model="yolo26n.pt",
    weights_sha256="ab" * 32,
    data="shapes",
    data_fingerprint="cd" * 32,
    level=5,
    target=Target(gflops_kept=0.78, params_kept=0.75),
    head="e2e",
)
FROM_SCRATCH = replace(SPEC, model="yolo26n.yaml", weights_sha256=None)


def test_import_is_free_of_torch() -> None:
    code = "import sys, compression.spec, compression.levels, compression.home; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Key


def test_key_is_a_sha256_and_the_same_in_any_process() -> None:
    assert len(SPEC.key) == 64
    assert int(SPEC.key, 16) > 0
    assert replace(SPEC).key == SPEC.key


@pytest.mark.parametrize("device", ["cpu", "0", "0,1"])
def test_device_does_not_decide(device: str) -> None:
    assert replace(SPEC, device=device).key == SPEC.key


def test_place_of_weights_and_data_does_not_decide() -> None:
    assert replace(SPEC, model="/elsewhere/best.pt").key == SPEC.key
    assert replace(SPEC, data="my-shapes", data_source="/elsewhere/data.yaml").key == SPEC.key


def test_without_places_is_the_same_question() -> None:
    typed = replace(SPEC, model="/home/me/best.pt", data_source="/home/me/shapes/data.yaml")
    bare = typed.without_places()
    assert (bare.model, bare.data_source) == ("best", "shapes")
    assert bare.key == typed.key


def test_without_weights_the_architecture_decides() -> None:
    assert replace(FROM_SCRATCH, model="configs/yolo26n.yaml").key == FROM_SCRATCH.key
    assert replace(FROM_SCRATCH, model="yolo26s.yaml").key != FROM_SCRATCH.key


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "ef" * 32},
        {"data_fingerprint": "ef" * 32},
        {"level": None},
        {"target": Target(gflops_kept=0.78, params_kept=None)},
        {"head": "nms"},
        {"recipe": "plain"},
        {"epochs": 3},
        {"patience": 5},
        {"imgsz": 320},
        {"batch": 8},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_all_else_decides(change: dict[str, Any]) -> None:
    assert replace(SPEC, **change).key != SPEC.key


# Round trip


@pytest.mark.parametrize("spec", [SPEC, FROM_SCRATCH, replace(SPEC, level=None, device="0,1")])
def test_round_trip_through_json(spec: RunSpec) -> None:
    back = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec
    assert back.key == spec.key


def test_from_dict_leaves_its_argument_alone() -> None:
    values = SPEC.to_dict()
    RunSpec.from_dict(values)
    assert values == SPEC.to_dict()


@pytest.mark.parametrize("version", [None, 0, 99, "1"])
def test_other_versions_are_refused(version: object) -> None:
    with pytest.raises(SpecError, match=f"version {version!r}"):
        RunSpec.from_dict({**SPEC.to_dict(), "version": version})


def test_unknown_and_missing_fields_are_refused() -> None:
    values = SPEC.to_dict()
    with pytest.raises(SpecError, match="colour"):
        RunSpec.from_dict({**values, "colour": "red"})
    wish = {"layer": "model.0", "kept": "abc"}
    with pytest.raises(SpecError, match="A stored run specification cannot be read"):
        RunSpec.from_dict({**values, "target": {**values["target"], "layers": [wish]}})
    del values["head"]
    with pytest.raises(SpecError, match="head"):
        RunSpec.from_dict(values)


def test_spec_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SPEC.epochs = 1  # type: ignore[misc]


# Errors


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipe", "fancy"),
        ("criterion", "magic"),
        ("head", "both"),
        ("epochs", -1),
        ("epochs", 1.5),
        ("patience", 0),
        ("imgsz", 16),
        ("batch", 0),
        ("batch", True),
        ("seed", -3),
    ],
)
def test_impossible_values_are_named(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=rf"{field} {value!r}") as caught:
        replace(SPEC, **{field: value})  # type: ignore[arg-type]
    assert isinstance(caught.value, TrimboardError)
    assert any(word in str(caught.value) for word in ("choose one of", "give a whole number"))


@pytest.mark.parametrize("align", [0, 2, 7, 64, True, "16"])
def test_steps_are_a_power_of_two_that_kernels_know(align: object) -> None:
    with pytest.raises(
        SpecError, match=rf"Steps of {align!r} channels are not possible; choose one of 1, 4, 8, 16, 32"
    ):
        replace(SPEC, align=align)  # type: ignore[arg-type]


def test_results_of_before_there_was_a_choice_of_steps_keep_their_keys() -> None:
    before = {name: value for name, value in SPEC.to_dict().items() if name != "align"}
    assert RunSpec.from_dict(before) == SPEC
    assert replace(SPEC, align=8).key == SPEC.key
    assert replace(SPEC, align=16).key != SPEC.key


def test_target_limits() -> None:
    assert Target(gflops_kept=0.2, params_kept=1.0).gflops_kept == 0.2
    with pytest.raises(SpecError, match=r"Keeping 0\.1 of the GFLOPs is not possible; give a part from 0\.2 to 1"):
        Target(gflops_kept=0.1, params_kept=None)
    with pytest.raises(SpecError, match=r"Keeping 1\.2 of the parameters"):
        Target(gflops_kept=None, params_kept=1.2)
    with pytest.raises(SpecError, match="nan"):
        Target(gflops_kept=float("nan"), params_kept=None)
    with pytest.raises(SpecError, match="--keep-gflops"):
        Target(gflops_kept=None, params_kept=None)


def test_parse_recipe() -> None:
    assert parse_recipe("plain") == "plain"
    with pytest.raises(SpecError, match="no recipe 'Plain'; choose one of standard, plain"):
        parse_recipe("Plain")


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("yolo26s.pt", "yolo26s"),
        ("yolo26s.yaml", "yolo26s"),
        ("yolo26s", "yolo26s"),
        ("my models/best.v2.pt", "best.v2"),
        ("C:\\models\\best.pt", "best"),
    ],
)
def test_model_label(model: str, label: str) -> None:
    assert model_label(model) == label
