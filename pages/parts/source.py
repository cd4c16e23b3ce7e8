"""What a plan or a run on the page starts from: which model file, and which data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cache.record import RunRecord
from cache.series import Series
from compression.levels import ORIGINAL


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model as the command line takes it.

    Attributes:
        model: the path of a .pt, or a catalog name with its suffix.
        weights_sha256: of the .pt; None of a .yaml, which starts from random weights.
    """

    model: str
    weights_sha256: str | None


def source_of(series: Series | None, artifact_path: Callable[[RunRecord], Path | None]) -> Source | None:
    """The weights that a series started from, wherever they lie now.

    Args:
        series: the chosen measured series.
        artifact_path: where a record's checkpoint lies, None if it does not.

    Returns:
        The checkpoint of the series' original, else the file that the series was run with; None if nothing is measured,
        or its weights are gone.
    """
    if series is None:
        return None
    spec = series.spec
    original = original_checkpoint(series, artifact_path)
    given = Source(model=spec.model, weights_sha256=spec.weights_sha256) if Path(spec.model).is_file() else None
    # The original of some classes was cut out of the file that was given, and its weights are no longer those.
    return (given or original) if spec.classes else (original or given)


def original_checkpoint(series: Series | None, artifact_path: Callable[[RunRecord], Path | None]) -> Source | None:
    """The checkpoint of a series' original; None where none was measured, or it is not on this machine."""
    original = series.levels.get(ORIGINAL) if series else None
    checkpoint = artifact_path(original) if original else None
    if original is None or checkpoint is None:
        return None
    return Source(model=str(checkpoint), weights_sha256=original.checkpoint_sha256)


def sources_without_results(architecture: str) -> dict[str, str]:
    """Where an unmeasured architecture can start from: command-line name -> what it means."""
    return {
        f"{architecture}.pt": "pretrained on COCO, downloaded by Ultralytics",
        f"{architecture}.yaml": "random weights, trained from scratch",
    }


def plan_source(source: Source | None, architecture: str) -> Source:
    """What to plan with: the model itself, or random weights of its architecture, which are cut to the same widths."""
    return source or Source(model=f"{architecture}.yaml", weights_sha256=None)
