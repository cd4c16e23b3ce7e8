"""Levels, precisions and sizes side by side: real files, each validated as it lies there and timed against level 0."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ultralytics import YOLO

from cache.accuracy import AccuracyRecord, parse_accuracy
from cache.latency import LatencyRecord, parse_latency
from cache.record import RunRecord
from cache.shipped import SHIPPED
from cache.store import own_store
from compression.cli.levers import add_levers_command
from compression.data import shapes
from compression.data.dataset import Dataset
from compression.deployment import latency
from compression.deployment.exported import content_sha256, exports_folder
from compression.deployment.levers import find_levers, sizes_of
from compression.errors import ModelError, SpecError
from compression.models.detector import file_sha256
from compression.spec import BackendName, PrecisionName
from tests import factories
from tests.commands import run_command

LEVEL_0, LEVEL_5 = SHIPPED / "shapes" / "yolo26n.pt", SHIPPED / "shapes" / "yolo26n-level5.pt"
FULL, SMALL = 320, 160
SMALLER = ("--imgsz", "0.5", "--levels", "5")
IN_INT8 = ("--backend", "torch,onnx", "--precision", "int8", *SMALLER)
# INT8 of OpenVINO takes NNCF half a minute.
IN_FP16 = ("--backend", "openvino", "--precision", "fp16", *SMALLER)


PRECISIONS: dict[BackendName, PrecisionName] = {"onnx": "int8", "openvino": "fp16"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the command wrote, with its data folder and data set."""

    home: Path
    data: Path
    accuracies: dict[tuple[BackendName, int | None], AccuracyRecord]
    latencies: dict[tuple[BackendName, int | None], LatencyRecord]
    left_out: list[str]


def key_of(level: int) -> str:
    return next(one.key for one in own_store().heads("yolo26n", "shapes") if one.level == level)


def levers(*arguments: str) -> str:
    return run_command(add_levers_command, "levers", *arguments)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory, tiny_shapes: Path) -> Answer:
    """Level 5 in few bits at half the size, on three backends, each beside level 0; its data folder is kept."""
    home = tmp_path_factory.mktemp("home-of-levers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMBOARD_HOME", str(home))
        patch.setattr(latency, "N_ROUNDS", 2)
        # Measured in a process of its own each time; that it is, is tested with the latencies.
        patch.setattr(latency, "_peak_memory_mb", lambda place, setting: 1.0)
        written = [
            json.loads(levers(key_of(5), "--data", str(tiny_shapes), *asked, "--json")) for asked in (IN_INT8, IN_FP16)
        ]
    pairs = [
        (parse_accuracy(json.dumps(one["accuracy"])), parse_latency(json.dumps(one["latency"])))
        for answered in written
        for one in answered["measured"]
    ]
    return Answer(
        home=home,
        data=tiny_shapes,
        accuracies={(one.spec.backend, one.level): one for one, _ in pairs},
        latencies={(one.spec.backend, one.level): one for _, one in pairs},
        left_out=[sentence for answered in written for sentence in answered["left_out"]],
    )


