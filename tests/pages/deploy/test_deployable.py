"""Which measured models can be exported here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cache.record import Artifact, RunRecord
from compression.spec import Target
from pages.parts.deploy.deployable import deployables
from tests import factories

PLACE = Path("best.pt")
# Of the weights that all were cut from, so that the original joins them.
SHA256 = "ab" * 32


def with_artifact(record: RunRecord) -> RunRecord:
    return replace(record, artifacts=(Artifact(name="checkpoint", file="best.pt", sha256=SHA256, size_bytes=1),))


def test_levels_with_a_checkpoint_are_offered_as_explore_does() -> None:
    target = Target(gflops_kept=0.4, params_kept=None)
    half = factories.spec(None, target=target)
    records = [
        *factories.series((0, 1, 2, 5)),
        *factories.series((3,), recipe="standard"),
        replace(factories.record(5), level=None, spec=half, key=half.key),
        factories.record(4, spec=factories.spec(4, data="bccd")),
        factories.published(),
    ]
    records = [with_artifact(record) if record.spec else record for record in records]
    gone = {record.key for record in records if record.level in (1, 2) or record.spec is None}
    found = deployables(records, lambda record: None if record.key in gone else PLACE)
    assert [(one.data, one.conditions, one.seed, one.level) for one in found] == [
        ("shapes", "default method", 0, "0"),
        ("shapes", "default method", 0, "5"),
        ("shapes", "default method", 0, "40% of the GFLOPs"),
        ("shapes", "recipe standard", 0, "0"),
        ("shapes", "recipe standard", 0, "3"),
        ("bccd", "default method", 0, "4"),
    ]
    assert {one.model for one in found} == {"yolo26n"}
    assert (found[1].sha256, found[1].checkpoint) == (SHA256, PLACE)
    assert deployables(records, lambda record: None) == ()
