"""Sensitivities of layers, and the store that keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cache.record import RecordError
from cache.sensitivity import parse_sensitivity
from cache.store import Store
from tests.factories import sensitivity


def test_a_record_comes_back_as_it_was() -> None:
    record = sensitivity()
    assert parse_sensitivity(json.dumps(record.to_dict())) == record
    # Older ones do not say what the model predicts: detectors alone were measured.
    older = {name: value for name, value in record.to_dict().items() if name != "task"}
    assert parse_sensitivity(json.dumps(older)).task == "detect"
    for broken in ("", "[]", "{}", json.dumps({**record.to_dict(), "version": 99})):
        with pytest.raises(RecordError):
            parse_sensitivity(broken)


def test_points_lost_and_the_groups_of_a_layer() -> None:
    record = sensitivity()
    first, second, locked = record.groups
    assert [record.lost(group) for group in record.groups] == [10.0, -0.5, None]
    assert record.groups_of("model.0.cv1.conv") == (first,)
    # Of several groups the one whose cut costs most comes first, what is locked last.
    assert record.groups_of("model.1.cv2.conv") == (first, second, locked)
    assert record.groups_of("nowhere") == ()


def test_the_newest_come_first_and_a_new_one_replaces_its_like(store: Store) -> None:
    record = sensitivity()
    other = replace(sensitivity(imgsz=64), created="2026-05-25T10:00:00+00:00")
    for one in (record, other, sensitivity(weights_sha256="another")):
        store.save_sensitivity(one)
    assert store.sensitivities([record.spec.weights_sha256]) == [other, record]
    newer = replace(record, created="2026-05-26T10:00:00+00:00")
    store.save_sensitivity(newer)
    assert store.sensitivities([record.spec.weights_sha256]) == [newer, other]
    assert store.find_sensitivity(record.spec.key) == newer
    assert store.find_sensitivity(replace(record.spec, n_images=3).key) is None


def test_what_is_shipped_is_found_unless_there_is_an_own_one(tmp_path: Path) -> None:
    record = sensitivity()
    folder = tmp_path / "shipped" / "sensitivities"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text(json.dumps(record.to_dict()))
    (folder / "other.json").write_text("{}")
    store = Store(f"sqlite:///{tmp_path / 'own.db'}", shipped=tmp_path / "shipped")
    assert store.unreadable() == 0
    assert store.find_sensitivity(record.spec.key) == record
    assert store.sensitivities([record.spec.weights_sha256]) == [record]
    own = replace(record, map50_95=0.5)
    store.save_sensitivity(own)
    assert store.find_sensitivity(record.spec.key) == own
    assert store.sensitivities([record.spec.weights_sha256]) == [own]
    store.close()
