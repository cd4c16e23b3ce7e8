"""Which models can be looked through, and what is said of the others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from cache.record import RunRecord
from cache.series import series_of
from compression.spec import Target
from pages.parts.detections.compared_levels import Level, levels_of, why_missing
from tests import factories

CHECKPOINT = Path("somewhere.pt")
WEIGHTS = factories.spec().weights_sha256 or ""


def with_checkpoints(*records: RunRecord) -> list[RunRecord]:
    """Each with a checkpoint of its own; that of the original is what the others were cut from."""
    return [
        factories.with_checkpoint(record, b"weights", WEIGHTS if record.level == 0 else f"{place:064x}")
        for place, record in enumerate(records)
    ]


def test_levels_by_depth_with_custom_targets_last() -> None:
    half = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    custom = replace(factories.record(5), level=None, spec=half, key=half.key)
    (series,) = series_of(with_checkpoints(*factories.series((0, 2, 5)), custom))
    levels = levels_of(series, lambda _: CHECKPOINT)
    assert [(level.label, level.noun) for level in levels.here] == [
        ("Original", "the original"),
        ("Level 2", "level 2"),
        ("Level 5", "level 5"),
        ("40% of the GFLOPs", "the cut to 40% of the GFLOPs"),
    ]
    assert levels.here[levels.deepest].label == "Level 5"
    assert levels.missing == ()


def test_what_is_elsewhere_is_named() -> None:
    (series,) = series_of(with_checkpoints(*factories.series((0, 1, 2, 3))))
    levels = levels_of(series, lambda record: CHECKPOINT if record.level in (0, 2) else None)
    assert [level.label for level in levels.here] == ["Original", "Level 2"]
    assert levels.missing == ("Level 1", "Level 3")
    said = why_missing(levels.missing, shares_files=False)
    assert said.startswith(
        "Left out, because their checkpoints are not on this machine: Level 1, Level 3. To see them,"
    )
    assert "trimboard import-results" in said
    assert "shared place" not in said
    assert "fetch it on Explore from the shared place" in why_missing(("Level 1",), shares_files=True)
    assert why_missing((), shares_files=True) == ""


def test_an_original_that_was_not_measured_is_the_file_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    file.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    spec = factories.spec(3, model=str(file), weights_sha256=sha256)
    (series,) = series_of(with_checkpoints(factories.record(3, spec=spec)))
    levels = levels_of(series, lambda _: CHECKPOINT)
    assert levels.here[0] == Level(label="Original", checkpoint=file, sha256=sha256)
    assert [level.label for level in levels.here] == ["Original", "Level 3"]
    # Another file lies in its place now.
    file.write_bytes(b"other weights")
    levels = levels_of(series, lambda _: CHECKPOINT)
    assert ([level.label for level in levels.here], levels.missing) == (["Level 3"], ("Original",))


def test_nothing_measured() -> None:
    assert levels_of(None, lambda _: CHECKPOINT).here == ()