@pytest.fixture
def its_home(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIMBOARD_HOME", str(answer.home))
    return answer.home


def test_each_combination_stands_beside_level_0_in_full_precision(answer: Answer) -> None:
    assert list(answer.accuracies) == [("torch", 0), ("onnx", 0), ("onnx", 5), ("openvino", 0), ("openvino", 5)]
    assert answer.left_out == ["Backend torch does not compute in int8; choose one of fp32."]
    for backend, precision in PRECISIONS.items():
        ours, whole = answer.latencies[backend, 5], answer.latencies[backend, 0]
        assert (ours.spec.precision, ours.spec.imgsz) == (precision, SMALL)
        assert (ours.spec.reference_precision, ours.spec.reference_imgsz) == ("fp32", FULL)
        assert (whole.spec.precision, whole.spec.imgsz, whole.spec.reference_precision) == ("fp32", FULL, None)
        assert ours.spec.reference_sha256 == whole.spec.weights_sha256 == file_sha256(LEVEL_0)
        assert ours.ratio is not None
        assert ours.ratio_low is not None
        assert ours.ratio_high is not None
        assert ours.ratio_low <= ours.ratio <= ours.ratio_high
        assert ours.size_bytes < 0.6 * whole.size_bytes


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_accuracy_is_that_of_the_file(backend: BackendName, answer: Answer, its_home: Path) -> None:
    """What Ultralytics itself finds when it is given the same file."""
    record = answer.accuracies[backend, 5]
    (file,) = (
        path
        for path in exports_folder(file_sha256(LEVEL_5)).iterdir()
        if path.is_dir() == (backend == "openvino") and content_sha256(path) == record.sha256
    )
    found = YOLO(file, task="detect").val(
        data=str(answer.data), imgsz=SMALL, nms=False, device="cpu", plots=False, verbose=False, project=str(its_home)
    )
    metrics = record.metrics
    assert metrics.map50_95 is not None
    assert metrics.map50_95 > 0.1
    assert (metrics.map50_95, metrics.map50) == (round(found.box.map, 5), round(found.box.map50, 5))
    assert (metrics.precision, metrics.recall) == (round(found.box.mp, 5), round(found.box.mr, 5))
    assert (record.data, record.n_images) == ("tiny-shapes", 6)
    assert record.spec.calibration == (record.spec.data_fingerprint if backend == "onnx" else "")


def test_full_precision_is_the_same_on_each_backend(answer: Answer) -> None:
    """In squares, and in 32 bits also where OpenVINO would rather take 16."""
    by_torch = answer.accuracies["torch", 0].metrics.map50_95
    assert answer.accuracies["onnx", 0].metrics.map50_95 == pytest.approx(by_torch, abs=1e-4)
    assert answer.accuracies["openvino", 0].metrics.map50_95 == pytest.approx(by_torch, abs=1e-4)
    assert answer.accuracies["openvino", 0].arithmetic == "f32"
    assert answer.accuracies["onnx", 0].arithmetic == ""


def test_nothing_is_measured_twice(answer: Answer, its_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("compression.deployment.accuracy.validate", never)
    monkeypatch.setattr(latency, "take_turns", never)
    table = levers(key_of(5), "--data", str(answer.data), *IN_INT8)
    assert "0      fp32    320" in table
    assert "5      int8    160" in table
    assert "* stands on the Pareto front of ratio and mAP50-95." in table
    with pytest.raises(AssertionError, match="measured again"):
        levers(key_of(5), "--data", str(answer.data), *IN_INT8, "--again")


def test_files_of_all_commands_lie_in_one_place(answer: Answer, its_home: Path) -> None:
    digits = answer.accuracies["onnx", 5].spec.calibration[:8]
    stem = f"yolo26n-level5-e2e-{SMALL}"
    names = {path.name for path in exports_folder(file_sha256(LEVEL_5)).iterdir()}
    assert names == {f"{stem}-int8-{digits}.onnx", f"{stem}-fp16_openvino_model"}
    assert {path.name for path in (its_home / "exports").iterdir()} == {file_sha256(LEVEL_0), file_sha256(LEVEL_5)}


def test_one_that_fails_does_not_stop_the_others(
    answer: Answer, its_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("compression.deployment.deploy.export_checkpoint", _no_space)
    out = levers(key_of(5), "--data", str(answer.data), *IN_INT8[:-4], "--imgsz", "0.5,0.4", "--levels", "5")
    assert "No space is left." in capsys.readouterr().err
    assert str(SMALL) in out


def _no_space(*arguments: object, **options: object) -> None:
    raise ModelError("No space is left.")


SHAPES = Dataset(
    name="shapes",
    yaml_file=Path("data.yaml"),
    names=dict(enumerate(shapes.CLASSES)),
    fingerprint=shapes.fingerprint(),
    n_train=500,
    n_val=150,
)


class TestWhatIsMeant:
    def test_a_model_stands_for_its_levels(self) -> None:
        """Of those that were measured, two have their checkpoints here."""
        found = find_levers(["yolo26n"], SHAPES, levels=None, siblings=False)
        assert [one.level for one in found.subjects] == [0, 5]
        assert found.reference.level == 0
        assert (found.imgsz, found.head) == (FULL, "e2e")
        assert len(found.missing) == 4
        assert all("is not on this machine" in sentence for sentence in found.missing)

    def test_an_original_stands_for_its_levels_and_a_level_for_itself(self) -> None:
        assert [one.level for one in find_levers([str(LEVEL_0)], SHAPES, levels=[0, 5], siblings=False).subjects] == [
            0,
            5,
        ]
        found = find_levers([key_of(5)], SHAPES, levels=None, siblings=False)
        assert ([one.level for one in found.subjects], found.reference.level) == ([5], 0)
        found = find_levers([key_of(5)], SHAPES, levels=[0, 2], siblings=False)
        assert [one.level for one in found.subjects] == [0]
        assert "Level 2 is not measured on shapes, or not here." in found.missing

    def test_siblings_are_the_measured_originals_of_the_family(self) -> None:
        assert find_levers([key_of(5)], SHAPES, levels=None, siblings=True).missing == (
            "No sibling of yolo26n is measured on shapes and here.",
        )
        own = next(one for one in own_store().heads("yolo26n", "shapes") if one.level == 0)
        sibling = _sibling_of(own)
        own_store().save(sibling)
        found = find_levers([key_of(5)], SHAPES, levels=None, siblings=True)
        assert "(yolo26s on shapes) is not on this machine" in found.missing[0]

    def test_what_is_nowhere_is_one_sentence(self) -> None:
        with pytest.raises(ModelError, match="There is no model 'nothing'"):
            find_levers(["nothing"], SHAPES, levels=None, siblings=False)
        with pytest.raises(ModelError, match=r"^Level 4 is not measured on shapes|not on this machine"):
            find_levers([key_of(5)], SHAPES, levels=[4], siblings=False)


def _sibling_of(original: RunRecord) -> RunRecord:
    assert original.spec is not None
    spec = replace(original.spec, model="yolo26s.pt", weights_sha256="5e" * 32)
    changed = replace(original, model="yolo26s", architecture="yolo26s", spec=spec, key=spec.key)
    return factories.with_checkpoint(changed, b"elsewhere", "5e" * 32)


def test_sizes_are_parts_of_the_training_size_or_pixels() -> None:
    assert sizes_of("1,0.75,0.5", 640, 32) == [640, 480, 320]
    assert sizes_of("0.7, 448,1,640", 640, 32) == [448, 640]
    assert sizes_of("0.25", 64, 32) == [32]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--imgsz", "0.1"), "Image size '0.1' is not possible; give parts of the training size from 0.25 to 1, or"),
        (("--imgsz", "half"), "Image size 'half' is not possible"),
        (("--imgsz", ","), "',' names no image size"),
        (("--levels", "7"), "Level 7 does not exist"),
        (("--levels", "a"), "'a' in --levels is not understood"),
        (("--backend", "tpu"), "There is no backend 'tpu'"),
        (("--precision", "fp4"), "There is no precision 'fp4'"),
    ],
)
def test_faults_are_one_sentence(arguments: tuple[str, ...], sentence: str, tiny_shapes: Path) -> None:
    with pytest.raises(SpecError) as caught:
        levers(key_of(5), "--data", str(tiny_shapes), *arguments)
    assert str(caught.value).startswith(sentence)
