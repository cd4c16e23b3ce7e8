"""Wishes about layers as they are typed, told and kept."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cache.store import own_store
from compression import pipeline
from compression.cli.main import main
from compression.errors import SpecError
from compression.jobs.submit import submit
from compression.levels import resolve_target, target_of
from compression.pruning.planner import Planner
from compression.request import RunRequest
from compression.spec import CutMethod, RunSpec, Target
from compression.wishes import Wish, in_short, in_words, parse_wishes
from tests.compression.task_data import architecture, draw
from tests.compression.test_spec import SPEC

HALF, LOCKED, NUMBER = (
    Wish(layer="model.4.cv1", kept=0.5),
    Wish(layer="model.0", kept=1),
    Wish(layer="model.6.cv1", kept=32),
)
ONLY_LAYERS = Target(gflops_kept=None, params_kept=None, layers=(HALF, NUMBER))


def test_wishes_are_understood_as_they_are_typed() -> None:
    assert parse_wishes(["model.0"], ["model.4.cv1=0.5,model.6.cv1=32"]) == (LOCKED, HALF, NUMBER)
    assert parse_wishes(["model.0", ""], ["model.6.cv1 = 32", "model.4.cv1=50%"]) == (LOCKED, HALF, NUMBER)
    assert parse_wishes((), ["model.0=1"]) == (LOCKED,)
    assert parse_wishes((), ()) == ()


@pytest.mark.parametrize("text", ["model.0", "model.0=", "=0.5", "model.0=half", "model.0=0.5=0.6"])
def test_what_is_not_understood_is_named(text: str) -> None:
    with pytest.raises(SpecError, match=rf"--layer '{text}' is not understood; name a layer"):
        parse_wishes((), [text])


@pytest.mark.parametrize("kept", ["0", "-1", "nan", "inf", "2.5"])
def test_impossible_amounts_are_named(kept: str) -> None:
    with pytest.raises(SpecError, match=rf"model\.0 cannot keep {kept} of its channels; give a part"):
        parse_wishes((), [f"model.0={kept}"])


def test_one_layer_has_one_wish() -> None:
    assert parse_wishes(["model.0,model.0"], ["model.0=1"]) == (LOCKED,)
    with pytest.raises(SpecError, match=r"model\.0 is to keep all channels and 50%; ask for one of both"):
        parse_wishes(["model.0"], ["model.0=0.5"])


def test_wishes_in_words() -> None:
    assert in_words((LOCKED, HALF, NUMBER)) == ("model.0 locked, model.4.cv1 keeps 50%, model.6.cv1 keeps 32 channels")
    many = tuple(Wish(layer=f"model.{number}", kept=0.5) for number in range(4))
    assert in_short(many) == "4 layers as wished"


# In a target


def test_a_target_of_layers_alone() -> None:
    assert ONLY_LAYERS.parts == {}
    assert Target(gflops_kept=None, params_kept=None, layers=(NUMBER, HALF)) == ONLY_LAYERS
    assert Target.from_dict(json.loads(json.dumps(asdict(ONLY_LAYERS)))) == ONLY_LAYERS
    with pytest.raises(SpecError, match=r"With model\.0 locked and nothing else asked for there is nothing to cut"):
        Target(gflops_kept=None, params_kept=None, layers=(LOCKED,))


def test_wishes_stand_beside_a_level_or_a_target_or_alone() -> None:
    assert resolve_target(3, None, (LOCKED,)) == replace(target_of(3), layers=(LOCKED,))
    half = Target(gflops_kept=0.5, params_kept=None)
    assert resolve_target(None, half, (LOCKED,)) == replace(half, layers=(LOCKED,))
    assert resolve_target(None, None, (HALF, NUMBER)) == ONLY_LAYERS
    with pytest.raises(SpecError, match="Level 0 is the original, of which nothing is cut"):
        resolve_target(0, None, (HALF,))


def test_a_target_of_before_there_were_wishes_is_read_and_keeps_its_key() -> None:
    before = SPEC.to_dict()
    del before["target"]["layers"]
    assert RunSpec.from_dict(before) == SPEC
    # As it was before there were wishes.
    assert SPEC.key == "dd98adeb9ba5d207d96e45102f6c4e33a4fbf77e63c7e31fa241b63290f433be"


def test_wishes_decide_the_key_whatever_their_order() -> None:
    keys = [
        replace(SPEC, target=replace(SPEC.target, layers=layers)).key
        for layers in ((), (HALF,), (replace(HALF, kept=0.25),), (HALF, LOCKED), (LOCKED, HALF))
    ]
    assert len(set(keys)) == 4
    assert keys[3] == keys[4]
    spec = replace(SPEC, level=None, target=ONLY_LAYERS)
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))).key == spec.key


def test_layers_are_cut_in_one_step() -> None:
    with pytest.raises(SpecError, match="Layers are cut as wished in one step; leave --steps 3 out"):
        replace(SPEC, steps=3, target=replace(SPEC.target, layers=(HALF,)))


# In a request


def test_a_request_is_typed_and_stored_with_its_wishes() -> None:
    request = RunRequest(model="best.pt", data="shapes", layers=(NUMBER, LOCKED, HALF), epochs=0)
    assert request.arguments()[2:4] == ("--lock=model.0", "--layer=model.4.cv1=0.5,model.6.cv1=32")
    assert request.command() == (
        "trimboard run best.pt --data=shapes --lock=model.0 --layer=model.4.cv1=0.5,model.6.cv1=32 --epochs=0"
    )
    assert RunRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    of_before = {name: value for name, value in request.to_dict().items() if name != "layers"}
    assert RunRequest.from_dict(of_before) == replace(request, layers=())


def test_wishes_of_a_target_are_typed_too() -> None:
    request = RunRequest(model="best.pt", data="shapes", target=ONLY_LAYERS)
    assert request.arguments()[2] == "--layer=model.4.cv1=0.5,model.6.cv1=32"


def test_more_than_all_is_refused() -> None:
    with pytest.raises(SpecError, match=r"asks for more than the layer has; give at most 100%"):
        parse_wishes((), ["model.4.cv1=200%"])


# Before anything is queued


def test_wishes_of_each_level_are_checked_before_anything_is_queued(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, model = draw(tmp_path / "data", "detect"), architecture(tmp_path, "detect")
    sweep = ["sweep", str(model), "--data", str(data), "--imgsz", "64", "--device", "cpu", "--levels", "0,1"]
    for wish in (["--lock", "model.77"], ["--layer", "model.77=0.5"]):
        with pytest.raises(SystemExit) as stopped:
            main([*sweep, *wish])
        assert stopped.value.code == 2
        assert "'model.77'" in capfd.readouterr().err
    assert own_store().queue.runs() == []


def test_the_same_wishes_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = draw(tmp_path / "data", "detect"), architecture(tmp_path, "detect")
    checked: list[int] = []

    def noting(*arguments: Any, align: int) -> Planner:
        checked.append(align)
        return Planner(*arguments, align=align)

    monkeypatch.setattr(pipeline, "Planner", noting)
    submit(
        [
            RunRequest(
                model=str(model),
                data=str(data),
                level=level,
                layers=(LOCKED,) if level else (),
                imgsz=64,
                device="cpu",
                method=CutMethod(align=align),
                seed=seed,
            )
            for align in (8, 16)
            for seed in (0, 1)
            for level in (0, 1, 2)
        ]
    )
    assert checked == [8, 16]
    assert len(own_store().queue.runs()) == 12
