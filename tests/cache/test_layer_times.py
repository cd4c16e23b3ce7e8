"""Times of layers in the store."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cache.layer_times import parse_layer_times
from cache.record import RecordError
from cache.store import Store
from tests.factories import layer_times


def test_times_come_back_as_they_were() -> None:
    times = layer_times()
    assert parse_layer_times(json.dumps(times.to_dict())) == times
    assert [form.total_ms for form in times.forms] == [10.0, 7.25]
    for broken in ("", "[]", "{}", json.dumps({**times.to_dict(), "version": 99})):
        with pytest.raises(RecordError):
            parse_layer_times(broken)


def test_the_newest_times_of_a_checkpoint_come_first_and_a_new_one_replaces_its_like(store: Store) -> None:
    times = layer_times()
    other = replace(layer_times(backend="openvino"), created="2026-05-25T10:00:00+00:00")
    for one in (times, other, layer_times("another")):
        store.save_layer_times(one)
    assert store.layer_times(times.spec.subject) == [other, times]
    newer = replace(times, created="2026-05-26T10:00:00+00:00")
    store.save_layer_times(newer)
    assert store.layer_times(times.spec.subject) == [newer, other]
    assert store.find_layer_times(times.spec.key) == newer
    assert store.find_layer_times(replace(times.spec, threads=2).key) is None
