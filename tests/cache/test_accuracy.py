"""Accuracies of deployed forms, as text and in the store."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cache.accuracy import parse_accuracy
from cache.record import RecordError
from cache.store import Store
from tests.factories import accuracy, latency


def test_a_record_comes_back_as_it_was() -> None:
    record = accuracy(0.7, precision="int8", calibration="cd" * 32)
    assert parse_accuracy(json.dumps(record.to_dict())) == record
    values = record.to_dict()
    for broken in ("", "[]", "{}", json.dumps({**values, "version": 99}), json.dumps({**values, "n_images": "many"})):
        with pytest.raises(RecordError, match=r"^A stored accuracy cannot be read: "):
            parse_accuracy(broken)


def test_everything_that_decides_it_stands_in_the_key() -> None:
    keys = {accuracy().spec.key, replace(accuracy(), created="later").spec.key}
    assert len(keys) == 1
    changes = (
        {"weights_sha256": "ef" * 32},
        {"backend": "openvino"},
        {"precision": "int8"},
        {"imgsz": 256},
        {"head": "nms"},
        {"data_fingerprint": "01" * 32},
        {"calibration": "01" * 32},
        {"machine": "another"},
        {"backend_version": "2"},
    )
    keys |= {accuracy(**change).spec.key for change in changes}
    assert len(keys) == 1 + len(changes)


def test_the_store_keeps_the_last_of_each_question(store: Store) -> None:
    first, again = accuracy(0.7), replace(accuracy(0.6), created="2026-05-23T10:00:00+00:00")
    small = accuracy(0.5, imgsz=256)
    for record in (first, small, again):
        store.save_accuracy(record)
    assert store.find_accuracy(first.spec.key) == again
    assert store.find_accuracy("no such key") is None
    assert store.accuracies(["ab" * 32, "00" * 32]) == [again, small]
    assert store.accuracies(["00" * 32]) == []


def test_a_reference_that_ran_otherwise_is_another_question() -> None:
    """What was timed before references could differ keeps its key."""
    same = latency().spec
    assert (same.reference_precision, same.reference_imgsz) == (None, None)
    assert len({same.key, latency(reference_precision="fp16").spec.key, latency(reference_imgsz=640).spec.key}) == 3
    assert same.key == "5f8ac2b1f00eb56a3209a2b861a67537039d800bde611e65cfb8b4d729e6fad5"
