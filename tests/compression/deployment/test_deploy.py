"""A real, pruned and trained checkpoint on its way to a file that runs elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from cache.record import Progress
from cache.shipped import SHIPPED
from compression.data.dataset import Dataset, open_dataset
from compression.deployment import deploy as module
from compression.deployment.deploy import deploy
from compression.deployment.exported import ExportRecord, exports_folder, find_export, find_exports, snippet
from compression.errors import ModelError
from compression.home import home
from compression.models.detector import Detector, open_detector

IMGSZ = 320


@pytest.fixture(scope="module")
def level_5() -> Detector:
    return open_detector(str(SHIPPED / "shapes" / "yolo26n-level5.pt"))


@pytest.fixture(scope="module")
def dataset(tiny_shapes: Path) -> Dataset:
    return open_dataset(str(tiny_shapes))


@pytest.fixture(scope="module")
def onnx(level_5: Detector, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ExportRecord:
    """The ONNX file of level 5, made once for all tests, before any of them has a data folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMBOARD_HOME", str(tmp_path_factory.mktemp("home-of-onnx")))
        return deploy(level_5, "onnx", imgsz=IMGSZ, dataset=dataset, folder=tmp_path_factory.mktemp("onnx"))


def test_full_precision_detects_the_same(onnx: ExportRecord, level_5: Detector) -> None:
    parity = onnx.parity
    assert parity is not None
    assert parity.is_same
    assert (parity.n_images, parity.images) == (6, "validation images of tiny-shapes")
    assert parity.n_checkpoint > 10
    # The same numbers added up in another order.
    assert parity.max_box_px is not None
    assert parity.max_box_px < 0.01
    assert parity.max_score is not None
    assert parity.max_score < 0.0001
    assert onnx.checkpoint_sha256 == level_5.weights_sha256
    assert onnx.exported.head == "e2e"


def test_a_file_for_images_that_are_no_squares_detects_the_same(
    level_5: Detector, dataset: Dataset, tmp_path: Path
) -> None:
    size = (64, 96)
    record = deploy(level_5, "onnx", imgsz=size, dataset=dataset, folder=tmp_path)
    assert record.exported.path.name.endswith("-64x96-fp32.onnx")
    session = onnxruntime.InferenceSession(record.exported.path)
    assert session.get_inputs()[0].shape == [1, 3, *size]
    assert record.parity is not None
    assert record.parity.is_same
    assert "imgsz=(64, 96)" in snippet(record.exported, "small.onnx")
    assert find_export(record.exported.path) == record
    with pytest.raises(
        ModelError, match=r"^Image size 64 x 100 is no multiple of this model's stride 32; use 64 x 96\.$"
    ):
        deploy(level_5, "onnx", imgsz=(64, 100), folder=tmp_path)


def test_the_snippet_runs_beside_the_file(onnx: ExportRecord) -> None:
    path = onnx.exported.path
    done = subprocess.run(
        [sys.executable, "-c", snippet(onnx.exported, path.name)],
        cwd=path.parent,
        env=os.environ | {"YOLO_VERBOSE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A bus is none of the shapes; what is taken for one of them is printed with score and box.
    for line in done.stdout.splitlines():
        assert line.endswith("]")


def test_int8_is_compared_with_full_precision(level_5: Detector, dataset: Dataset, tmp_path: Path) -> None:
    told: list[str] = []

    def tell(progress: Progress) -> None:
        told.append(progress.stage)

    record = deploy(level_5, "onnx", imgsz=IMGSZ, precision="int8", dataset=dataset, folder=tmp_path, tell=tell)
    parity = record.parity
    assert parity is not None
    # Rounded to 8 bits: nearly all is found, and some of it visibly otherwise.
    assert parity.n_matched > 0.7 * parity.n_checkpoint
    assert parity.n_equal < parity.n_checkpoint
    assert (record.data, record.data_fingerprint) == (dataset.name, dataset.fingerprint)
    assert told == [
        "ONNX in int8, waiting for its turn",
        "exporting to ONNX in int8",
        "comparing ONNX in int8 with the checkpoint",
    ]


def test_nothing_is_made_twice(
    onnx: ExportRecord, level_5: Detector, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def export_again(*arguments: object, **options: object) -> object:
        made.append("again")
        return onnx.exported

    monkeypatch.setattr(module, "export_checkpoint", export_again)
    monkeypatch.setattr(module, "measure_parity", lambda *arguments, **options: onnx.parity)
    monkeypatch.setattr(module, "save_export", lambda record: None)
    folder = onnx.exported.path.parent
    assert deploy(level_5, "onnx", imgsz=IMGSZ, dataset=dataset, folder=folder) == onnx
    assert made == []
    # Compared on other images, and of other weights under the same name: neither is this file.
    deploy(level_5, "onnx", imgsz=IMGSZ, folder=folder)
    deploy(replace(level_5, weights_sha256="ab" * 32), "onnx", imgsz=IMGSZ, dataset=dataset, folder=folder)
    assert made == ["again", "again"]


def test_what_is_known_of_a_file_does_not_outlive_it(
    level_5: Detector, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(level_5, "onnx", imgsz=64, dataset=dataset, folder=tmp_path)
    assert len(find_exports(tmp_path)) == 1

    def interrupted(*arguments: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_parity", interrupted)
    # Another fine-tuning of the same architecture, whose file has the same name and size.
    other = replace(level_5, weights_sha256="0" * 64)
    with pytest.raises(KeyboardInterrupt):
        deploy(other, "onnx", imgsz=64, dataset=dataset, folder=tmp_path)
    assert find_exports(tmp_path) == []


def test_a_file_that_runs_elsewhere_only_is_kept_without_a_comparison(
    onnx: ExportRecord, level_5: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert level_5.weights_sha256 is not None
    folder = exports_folder(level_5.weights_sha256)
    assert folder == home() / "exports" / level_5.weights_sha256
    folder.mkdir(parents=True)
    path = folder / onnx.exported.path.name
    path.write_bytes(onnx.exported.path.read_bytes())
    monkeypatch.setattr(module, "export_checkpoint", lambda *arguments, **options: replace(onnx.exported, path=path))
    monkeypatch.setattr(module, "idle_reason", lambda format_: "It runs on macOS only.")
    record = deploy(level_5, "onnx", imgsz=IMGSZ)
    assert (record.parity, record.not_compared) == (None, "It runs on macOS only.")
    assert find_exports(folder) == [record]
