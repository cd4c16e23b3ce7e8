"""What the page Explore shows below its select boxes, put together once for all positions of the slider."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cache.judged import checkpoints_of, times_of_series
from cache.latency import LatencyRecord
from cache.record import Costs, PlanRecord, RunRecord
from cache.rivals import Rivals, rivals_of
from cache.series import Series
from cache.siblings import Neighbours, neighbours_of, rivals_among
from cache.store import Store
from cache.timings import Times
from cache.verdict import Verdict, published_verdicts, verdicts_of
from compression.brought import find_brought
from compression.catalog import TaskName, task_of_name
from compression.errors import DatasetError
from compression.levels import LEVELS
from compression.spec import default_imgsz_of
from pages.parts.choices import architecture_of
from pages.parts.chooser import Chosen
from pages.parts.conditions import find_data, image_size, launch_options, plan_question, subject_of, whole_name
from pages.parts.device.measured_times import bench_command
from pages.parts.jobs.launch import LaunchOptions
from pages.parts.jobs.planning import PlanQuestion, find_plans
from pages.parts.jobs.progress import Subject
from pages.parts.source import Source, original_checkpoint, source_of

WITHOUT_WEIGHTS = (
    "The costs of this level cannot be planned, because the weights of this model are not on this machine. A run "
    "measures them."
)


@dataclass(frozen=True, kw_only=True)
class View:
    """What was chosen above the slider; dragging the slider reads nothing of it again.

    Attributes:
        store: for what changes while the page is open: plans and runs.
        model: label.
        data: name of the data set.
        architecture: catalog name, or the model's label where unknown.
        records: all results of that model on that data set, without layers and curves.
        series: the chosen conditions and seed, its levels whole; None if nothing is measured.
        other_seeds: series that differ from it in nothing but the seed.
        neighbours: what the series is compared with.
        rivals: the same as figures; None if nothing is measured.
        compared: the model's results, and whatever else on that data set they can be compared with.
        overlays: pairs of model and data set that can be drawn into the same plot.
        verdicts: on the levels, measured, planned and published.
        latencies: of whatever was timed of these results.
        times: of the same, what can be compared with the series' original.
        bench_command: times what was not timed yet; empty where there is nothing, or not on this machine.
        plans: plans of levels that were not measured.
        question: what to ask the planner; None where it cannot answer.
        options: what the form for a run offers; None where the data set is not on this machine.
        problem: why a run or a plan is not possible here; empty if both are.
        file_of: the data set whose data.yaml a run needs.
        given_path: of that file, as the user typed it; empty if he did not.
        subject: whose runs are shown.
        drawn: figures, by what decides them, so that each is built once.
    """

    store: Store
    model: str
    data: str
    architecture: str
    records: list[RunRecord]
    series: Series | None
    other_seeds: tuple[Series, ...]
    neighbours: Neighbours
    rivals: Rivals | None
    compared: list[RunRecord]
    overlays: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    latencies: list[LatencyRecord]
    times: Times
    bench_command: str
    plans: dict[int, PlanRecord]
    question: PlanQuestion | None
    options: LaunchOptions | None
    problem: str
    file_of: str
    given_path: str
    subject: Subject
    drawn: dict[object, Any] = field(default_factory=dict, compare=False)

    @property
    def task(self) -> TaskName:
        """What the model is for."""
        return self.series.any_record.task if self.series else task_of_name(self.architecture)

    @property
    def unmeasured(self) -> list[int]:
        """Levels without a result in this series."""
        return _unmeasured(self.series)

    def is_measured_otherwise(self, level: int) -> bool:
        """Whether a level was measured under any conditions."""
        return any(record.level == level and record.provenance == "measured" for record in self.records)


def view_of(store: Store, chosen: Chosen, given_path: str) -> View:
    """Put together what is known of a model on a data set.

    Args:
        store: for plans, files and whole results.
        chosen: what the select boxes say.
        given_path: of the data.yaml, as the user typed it; "" if he did not.
    """
    model, data, series = chosen.model, chosen.data, _whole(store, chosen.series)
    mine = [record for record in chosen.on_same_data if record.model == model]
    own = find_brought("model", model)
    architecture = own.architecture if own and not mine else architecture_of(model, chosen.known)
    rivals = rivals_among(chosen.on_same_data)
    compared = [*mine, *(record for record in rivals if record.model != model)]
    neighbours = neighbours_of(architecture, series, rivals)
    imgsz = image_size(data, series, neighbours, (own.imgsz if own else 0) or _usual_size(architecture))
    # A page that is drawn again and again waits for no download.
    here = partial(store.artifact_path, fetch=False)
    question, options, problem = None, None, ""
    try:
        found = find_data(data, given_path, compared)
    except DatasetError as error:
        problem = str(error)
    else:
        source, original = source_of(series, here), original_checkpoint(series, here)
        if source is None and own is not None:
            source = Source(model=own.path, weights_sha256=own.sha256)
        question = plan_question(source, architecture, found, imgsz, original)
        options = launch_options(source, architecture, found, imgsz, series)
    plans = find_plans(store, question, _unmeasured(series)) if question else {}
    if not all(_is_same_model(series, plan.before) for plan in plans.values()):
        question, plans = None, {}
    if options and not question:
        problem = WITHOUT_WEIGHTS
    latencies = store.latencies(checkpoints_of(compared))
    seeds = [series, *(one for one in chosen.same_conditions if one is not chosen.series)] if series else []
    times = times_of_series(seeds, latencies) if seeds else {}
    planned = {level: plan.after for level, plan in plans.items()}
    verdicts = verdicts_of(seeds, rivals, times, planned) if seeds else []
    return View(
        store=store,
        model=model,
        data=data,
        architecture=architecture,
        records=mine,
        series=series,
        other_seeds=tuple(seeds[1:]),
        neighbours=neighbours,
        rivals=rivals_of(seeds, rivals, times) if seeds else None,
        compared=compared,
        overlays=_others_measured(chosen, architecture),
        verdicts=(*verdicts, *published_verdicts(architecture, rivals)),
        latencies=latencies,
        times=times,
        bench_command=bench_command(series, neighbours.siblings, times, here) if series else "",
        plans=plans,
        question=question,
        options=options,
        problem=problem,
        file_of=whole_name(data, compared),
        given_path=given_path,
        subject=subject_of(model, data, mine, options),
    )


def _whole(store: Store, series: Series | None) -> Series | None:
    """A series whose levels have their layers and curves."""
    if series is None:
        return None
    levels = {level: store.find(record.key) or record for level, record in series.levels.items()}
    return replace(series, levels=levels)


def _others_measured(chosen: Chosen, architecture: str) -> tuple[tuple[str, str], ...]:
    """Other measured pairs of model and data set of one task: on the same data set first, then of the same model."""
    task = task_of_name(architecture)
    measured = (one for one in chosen.known if one.provenance == "measured" and one.level is not None)
    pairs = {(one.model, one.data) for one in measured if task_of_name(one.architecture) == task}
    pairs -= {(chosen.model, chosen.data)}
    return tuple(sorted(pairs, key=lambda pair: (pair[1] != chosen.data, pair[0] != chosen.model, pair)))


def _usual_size(architecture: str) -> int:
    """Of a classifier that of Ultralytics, pixels; 0 where the data set decides."""
    task = task_of_name(architecture)
    return default_imgsz_of(task) if task == "classify" else 0


def _unmeasured(series: Series | None) -> list[int]:
    return [level for level in LEVELS if series is None or level not in series.levels]


def _is_same_model(series: Series | None, before: Costs) -> bool:
    """Whether a plan is of the model that was measured: random weights of its architecture may be wider."""
    return series is None or series.any_record.costs_original.params == before.params
