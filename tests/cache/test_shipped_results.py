"""The results that come with the repository are whole, and true of the checkpoints beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cache.record import RunRecord
from cache.shipped import SHIPPED
from cache.store import Store
from compression.levels import LEVELS, ORIGINAL, target_of
from compression.shapes import SPLITS, draw_dataset, fingerprint

DATASETS = ("bccd", "shapes")
# Budget of the whole history for files that are not text.
MAX_BYTES = 30_000_000


def shipped_levels(data: str) -> dict[int | None, RunRecord]:
    records = [record for record in Store().records(data=data) if record.provenance == "measured"]
    return {record.level: record for record in records}


@pytest.mark.parametrize("data", DATASETS)
def test_every_level_is_there_and_was_cut_as_it_says(data: str) -> None:
    levels = shipped_levels(data)
    assert set(levels) == {ORIGINAL, *LEVELS}
    for level, record in levels.items():
        assert level is not None
        assert record.spec is not None
        assert (record.model, record.architecture, record.imgsz, record.head) == ("yolo26n", "yolo26n", 320, "e2e")
        assert record.key == record.spec.key
        target = target_of(level)
        assert record.spec.target == target
        before, after = record.costs_original, record.costs
        assert before.gflops is not None
        assert after.gflops is not None
        assert before.params is not None
        assert after.params is not None
        assert after.gflops / before.gflops == pytest.approx(target.gflops_kept, abs=0.005)
        assert after.params / before.params == pytest.approx(target.params_kept, abs=0.005)
        assert sum(row.params_after for row in record.layers) == after.params
        assert record.metrics_original == levels[ORIGINAL].metrics
        assert {"torch", "ultralytics", "processor", "commit"} <= set(record.environment)
        assert len(record.curve) == (record.spec.epochs if level else 0)


def test_nothing_is_unreadable_or_too_large() -> None:
    assert Store().unreadable() == 0
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < MAX_BYTES


def test_no_record_names_a_folder_of_the_machine_it_was_measured_on() -> None:
    for file in SHIPPED.rglob("*.json"):
        assert '"/' not in file.read_text(), file


@pytest.mark.parametrize("level", [0, 5])
def test_checkpoints_of_shapes_are_the_recorded_files(level: int) -> None:
    record = shipped_levels("shapes")[level]
    checkpoint = Store().artifact_path(record)
    assert checkpoint is not None
    assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == record.artifacts[0].sha256


def test_measuring_level_5_again_gives_the_recorded_accuracy(tmp_path: Path) -> None:
    from compression.dataset import open_dataset
    from compression.evaluation import evaluate

    record = shipped_levels("shapes")[5]
    assert record.spec is not None
    assert record.spec.data_fingerprint == fingerprint()
    checkpoint = Store().artifact_path(record)
    assert checkpoint is not None
    drawn = draw_dataset(tmp_path / "shapes", {"train": 1, "val": SPLITS["val"]})
    found = evaluate(checkpoint, open_dataset(str(drawn)), imgsz=320, batch=16, device="cpu", head="e2e")
    assert found.map50_95 == pytest.approx(record.metrics.map50_95, abs=0.002)
    assert found.map50 == pytest.approx(record.metrics.map50, abs=0.002)
