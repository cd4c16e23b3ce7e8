"""Under which conditions a plan or a run of the chosen model takes place, so that its result joins what is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cache.record import RunRecord
from cache.series import Series
from cache.siblings import Neighbours
from compression.brought import find_brought
from compression.data.classes import parse_classes
from compression.data.dataset import class_names, data_label, kpt_shape_in
from compression.data.shapes import IMAGE_SIZE
from compression.errors import DatasetError, SpecError
from compression.spec import DEFAULT_IMGSZ
from pages.parts.choices import BUILT_IN_DATA
from pages.parts.jobs.launch import LaunchOptions
from pages.parts.jobs.planning import PlanQuestion
from pages.parts.jobs.progress import Subject
from pages.parts.source import Source, plan_source, sources_without_results


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set as the command line takes it.

    Attributes:
        argument: a known name, or the path of a data.yaml.
        names: its classes by index.
        classes: indices of the only classes that the results are of; none stands for all.
        kpt_shape: key points of its labels; None where its file names none.
    """

    argument: str
    names: Mapping[int, str]
    classes: tuple[int, ...] = ()
    kpt_shape: tuple[int, int] | None = None

    @property
    def nc(self) -> int:
        """Number of classes that models here predict."""
        return len(self.classes or self.names)

    @property
    def classes_argument(self) -> str:
        """The classes as the command line takes them; "" for all."""
        by_name = ",".join(self.names[index] for index in self.classes)
        # Two classes of one name can only be told apart by index.
        return by_name if self._is_understood(by_name) else ",".join(map(str, self.classes))

    def _is_understood(self, text: str) -> bool:
        try:
            return parse_classes(text, self.names) == self.classes
        except SpecError:
            return False


def whole_name(data: str, records: Sequence[RunRecord]) -> str:
    """The data set that results on some of its classes were taken from: "coco" of "coco [person, car]".

    Args:
        data: name that results are grouped by.
        records: results on it.
    """
    return data.rsplit(" [", 1)[0] if kept_classes(records) else data


def kept_classes(records: Sequence[RunRecord]) -> tuple[int, ...]:
    """Indices of the only classes that the results of one data set are of; none stands for all."""
    return next((record.spec.classes for record in records if record.spec), ())


def find_data(data: str, given: str, records: Sequence[RunRecord]) -> DataSource:
    """Where a data set is found: where the user says, among what he brought, by its name, or where runs found it.

    Args:
        data: name that its results are grouped by.
        given: path that the user typed; "" if none.
        records: results on it.

    Raises:
        DatasetError: it is nowhere, or the given path is another data set.
    """
    whole, classes = whole_name(data, records), kept_classes(records)
    if given and data_label(given) != whole:
        raise DatasetError(f"{given} is the data set {data_label(given)!r}, not {whole!r}; give the path of {whole!r}.")
    earlier = [record.spec.data_source for record in records if record.spec and record.spec.data_source]
    # A user's own data set may be called like one of the catalog's, so its place comes before the name.
    places = list(dict.fromkeys(reversed(earlier)))
    own = find_brought("data", whole)
    for candidate in [given] if given else [*([own.path] if own else []), *places, whole]:
        try:
            if candidate in places and not given and data_label(candidate) != whole:
                continue
            names = class_names(candidate)
        except DatasetError:
            if given:
                raise
            continue
        if set(classes) <= names.keys():
            return DataSource(argument=candidate, names=names, classes=classes, kpt_shape=kpt_shape_in(candidate))
    raise DatasetError(f"The data set {whole!r} is not on this machine; give the path of its data.yaml.")


def path_key(data: str) -> str:
    """Session state: the path of a data set's data.yaml, as the user typed it on one of the pages."""
    return f"path-of-{data}"


def image_size(data: str, series: Series | None, neighbours: Neighbours, trained_at: int = 0) -> int:
    """Side of the images to begin with, pixels.

    That of the series, else of the published results beside it, else what the model was trained at, where that is
    known, else what the data set is drawn at.
    """
    if series is not None:
        return series.any_record.imgsz
    published = [*neighbours.published, *neighbours.siblings_published]
    if published:
        return published[0].imgsz
    if trained_at:
        return trained_at
    return IMAGE_SIZE if data == BUILT_IN_DATA else DEFAULT_IMGSZ


def plan_question(
    source: Source | None, architecture: str, found: DataSource, imgsz: int, original: Source | None
) -> PlanQuestion | None:
    """What to ask the planner.

    Args:
        source: the weights that runs start from.
        architecture: catalog name of the model's architecture.
        found: the data set.
        imgsz: side of the square input, pixels.
        original: checkpoint of the measured original.

    Returns:
        None where a model of some classes is not on this machine: only its own checkpoint has their outputs alone.
    """
    if not found.classes:
        return PlanQuestion(
            source=plan_source(source, architecture),
            data=found.argument,
            nc=found.nc,
            imgsz=imgsz,
            kpt_shape=found.kpt_shape,
        )
    return PlanQuestion(source=original, data=None, nc=found.nc, imgsz=imgsz) if original else None


def launch_options(
    source: Source | None, architecture: str, found: DataSource, imgsz: int, series: Series | None
) -> LaunchOptions:
    """A form that begins with the conditions of the series."""
    models = {source.model: ""} if source else sources_without_results(architecture)
    shown = series and (series.label, series.seed)
    key = hashlib.sha256(f"{architecture}|{found.argument}|{found.classes}|{shown}".encode()).hexdigest()[:8]
    blank = LaunchOptions(
        key=key,
        models=models,
        data=found.argument,
        names=found.names,
        classes=found.classes_argument,
        imgsz=imgsz,
        head="nms" if series is not None and series.any_record.head == "nms" else None,
    )
    # An original alone was neither cut nor fine-tuned, which is no hint at how to.
    if series is None or not series.compressed:
        return blank
    spec = series.spec
    return replace(
        blank,
        # A series without training is no hint at how long to train.
        epochs=spec.epochs or blank.epochs,
        patience=spec.patience,
        batch=spec.batch,
        seed=spec.seed,
        recipe=spec.recipe,
        method=spec.method,
        steps=spec.steps,
        # Wishes beside a level are of all levels of the series; those of a target of its own are that cut's.
        layers=spec.target.layers if spec.level is not None else (),
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
        classes=options.classes if options else "",
    )
