"""The results that come with the repository are whole, and true of the checkpoints beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cache.record import RunRecord, parse_record
from cache.shipped import OTHERS, SHIPPED, load_shipped
from cache.store import Store
from compression.data.shapes import SPLITS, draw_dataset, fingerprint
from compression.levels import LEVELS, ORIGINAL, target_of

DATASETS = ("bccd", "shapes")
# Budget of the whole history for files that are not text.
MAX_BYTES = 30_000_000
MAX_SENSITIVITY_BYTES = 300_000


def shipped_levels(data: str) -> dict[int | None, RunRecord]:
    """The complete series of levels, which was measured by one method."""
    return {record.level: record for record in Store().records(data=data) if _is_of_before(record)}


def _is_of_before(record: RunRecord) -> bool:
    """A study cuts by L2 too, but recovers afterwards."""
    return record.spec is not None and (record.spec.criterion, record.spec.recovery) == ("l2", "none")


@pytest.mark.parametrize("data", DATASETS)
def test_every_level_is_there(data: str) -> None:
    assert {ORIGINAL, *LEVELS} <= set(shipped_levels(data))


MEASURED = sorted(file for file in SHIPPED.rglob("*.json") if not {*OTHERS} & {*file.parts})


@pytest.mark.parametrize("file", MEASURED, ids=lambda file: file.stem)
def test_each_was_cut_as_it_says(file: Path) -> None:
    record = parse_record(file.read_text())
    assert record.spec is not None
    assert (record.imgsz, record.head, record.key) == (320, "e2e", record.spec.key)
    if record.level is not None:
        assert record.spec.target == target_of(record.level)
    before, after, target = record.costs_original, record.costs, record.spec.target
    for kept, whole, part in (
        (target.gflops_kept, before.gflops, after.gflops),
        (target.params_kept, before.params, after.params),
    ):
        assert whole is not None
        assert part is not None
        assert kept is None or part / whole == pytest.approx(kept, abs=0.005)
    assert sum(row.params_after for row in record.layers) == after.params
    assert {"torch", "ultralytics", "processor", "commit"} <= set(record.environment)
    assert len(record.curve) == (0 if record.level == ORIGINAL else record.spec.epochs)


def test_results_of_one_model_count_against_one_original() -> None:
    measured = [item.record for item in load_shipped().by_key.values()]
    originals = {record.spec.weights_sha256: record for record in measured if record.spec and record.level == ORIGINAL}
    for record in measured:
        assert record.spec is not None
        original = originals.get(record.spec.weights_sha256)
        assert original is None or record.metrics_original == original.metrics


def test_nothing_is_unreadable_or_too_large() -> None:
    assert Store().unreadable() == 0
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < MAX_BYTES


@pytest.mark.parametrize("data", DATASETS)
def test_sensitivities_are_of_the_shipped_original_and_tell_of_every_layer(data: str) -> None:
    original = shipped_levels(data)[ORIGINAL]
    assert original.spec is not None
    assert original.spec.weights_sha256 is not None
    (record,) = Store().sensitivities([original.spec.weights_sha256])
    assert (record.data, record.spec.data_fingerprint) == (data, original.spec.data_fingerprint)
    assert (record.spec.imgsz, record.spec.head, record.spec.n_images) == (320, "e2e", record.n_val)
    assert record.map50_95 == pytest.approx(original.metrics.map50_95, abs=0.002)
    assert {layer for group in record.groups for layer in group.layers} == {row.name for row in original.layers}
    assert {"torch", "ultralytics", "processor", "commit"} <= set(record.environment)
    assert sum(file.stat().st_size for file in (SHIPPED / "sensitivities").iterdir()) < MAX_SENSITIVITY_BYTES


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
    from compression.accuracy.evaluation import evaluate
    from compression.data.dataset import open_dataset

    record = shipped_levels("shapes")[5]
    assert record.spec is not None
    assert record.spec.data_fingerprint == fingerprint()
    checkpoint = Store().artifact_path(record)
    assert checkpoint is not None
    drawn = draw_dataset(tmp_path / "shapes", {"train": 1, "val": SPLITS["val"]})
    found = evaluate(checkpoint, open_dataset(str(drawn)), imgsz=320, batch=16, device="cpu", head="e2e")
    assert found.map50_95 == pytest.approx(record.metrics.map50_95, abs=0.002)
    assert found.map50 == pytest.approx(record.metrics.map50, abs=0.002)
