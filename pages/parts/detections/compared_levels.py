"""Which models of a series can be looked through: those whose checkpoint is on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cache.record import RunRecord
from cache.series import Series, cut_in_words, cut_named
from compression.catalog import model_label, weights_file
from compression.levels import LEVELS, ORIGINAL

ORIGINAL_LABEL = "Original"

FindArtifact = Callable[[RunRecord], Path | None]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A model that can be looked through.

    Attributes:
        label: as it stands in a select box.
        checkpoint: where it lies.
        sha256: of the checkpoint.
    """

    label: str
    checkpoint: Path
    sha256: str

    @property
    def noun(self) -> str:
        """As it is called within a sentence: "the original", "level 5", "the cut to 40% of the GFLOPs"."""
        if self.label == ORIGINAL_LABEL:
            return "the original"
        return self.label[0].lower() + self.label[1:] if self.label.startswith("Level") else cut_named(self.label)


@dataclass(frozen=True, kw_only=True)
class ComparedLevels:
    """The models of a series.

    Attributes:
        here: those whose checkpoint is on this machine: the original, the levels, and custom targets.
        missing: labels of those that were measured, and whose checkpoint is elsewhere.
    """

    here: tuple[Level, ...]
    missing: tuple[str, ...]

    @property
    def deepest(self) -> int:
        """Position in `here` of the model to look at first: the deepest level, else the last."""
        levels = [place for place, level in enumerate(self.here) if level.label in map(_label_of_level, LEVELS)]
        return levels[-1] if levels else len(self.here) - 1


def levels_of(series: Series | None, find_artifact: FindArtifact) -> ComparedLevels:
    """The models of a series, by how much was cut.

    Args:
        series: the chosen one; None if nothing is measured.
        find_artifact: where a record's checkpoint lies, None if it does not.
    """
    if series is None:
        return ComparedLevels(here=(), missing=())
    records = {_label_of_level(level): record for level, record in sorted(series.levels.items())}
    records |= {cut_in_words(record.spec): record for record in series.custom if record.spec}
    levels = {label: _level(label, record, find_artifact) for label, record in records.items()}
    if levels.get(ORIGINAL_LABEL) is None:
        levels = {ORIGINAL_LABEL: None} | levels | {ORIGINAL_LABEL: _given_original(series)}
    return ComparedLevels(
        here=tuple(level for level in levels.values() if level),
        missing=tuple(label for label, level in levels.items() if level is None),
    )


def why_missing(missing: Sequence[str], *, shares_files: bool) -> str:
    """Why some models are left out, and how to get them; empty where none are.

    Args:
        missing: their labels.
        shares_files: there is a shared place that checkpoints can be fetched from.
    """
    if not missing:
        return ""
    names = ", ".join(missing)
    one = len(missing) == 1
    fetch = "fetch it on Explore from the shared place, " if shares_files else ""
    return (
        f"Left out, because {'its checkpoint is' if one else 'their checkpoints are'} not on this machine: {names}. "
        f"To see {'it' if one else 'them'}, {fetch}measure again on Explore, or take the results of the machine that "
        f"has {'it' if one else 'them'}: `trimboard export-results FILE --checkpoints` there, "
        f"`trimboard import-results FILE` here."
    )


def _label_of_level(level: int) -> str:
    return ORIGINAL_LABEL if level == ORIGINAL else f"Level {level}"


def _level(label: str, record: RunRecord, find_artifact: FindArtifact) -> Level | None:
    sha256, checkpoint = record.checkpoint_sha256, find_artifact(record)
    return Level(label=label, checkpoint=checkpoint, sha256=sha256) if checkpoint and sha256 else None


def _given_original(series: Series) -> Level | None:
    """The file that the series was cut from, where it is still the same; the original need not have been measured."""
    spec = series.spec
    # The original of some classes was cut out of the file that was given, and knows others.
    if spec.classes or spec.weights_sha256 is None:
        return None
    for file in (Path(spec.model), weights_file(model_label(spec.model))):
        if file.is_file() and _sha256(file, file.stat().st_mtime_ns) == spec.weights_sha256:
            return Level(label=ORIGINAL_LABEL, checkpoint=file, sha256=spec.weights_sha256)
    return None


@lru_cache(maxsize=64)
def _sha256(file: Path, changed_ns: int) -> str:
    """Of a file's content; looked at again once the file was changed."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
