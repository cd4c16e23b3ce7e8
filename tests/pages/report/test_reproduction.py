"""The command that repeats a result asks the same question."""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cache.record import RunRecord
from compression.cli import main as cli
from compression.levels import target_of
from compression.request import RunRequest
from compression.spec import LatencyTarget, RunSpec, Target
from pages.report.reproduction import Reproduction, reproduction_of
from tests import factories

LATENCY = LatencyTarget(kept=0.7, backend="onnx", machine="a processor", backend_version="1.2", threads=2)


def _repeat(record: RunRecord) -> Reproduction:
    found = reproduction_of(record)
    assert found is not None
    return found


def _of(**changes: Any) -> RunRecord:
    return factories.record(3, spec=factories.spec(**changes))


def _typed(command: str, monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    """The request that `trimboard run` makes of a command."""
    asked: list[RunRequest] = []

    def take(options: argparse.Namespace, results: object) -> None:
        (level, _), *_ = cli._targets(options).items()
        target, layers, method = cli._custom_target(options), cli._layers(options), cli._method(options)
        asked.append(cli._request(options, level=level, target=target, layers=layers, method=method, seed=options.seed))

    monkeypatch.setattr(cli, "_run", take)
    # What asks the machine for its backends imports torch.
    backends = SimpleNamespace(latency_target=lambda *given: LATENCY)
    monkeypatch.setitem(sys.modules, "compression.pruning.latency_target", backends)
    program, *arguments = shlex.split(command)
    assert program == "trimboard"
    cli.main(arguments)
    return asked[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"level": 0, "epochs": 0},
        {"level": 5, "model": "my weights/-best.pt", "data_source": "cells/data.yaml", "device": "0,1", "seed": 7},
        {"recipe": "plain", "epochs": 30, "patience": 9, "batch": 4, "imgsz": 512, "head": "nms", "steps": 3},
        {"criterion": "l2", "allocation": "uniform", "recovery": "none", "calibration_images": 0, "align": 16},
        {"level": None, "target": Target(gflops_kept=0.4, params_kept=0.5), "classes": (0, 2)},
        {"level": None, "target": Target(gflops_kept=None, params_kept=None, latency=LATENCY)},
        {"level": None, "target": Target(gflops_kept=None, params_kept=0.6, latency=LATENCY), "align": 32},
        {"model": "yolo26s.yaml", "weights_sha256": None, "level": 1},
    ],
)
def test_the_command_asks_the_same_question(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"level": 3, **changes}
    target = {} if values["level"] is None else {"target": target_of(values["level"])}
    record = _of(**{**values, **target})
    spec = record.spec
    assert spec is not None
    typed = _typed(_repeat(record).command, monkeypatch)
    assert typed.imgsz is not None
    again = replace(
        spec,
        model=typed.model,
        data_source=typed.data if spec.data_source else "",
        level=typed.level,
        target=typed.target or target_of(typed.level or 0),
        classes=tuple(map(int, filter(None, typed.classes.split(",")))),
        recipe=typed.recipe,
        **{name: getattr(typed.method, name) for name in ("criterion", "allocation", "recovery", "align")},
        calibration_images=typed.method.calibration_images,
        steps=typed.steps,
        epochs=typed.epochs,
        patience=typed.patience,
        imgsz=typed.imgsz,
        batch=typed.batch,
        seed=typed.seed,
        device=typed.device,
        head=typed.head or "e2e",
    )
    assert again == spec
    assert typed.data == (spec.data_source or spec.data)


def test_what_is_so_by_default_is_left_out() -> None:
    assert (
        _repeat(_of(epochs=100, imgsz=640)).command
        == "trimboard run yolo26n.pt --data=shapes --level=3 --imgsz=640 --head=e2e"
    )


@pytest.mark.parametrize(
    ("changes", "command", "note"),
    [
        ({"model": "best.pt"}, "run best.pt --data=shapes", "best.pt has to be the file with SHA-256 abab"),
        (
            {"model": "best"},
            "run WEIGHTS.pt --data=shapes",
            "the checkpoint of 'best', which is known here by its SHA-256 only",
        ),
        ({"model": "yolo26n", "weights_sha256": None}, "run yolo26n.yaml --data=shapes", ""),
        ({"model": "own", "weights_sha256": None}, "run ARCHITECTURE.yaml", "the file that describes 'own'"),
        (
            {"data": "cells"},
            "--data=DATA.yaml",
            "the data.yaml of 'cells', which is known here by its fingerprint only: cdcd",
        ),
        (
            {"data": "cells", "data_source": "in/cells.yaml"},
            "--data=in/cells.yaml",
            "has to be the data set with fingerprint cd",
        ),
        ({"data": "coco [a]", "classes": (1,), "data_source": "coco [a]"}, "--data=coco ", ""),
    ],
)
def test_what_a_result_does_not_know_is_said(changes: dict[str, Any], command: str, note: str) -> None:
    found = _repeat(_of(**changes))
    assert command in found.command
    assert note in " ".join(found.notes)
    assert bool(found.notes) == bool(note) or changes.get("weights_sha256", "") is not None


def test_a_commit_with_changes_and_another_machine_are_said() -> None:
    asked = Target(gflops_kept=None, params_kept=None, latency=LATENCY)
    record = replace(_of(level=None, target=asked), environment={"commit": "0123456 with changes"})
    notes = " ".join(_repeat(record).notes)
    assert "commit 0123456 with changes that are in no commit" in notes
    assert "on a processor with onnx 1.2; elsewhere" in notes


def test_what_was_published_is_not_repeated_here() -> None:
    assert reproduction_of(factories.published()) is None


def test_a_spec_without_places_names_none() -> None:
    record = _of(model="/home/ada/best.pt", data="cells", data_source="/home/ada/cells/data.yaml").without_places()
    found = _repeat(record)
    assert "/home" not in found.command + "".join(found.notes)
    assert isinstance(record.spec, RunSpec)
