"""Under which conditions a plan or a run of the chosen model takes place, so that its result joins what is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cache.record import RunRecord
from compression.dataset import class_names, data_label
from compression.errors import DatasetError
from compression.shapes import IMAGE_SIZE
from compression.spec import DEFAULT_IMGSZ
from pages.parts.choices import BUILT_IN_DATA
from pages.parts.launch import LaunchOptions
from pages.parts.planning import PlanQuestion
from pages.parts.progress import Subject
from pages.parts.series import Series
from pages.parts.source import Source, plan_source, sources_without_results
from pages.parts.tradeoff import Neighbours


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set as the command line takes it.

    Attributes:
        argument: a known name, or the path of a data.yaml.
        nc: number of its classes.
    """

    argument: str
    nc: int


def find_data(data: str, given: str, records: Sequence[RunRecord]) -> DataSource:
    """Where a data set is found: where the user says, under its name, or where earlier runs found it.

    Args:
        data: name that its results are grouped by.
        given: path that the user typed; "" if none.
        records: results on it.

    Raises:
        DatasetError: it is nowhere, or the given path is another data set.
    """
    if given and data_label(given) != data:
        raise DatasetError(f"{given} is the data set {data_label(given)!r}, not {data!r}; give the path of {data!r}.")
    earlier = [record.spec.data_source for record in records if record.spec and record.spec.data_source]
    for candidate in [given] if given else [data, *dict.fromkeys(reversed(earlier))]:
        try:
            return DataSource(argument=candidate, nc=len(class_names(candidate)))
        except DatasetError:
            if given:
                raise
    raise DatasetError(f"The data set {data!r} is not on this machine; give the path of its data.yaml.")


def image_size(data: str, series: Series | None, neighbours: Neighbours) -> int:
    """That of the series, else of the published results beside it, else what the data set is drawn at, pixels."""
    if series is not None:
        return series.any_record.imgsz
    published = [*neighbours.published, *neighbours.siblings_published]
    if published:
        return published[0].imgsz
    return IMAGE_SIZE if data == BUILT_IN_DATA else DEFAULT_IMGSZ


def plan_question(source: Source | None, architecture: str, found: DataSource, imgsz: int) -> PlanQuestion:
    """What to ask the planner."""
    return PlanQuestion(source=plan_source(source, architecture), data=found.argument, nc=found.nc, imgsz=imgsz)


def launch_options(
    source: Source | None, architecture: str, found: DataSource, imgsz: int, series: Series | None
) -> LaunchOptions:
    """A form that begins with the conditions of the series."""
    models = {source.model: ""} if source else sources_without_results(architecture)
    key = hashlib.sha256(f"{architecture}|{found.argument}|{series and series.label}".encode()).hexdigest()[:8]
    if series is None:
        return LaunchOptions(key=key, models=models, data=found.argument, imgsz=imgsz)
    spec = series.spec
    return LaunchOptions(
        key=key,
        models=models,
        data=found.argument,
        imgsz=imgsz,
        # An original alone was measured without training, which is no hint at how long to fine-tune.
        **({"epochs": spec.epochs} if spec.epochs else {}),
        patience=spec.patience,
        batch=spec.batch,
        seed=spec.seed,
        recipe=spec.recipe,
    )


def subject_of(model: str, data: str, records: Sequence[RunRecord], options: LaunchOptions | None) -> Subject:
    """Whose runs the page shows."""
    specs = [record.spec for record in records if record.spec]
    left = [artifact.sha256 for record in records for artifact in record.artifacts]
    return Subject(
        model=model,
        data=data,
        weights=frozenset([*left, *(spec.weights_sha256 for spec in specs if spec.weights_sha256)]),
        arguments=frozenset([*options.models, options.data]) if options else frozenset(),
    )
