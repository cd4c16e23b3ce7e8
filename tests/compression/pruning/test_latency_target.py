"""Cuts for a latency: planned again until the measured time is what was asked for, and known from then on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from cache.latency import LatencyRecord, LatencySpec
from cache.layer_times import LayerTime, LayerTimesRecord, LayerTimesSpec, TimedForm
from cache.store import own_store
from compression.cli.main import main
from compression.deployment import latency, layer_times
from compression.deployment.backends import Setting
from compression.deployment.latency import Timed
from compression.errors import SpecError, TargetError
from compression.graph.costs import shown_as
from compression.home import home
from compression.models.detector import read_checkpoint
from compression.pruning import latency_target
from compression.pruning.cut import plan
from compression.pruning.latency_target import NEAR_ENOUGH
from compression.pruning.planner import Planner, PruningPlan
from compression.request import RunRequest
from compression.spec import LatencyTarget, Target
from compression.telling import Tell

IMGSZ = 64


def target(kept: float = 0.6, **changes: Any) -> Target:
    asked = replace(latency_target.latency_target(kept, "torch", 1), **changes)
    return Target(gflops_kept=None, params_kept=None, latency=asked)


def form_of(file: Path) -> TimedForm:
    """Times of a device of which one multiplication takes as long in any layer."""
    convolutions = ((name, one) for name, one in read_checkpoint(file)[0].named_modules() if isinstance(one, nn.Conv2d))
    layers = [
        LayerTime(
            name=shown_as(name),
            channels_in=one.in_channels // one.groups,
            channels_out=one.out_channels,
            ms=0.01 + 1e-6 * one.weight.numel(),
        )
        for name, one in convolutions
    ]
    return TimedForm(layers=tuple(layers), rest_ms=0.1)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A device without noise whose whole passes gain less than the sum of its layers; the ratios that it measured."""
    ratios: list[float] = []

    def layers(forms: Sequence[Timed], spec: LayerTimesSpec, setting: Setting, *, tell: Tell) -> LayerTimesRecord:
        record = LayerTimesRecord(
            spec=spec,
            model="m",
            level=None,
            forms=tuple(form_of(form.checkpoint) for form in forms),
            environment={},
            created="",
        )
        own_store().save_layer_times(record)
        return record

    def whole(subjects: Sequence[Timed], reference: Timed, setting: Setting, *, tell: Tell) -> list[LatencyRecord]:
        ms, of_reference = (form_of(one.checkpoint).total_ms for one in (subjects[0], reference))
        ratios.append((ms / of_reference) ** 0.8)
        spec: LatencySpec = latency.latency_spec(subjects[0].sha256, reference.sha256, setting)
        record = LatencyRecord(
            spec=spec,
            model="m",
            level=None,
            median_ms=ms,
            p95_ms=ms,
            n_passes=1,
            ratio=ratios[-1],
            ratio_low=ratios[-1],
            ratio_high=ratios[-1],
            peak_memory_mb=0.0,
            size_bytes=0,
            environment={},
            created="",
        )
        own_store().save_latency(record)
        return [record]

    # A layer's time has two parts here, for which few widths are enough.
    monkeypatch.setattr(latency_target, "N_WIDTHS", 3)
    monkeypatch.setattr(latency_target, "time_and_store", layers)
    monkeypatch.setattr(latency_target, "measure", whole)
    return ratios


def test_a_cut_is_planned_again_until_what_is_measured_is_what_was_asked_for(device: list[float]) -> None:
    made = plan("yolo26n.yaml", target=target(), imgsz=IMGSZ)
    assert made.time is not None
    assert len(device) > 1
    assert abs(device[0] / 0.6 - 1) > NEAR_ENOUGH
    assert made.time.measured_kept == device[-1] == pytest.approx(0.6, rel=NEAR_ENOUGH)
    # The prediction is told as it was, although it erred.
    assert made.time.predicted_kept == pytest.approx(device[-1] ** (1 / 0.8), abs=0.005)
    assert (made.target, made.level, made.warnings) == (target(), None, ())


