from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from cache.database import StoreError
from cache.record import RunRecord
from cache.store import Store, plan_key
from tests.cache.samples import make_plan, make_record, make_spec


def _ship(folder: Path, record: RunRecord, name: str = "shapes/level5.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record.to_dict()), encoding="utf-8")
    return file


def _spoil(home: Path, key: str, payload: str) -> None:
    with sqlite3.connect(home / "trimboard.db") as connection:
        connection.execute("UPDATE records SET payload = ? WHERE key = ?", (payload, key))
    connection.close()


def test_a_saved_record_is_found_by_another_store(store: Store, shipped: Path) -> None:
    store.save(make_record())
    other = Store(shipped=shipped)
    assert other.find(make_record().key) == make_record()
    assert other.find("no such key") is None
    other.close()


def test_the_database_lies_in_the_data_folder_unless_an_address_is_given(
    store: Store, home: Path, shipped: Path, tmp_path: Path
) -> None:
    elsewhere = Store(f"sqlite:///{tmp_path / 'other.db'}", shipped=shipped)
    elsewhere.save(make_record())
    elsewhere.close()
    assert (home / "trimboard.db").is_file()
    assert (tmp_path / "other.db").is_file()
    assert store.records() == []


def test_a_later_result_of_the_same_key_takes_the_place_of_the_earlier(store: Store) -> None:
    later = make_record(warnings=("Measured again.",), level=4)
    store.save(make_record())
    store.save(later)
    assert store.records() == [later]


def test_records_are_chosen_by_model_and_data(store: Store) -> None:
    first, second = make_record(), make_record(make_spec(seed=9, data="bccd"), model="yolo26s")
    store.save(first)
    store.save(second)
    assert store.records(model="yolo26s") == [second]
    assert store.records(data="shapes") == [first]
    assert store.records(model="yolo26s", data="shapes") == []


def test_records_are_ordered_by_model_data_level_and_date_with_custom_targets_last(store: Store) -> None:
    ordered = [
        make_record(key="z", model="a", data="x", level=0),
        make_record(key="y", model="a", data="x", level=5, created="2026-05-01T00:00:00+00:00"),
        make_record(key="x", model="a", data="x", level=5, created="2026-05-02T00:00:00+00:00"),
        make_record(key="w", model="a", data="x", level=None),
        make_record(key="v", model="a", data="y", level=1),
        make_record(key="u", model="b", data="x", level=0),
    ]
    for record in reversed(ordered):
        store.save(record)
    assert [record.key for record in store.records()] == ["z", "y", "x", "w", "v", "u"]


def test_shipped_and_published_results_stand_beside_own_ones(home: Path, shipped: Path) -> None:
    own, shipped_record = make_record(make_spec(level=2)), make_record(make_spec(level=1))
    _ship(shipped, shipped_record)
    page = {
        "source": "A page",
        "data": "shapes",
        "imgsz": 320,
        "warnings": [],
        "results": [{"model": "my-yolo26n", "level": 0, "head": "e2e", "original": {"gflops": 2.0}}],
    }
    (shipped / "published").mkdir()
    (shipped / "published" / "page.json").write_text(json.dumps(page), encoding="utf-8")
    store = Store(shipped=shipped)
    store.save(own)
    published, *measured = store.records(model="my-yolo26n", data="shapes")
    assert (published.level, published.provenance, published.costs.gflops) == (0, "published", 2.0)
    assert measured == [shipped_record, own]
    assert store.records(data="bccd") == []
    assert store.find(shipped_record.key) == shipped_record
    store.close()


def test_an_own_result_wins_over_a_shipped_one_of_the_same_key(home: Path, shipped: Path) -> None:
    own = make_record(warnings=("Mine.",))
    _ship(shipped, make_record())
    store = Store(shipped=shipped)
    store.save(own)
    assert store.find(own.key) == own
    assert store.records() == [own]
    store.close()


@pytest.mark.parametrize("payload", ['{"version": 99}', "{half a rec", '{"version": 1}', "[]"])
def test_what_cannot_be_read_is_counted_and_kept(store: Store, home: Path, payload: str) -> None:
    good, bad = make_record(), make_record(make_spec(seed=8))
    store.save(good)
    store.save(bad)
    assert store.unreadable() == 0
    _spoil(home, bad.key, payload)
    assert store.records() == [good]
    assert store.find(bad.key) is None
    assert store.unreadable() == 1
    with sqlite3.connect(home / "trimboard.db") as connection:
        kept = connection.execute("SELECT payload FROM records WHERE key = ?", (bad.key,)).fetchone()
    connection.close()
    assert kept == (payload,)


def test_a_shipped_file_that_cannot_be_read_is_counted(home: Path, shipped: Path) -> None:
    _ship(shipped, make_record())
    (shipped / "shapes" / "later.json").write_text('{"version": 99}', encoding="utf-8")
    (shipped / "shapes" / "binary.json").write_bytes(b"\xff\xfe\x00")
    store = Store(shipped=shipped)
    assert store.records() == [make_record()]
    assert store.unreadable() == 2
    store.close()


def test_a_plan_is_kept_by_its_key(store: Store, home: Path) -> None:
    key = plan_key("yolo26n.yaml", None, 10, 320, 5)
    assert store.find_plan(key) is None
    store.save_plan(key, make_plan())
    store.save_plan(key, make_plan(seconds=0.5))
    assert store.find_plan(key) == make_plan(seconds=0.5)


def test_a_plan_of_another_version_is_to_be_computed_again(store: Store, home: Path) -> None:
    store.save_plan("k", make_plan())
    with sqlite3.connect(home / "trimboard.db") as connection:
        connection.execute("UPDATE plans SET payload = '{}'")
    connection.close()
    assert store.find_plan("k") is None


def test_an_own_artifact_lies_in_the_run_folder(store: Store, home: Path) -> None:
    record = make_record()
    store.save(record)
    assert store.artifact_path(record) is None
    file = home / "runs" / record.key / "compressed.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert store.artifact_path(record) == file
    assert store.artifact_path(record, "onnx") is None


def test_a_file_of_another_size_is_not_the_artifact(store: Store, home: Path) -> None:
    record = make_record()
    file = home / "runs" / record.key / "compressed.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"still being written")
    assert store.artifact_path(record) is None


def test_a_shipped_artifact_lies_beside_its_record(home: Path, shipped: Path) -> None:
    file = _ship(shipped, make_record()).with_name("compressed.pt")
    file.write_bytes(b"weights")
    store = Store(shipped=shipped)
    found = store.find(make_record().key)
    assert found is not None
    assert store.artifact_path(found) == file
    store.close()


def test_an_own_result_is_never_offered_the_file_of_the_shipped_one(home: Path, shipped: Path) -> None:
    shipped_record = make_record()
    _ship(shipped, shipped_record).with_name("compressed.pt").write_bytes(b"weights")
    own = replace(shipped_record, artifacts=(replace(shipped_record.artifacts[0], sha256="9" * 64),))
    store = Store(shipped=shipped)
    store.save(own)
    assert store.artifact_path(own) is None
    store.close()


def test_a_record_cannot_point_out_of_its_folder(store: Store, home: Path) -> None:
    (home / "runs").mkdir()
    (home / "runs" / "secret").write_bytes(b"weights")
    record = make_record()
    (home / "runs" / record.key).mkdir()
    outside = replace(record, artifacts=(replace(record.artifacts[0], file="../secret"),))
    assert store.artifact_path(outside) is None


def test_a_file_that_is_no_database_is_named(home: Path) -> None:
    home.mkdir()
    (home / "trimboard.db").write_bytes(b"This is no database." * 100)
    with pytest.raises(StoreError, match=r"trimboard\.db cannot be used: file is not a database"):
        Store()
