from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import insert, select, update

from cache.comparison import comparison
from cache.engine import StoreError
from cache.record import Artifact, Costs, RecordError, RunRecord
from cache.store import Known, Store, plan_key
from cache.tables import plans_table, records_table
from compression.home import run_folder
from tests.cache.samples import make_plan, make_record, make_spec


def _ship(folder: Path, record: RunRecord, name: str = "shapes/level5.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record.to_dict()), encoding="utf-8")
    return file


def test_a_saved_record_is_found_by_another_store(store: Store, shipped: Path) -> None:
    store.save(make_record())
    other = Store(shipped=shipped)
    assert other.find(make_record().key) == make_record()
    assert other.find("no such key") is None
    other.close()


def test_a_stored_result_has_its_file_whatever_befalls_its_successor(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, records = run_folder(make_record().key), {}
    folder.mkdir(parents=True)
    draft = folder / "draft.pt"
    # Of the same size, so that only the content tells them apart.
    for content in (b"earlier", b"failing", b"another", b"the new"):
        sha256 = hashlib.sha256(content).hexdigest()
        artifact = Artifact(name="checkpoint", file="compressed.pt", sha256=sha256, size_bytes=7)
        records[content] = make_record(artifacts=(artifact,))
    draft.write_bytes(b"earlier")
    store.save(records[b"earlier"], draft=draft)
    for content in (b"failing", b"another"):
        draft.write_bytes(content)
        with monkeypatch.context() as patch:
            patch.setattr("cache.store._write", _no_database)
            with pytest.raises(StoreError):
                store.save(records[content], draft=draft)
        found = store.find(make_record().key)
        assert found == records[b"earlier"]
        path = store.artifact_path(found)
        assert path
        assert path.read_bytes() == b"earlier"
    draft.write_bytes(b"the new")
    store.save(records[b"the new"], draft=draft)
    assert store.artifact_path(records[b"the new"]) == folder / "compressed.pt"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"compressed.pt": b"the new"}


def _no_database(*_: object) -> None:
    raise StoreError("The database is away.")


@pytest.fixture
def page(shipped: Path) -> Path:
    """A publication of one original."""
    page = {
        "source": "A page",
        "data": "shapes",
        "imgsz": 320,
        "warnings": [],
        "results": [{"model": "my-yolo26n", "level": 0, "head": "e2e", "original": {"gflops": 2.0}}],
    }
    file = shipped / "published" / "page.json"
    file.parent.mkdir()
    file.write_text(json.dumps(page), encoding="utf-8")
    return file


def test_the_database_lies_in_the_data_folder_unless_an_address_is_given(
    home: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, given = Store(shipped=shipped), Store(f"sqlite:///{tmp_path / 'given.db'}", shipped=shipped)
    monkeypatch.setenv("TRIMBOARD_DB", f"sqlite:///{tmp_path / 'named.db'}")
    named = Store(shipped=shipped)
    given.save(make_record())
    assert (home / "trimboard.db").is_file()
    assert [len(store.records()) for store in (own, given, named)] == [0, 1, 0]
    for store in (own, given, named):
        store.close()


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


def test_shipped_and_published_results_stand_beside_own_ones(address: str, shipped: Path, page: Path) -> None:
    own, shipped_record = make_record(make_spec(level=2)), make_record(make_spec(level=1))
    _ship(shipped, shipped_record)
    store = Store(shipped=shipped)
    store.save(own)
    published, *measured = store.records(model="my-yolo26n", data="shapes")
    assert (published.level, published.provenance, published.costs.gflops) == (0, "published", 2.0)
    assert measured == [shipped_record, own]
    assert store.records(data="bccd") == []
    assert store.find(shipped_record.key) == shipped_record
    assert store.own_keys() == [own.key]
    store.close()


def test_an_own_result_wins_over_a_shipped_one_of_the_same_key(address: str, shipped: Path) -> None:
    own = make_record(warnings=("Mine.",))
    _ship(shipped, make_record())
    store = Store(shipped=shipped)
    store.save(own)
    assert store.find(own.key) == own
    assert store.records() == [own]
    assert store.table()["warnings"].tolist() == ["Mine."]
    assert [head.warnings for head in store.heads()] == [("Mine.",)]
    store.close()


def _many(store: Store) -> None:
    """Own results of several models, data sets and levels, in an order that is not theirs."""
    for model, data, level, created in (
        ("b", "x", None, "2026-05-01T00:00:00+00:00"),
        ("b", "x", 0, "2026-05-02T00:00:00+00:00"),
        ("my-yolo26n", "shapes", 0, "2026-05-03T00:00:00+00:00"),
        ("my-yolo26n", "shapes", 5, "2026-05-02T00:00:00+00:00"),
        ("my-yolo26n", "shapes", 5, "2026-05-01T00:00:00+00:00"),
        ("Modèle", "x", 3, "2026-05-01T00:00:00+00:00"),
        ("a_b", "x", 3, "2026-05-01T00:00:00+00:00"),
        ("aB", "x", 3, "2026-05-01T00:00:00+00:00"),
    ):
        store.save(make_record(key=f"{model} {level} {created}", model=model, data=data, level=level, created=created))


@pytest.mark.parametrize("chosen", [{}, {"model": "b"}, {"data": "shapes"}, {"model": "b", "data": "x"}, {"data": "?"}])
def test_table_and_heads_are_those_of_the_records_in_their_order(
    address: str, shipped: Path, page: Path, chosen: dict[str, str]
) -> None:
    _ship(shipped, make_record(make_spec(level=1)))
    store = Store(shipped=shipped)
    _many(store)
    records = store.records(**chosen)
    pd.testing.assert_frame_equal(store.table(**chosen), comparison(records))
    assert store.heads(**chosen) == [replace(record, layers=(), curve=()) for record in records]
    assert len(records) == {(): 10, ("b",): 2, ("shapes",): 5, ("b", "x"): 2, ("?",): 0}[tuple(chosen.values())]
    store.close()


def test_the_overview_tells_the_newest_of_each_kind_once(address: str, shipped: Path, page: Path) -> None:
    _ship(shipped, make_record(make_spec(level=5), created="2026-06-01T00:00:00+00:00"))
    store = Store(shipped=shipped)
    _many(store)
    known = store.overview()
    assert len(known) == len(set(known)) == 8
    day = "2026-06-01T00:00:00+00:00"
    assert Known("my-yolo26n", "shapes", "yolo26n", "measured", 5, day) in known
    assert Known("b", "x", "yolo26n", "measured", None, "2026-05-01T00:00:00+00:00") in known
    assert [one.newest for one in known if one.provenance == "published"] == [""]
    store.close()


def test_a_shipped_result_that_was_measured_again_is_no_second_one_in_the_overview(address: str, shipped: Path) -> None:
    _ship(shipped, make_record(created="2030-01-01T00:00:00+00:00"))
    store = Store(shipped=shipped)
    store.save(make_record(model="renamed"))
    assert [(one.model, one.newest) for one in store.overview()] == [("renamed", "2026-05-22T10:00:00+00:00")]
    store.close()


def test_what_is_no_number_is_not_saved(store: Store) -> None:
    record = make_record(costs=Costs(gflops="much", params=1, gflops_deployed=1, params_deployed=1))  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="cannot be put into a table"):
        store.save(record)
    assert store.records() == []


@pytest.mark.parametrize("payload", ['{"version": 99}', "{half a rec", '{"version": 1}', "[]"])
def test_what_cannot_be_read_is_counted_and_kept(store: Store, payload: str) -> None:
    store.save(make_record())
    assert store.unreadable() == 0
    bad = {"key": "bad", "model": "m", "data": "d", "level": 1, "created": "2026", "payload": payload}
    with store._database.writing() as connection:
        connection.execute(insert(records_table).values(**bad))
    assert store.records() == [make_record()]
    assert (len(store.table()), len(store.heads())) == (1, 1)
    assert store.find("bad") is None
    assert store.unreadable() == 1
    with store._database.reading() as connection:
        kept = connection.scalar(select(records_table.c.payload).where(records_table.c.key == "bad"))
    assert kept == payload


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
    with store._database.writing() as connection:
        connection.execute(update(plans_table).values(payload="{}"))
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