def test_the_nearest_plan_is_kept_where_the_corrected_goal_is_out_of_reach(
    device: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Planner.plan

    def only_once(planner: Planner, asked: Target) -> PruningPlan:
        if device:
            raise TargetError("out of reach")
        return ask(planner, asked)

    monkeypatch.setattr(Planner, "plan", only_once)
    made = plan("yolo26n.yaml", target=target(), imgsz=IMGSZ)
    assert made.time is not None
    assert made.time.measured_kept == device[0]
    assert "were measured of the nearest cut that was found" in made.warnings[0]


def test_a_latency_for_another_machine_needs_its_times(device: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as caught:
        plan("yolo26n.yaml", target=target(machine="another processor", backend_version="9"), imgsz=IMGSZ)
    assert str(caught.value) == (
        "This latency is for torch 9 on another processor, of which no times of yolo26n's layers are stored here; run "
        "it there, or ask for a latency on this machine."
    )
    monkeypatch.setattr(latency_target, "MAX_PLANS", 1)
    here = target()
    made = plan("yolo26n.yaml", target=here, imgsz=IMGSZ)
    monkeypatch.setattr(latency_target, "_is_here", lambda latency: False)
    n_measured = len(device)
    assert plan("yolo26n.yaml", target=here, imgsz=IMGSZ).time == made.time
    deeper = replace(here, latency=replace(here.latency or latency_target.latency_target(1, "torch", 1), kept=0.5))
    unmeasured = plan("yolo26n.yaml", target=deeper, imgsz=IMGSZ)
    assert len(device) == n_measured
    assert unmeasured.time is not None
    assert unmeasured.time.measured_kept is None
    assert unmeasured.time.predicted_kept == pytest.approx(0.5, abs=0.005)
    assert len(unmeasured.warnings) == 1
    assert unmeasured.warnings[0].endswith("is another machine than this.")


def test_a_request_for_a_latency_travels_with_its_machine() -> None:
    request = RunRequest(model="a.pt", data="shapes", target=target())
    assert RunRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert {"--keep-latency=0.6", "--backend=torch", "--threads=1"} <= set(request.arguments())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--keep-latency", "0.1"), "Keeping 0.1 of the latency is not possible; give a part from 0.2 to 1."),
        (
            ("--keep-latency", "0.5", "--level", "1"),
            "Give either --level, or what to keep: --keep-gflops or --keep-latency",
        ),
        (
            ("--keep-latency", "0.5", "--keep-gflops", "0.5"),
            "Keeping 0.5 of the GFLOPs and 0.5 of the latency contradict",
        ),
        (("--keep-latency", "0.5", "--threads", "0"), "threads 0 is not possible; give a whole number from 1 up."),
        (("--keep-latency", "0.5", "--backend", "tensorrt"), "Backend tensorrt tells no times of single layers"),
        (("--keep-latency", "0.5", "--backend", "cuda"), "Backend cuda is left out: this machine has no NVIDIA GPU"),
    ],
)
def test_faults_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compression.deployment.backends.torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "yolo26n.yaml", "--backend", "torch", *arguments])
    assert stopped.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert sentence in line


def test_a_latency_is_reached_in_one_step(tiny_shapes: Path, capfd: pytest.CaptureFixture[str]) -> None:
    question = ("--data", str(tiny_shapes), "--keep-latency", "0.5", "--backend", "torch", "--steps", "2")
    with pytest.raises(SystemExit):
        main(["run", "yolo26n.yaml", *question])
    assert "A latency is reached in one step; leave --steps 2 out." in capfd.readouterr().err


def test_a_user_plans_and_cuts_for_a_latency_that_is_really_measured(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "N_ROUNDS", 2)
    monkeypatch.setattr(layer_times, "N_ROUNDS", 2)
    monkeypatch.setattr(latency_target, "N_WIDTHS", 3)
    monkeypatch.setattr(latency_target, "MAX_PLANS", 1)
    question = ("yolo26n.yaml", "--keep-latency", "0.8", "--backend", "torch", "--imgsz", "64")
    main(["plan", *question, "--json"])
    first = json.loads(capfd.readouterr().out)
    assert first["target"]["latency"]["backend"] == "torch"
    assert first["time"]["predicted_kept"] == pytest.approx(0.8, abs=0.01)
    assert first["time"]["measured_low"] <= first["time"]["measured_kept"] <= first["time"]["measured_high"]
    # Nothing but the times is left of what was timed.
    assert not list((home() / "exports").glob("widths-*"))

    monkeypatch.setattr(latency, "take_turns", None)
    monkeypatch.setattr(layer_times, "take_turns", None)
    file = tmp_path / "cut.pt"
    main(["prune", *question, "--out", str(file)])
    written = capfd.readouterr().out
    assert f"80% asked for, predicted {100 * first['time']['predicted_kept']:.1f}%" in written
    assert f"measured {100 * first['time']['measured_kept']:.1f}%" in written
    assert read_checkpoint(file)[1]["time"] == first["time"]


def test_a_latency_knows_its_bounds() -> None:
    with pytest.raises(SpecError, match="There is no backend 'tpu'"):
        LatencyTarget(kept=0.5, backend="tpu", machine="m", backend_version="1")  # type: ignore[arg-type]
