"""Runs that would tell what is not known yet, as a user would start them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cache.record import RunRecord
from cache.series import Series
from compression.levels import ORIGINAL
from compression.request import RunRequest


def sibling_request(sibling: str, series: Series) -> RunRequest:
    """The run that measures an unpruned sibling as the original of a series was measured."""
    spec, original = series.spec, series.levels.get(ORIGINAL)
    trained = original.spec if original and original.spec and original.spec.epochs else None
    suffix = "yaml" if trained and trained.weights_sha256 is None else "pt"
    request = RunRequest(
        model=f"{sibling}.{suffix}",
        data=spec.data_source or spec.data,
        level=ORIGINAL,
        imgsz=spec.imgsz,
        head=spec.head,
        classes=",".join(map(str, spec.classes)),
    )
    if trained is None:
        return request
    return replace(
        request, epochs=trained.epochs, patience=trained.patience, batch=trained.batch, recipe=trained.recipe
    )


def with_another_seed(records: Sequence[RunRecord]) -> str:
    """The command that repeats a result with a seed that was not tried yet; empty where its model has no place here."""
    spec = records[0].spec
    assert spec is not None
    if not spec.model.endswith((".pt", ".yaml")):
        # Results that were handed on know the name of their model, not its file.
        return ""
    seed = max(record.spec.seed for record in records if record.spec) + 1
    # The device is chosen anew: the next run need not be where this one was.
    return replace(RunRequest.of_spec(spec), seed=seed, device="").command()
