"""What one run measured: plain data, the same in the database, in the shipped files and in a checkpoint.

Nothing here imports torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from compression.catalog import TaskName
from compression.errors import SpecError, TrimboardError
from compression.image_size import ImageSize, from_json
from compression.request import RunRequest
from compression.spec import DEFAULT_ALIGN, AllocationName, CriterionName, HeadName, RunSpec, Target

RECORD_VERSION = 1

# So much of a key tells a result or run from all others that anybody has.
SHORT_KEY = 12

# The name of the model among a result's files.
CHECKPOINT = "checkpoint"

Provenance = Literal["measured", "published"]


class RecordError(TrimboardError, ValueError):
    """Stored data that are not a record this program understands."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one forward pass and the weights cost. GFLOPs are 1e9 floating-point operations (2 x MACs) an image.

    Attributes:
        gflops: of the training graph: every head, BatchNorm unfolded.
        params: of the training graph.
        gflops_deployed: of the graph after `fuse()`: one head, BatchNorm folded.
        params_deployed: of the same; None where a source does not say.
    """

    gflops: float | None
    params: int | None
    gflops_deployed: float | None
    params_deployed: int | None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Accuracy on the validation split, parts of 1; None where a source does not say.

    Of boxes, masks, key points (by their similarity in place of the IoU) or rotated boxes, as the task has it. Of a
    classifier `map50_95` is the top-1 and `map50` the top-5 accuracy; see `compression.models.tasks` for what
    they are called.

    Attributes:
        map50: mean average precision at IoU 0.5.
        map50_95: mean over IoU 0.5 to 0.95.
        precision: at the confidence of best F1.
        recall: at the confidence of best F1.
        per_class: mAP50-95 of each class by name.
    """

    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    per_class: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TimeKept:
    """How much of a forward pass's time a cut keeps, by prediction and by measurement in turn with the original.

    Attributes:
        predicted_ms: milliseconds a pass, by times of its layers.
        predicted_kept: as a part of what is predicted for the original.
        measured_ms: median; None where it could not be measured.
        measured_kept: as a part of the original's; likewise.
        measured_low: lower end of its 95% interval.
        measured_high: upper end.
    """

    predicted_ms: float
    predicted_kept: float
    measured_ms: float | None = None
    measured_kept: float | None = None
    measured_low: float | None = None
    measured_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer before and after pruning, on the training graph.

    Attributes:
        name: the module's path in the model, e.g. "model.2.cv1".
        type: its class.
        channels_before: output channels.
        locked: why all of them must stay; None where some may go, or where an older record does not say.
    """

    name: str
    type: str
    channels_before: int
    channels_after: int
    gflops_before: float
    gflops_after: float
    params_before: int
    params_after: int
    locked: str | None = None

    @property
    def sparsity(self) -> float:
        """Part of the output channels that was removed, 0 to 1."""
        return 1 - self.channels_after / self.channels_before


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One epoch of fine-tuning.

    Attributes:
        epoch: counted from 1.
        losses: training and validation losses by Ultralytics' names.
        lr: learning rate of the first parameter group.
        seconds: wall time of the epoch.
    """

    epoch: int
    map50: float
    map50_95: float
    precision: float | None
    recall: float | None
    losses: dict[str, float]
    lr: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a run left.

    Attributes:
        name: what it is: "checkpoint".
        file: file name; it lies beside the record (shipped) or in the run's folder.
        sha256: of its content.
        size_bytes: its length.
    """

    name: str
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One result: what was asked, what it cost, how accurate it is, and how that was found out.

    Attributes:
        key: the spec's key; for a published result a name of its own.
        provenance: measured by this program, or copied from a publication.
        model: label that results are grouped by.
        architecture: catalog name of the architecture ("yolo26n"), or the label where unknown.
        data: name of the data set.
        level: 0 to 5, None for a custom target.
        head: the predictions that were measured.
        imgsz: side of the input, pixels.
        costs_original: of level 0.
        costs: of the result.
        metrics_original: of level 0 on the same data with the same head.
        metrics_pruned: after pruning, before recovery and training; None at level 0 and where not measured.
        metrics_recovered: after pruning and recovery, before any training; None where nothing was recovered.
        metrics: of the result.
        metrics_test: of the result on images that chose nothing, the data set's test images; only studies measure it.
        spec: what was asked; None for a published result.
        layers: one row a layer; empty where a source does not say.
        curve: one row an epoch.
        environment: versions, hardware, commit.
        artifacts: files of the result.
        seconds: wall time of each stage by name.
        warnings: what the reader of the figures must know, a sentence each.
        created: ISO 8601 date and time; empty where a publication does not say.
        source: where a published result stands.
        published_training: what a publication says about its training, "recipe" and "epochs"; a measured result has
            it in its spec.
        time: what the cut keeps of a forward pass's time; None where no latency was asked for.
    """

    key: str
    provenance: Provenance
    model: str
    architecture: str
    data: str
    level: int | None
    head: HeadName
    imgsz: int
    costs_original: Costs
    costs: Costs
    metrics_original: Metrics
    metrics: Metrics
    created: str
    metrics_pruned: Metrics | None = None
    metrics_recovered: Metrics | None = None
    metrics_test: Metrics | None = None
    spec: RunSpec | None = None
    layers: tuple[LayerRow, ...] = ()
    curve: tuple[EpochRow, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    source: str | None = None
    published_training: dict[str, str | int] = field(default_factory=dict)
    time: TimeKept | None = None

    @property
    def task(self) -> TaskName:
        """What the model predicts, which decides what the accuracies are; what was published is of detectors."""
        return self.spec.task if self.spec else "detect"

    @property
    def checkpoint_sha256(self) -> str | None:
        """Hash of the model that the result left; None where it left none."""
        return self.checkpoint.sha256 if self.checkpoint else None

    @property
    def checkpoint_mb(self) -> float | None:
        """Size of the same, megabytes of 1e6 bytes."""
        return self.checkpoint.size_bytes / 1e6 if self.checkpoint else None

    @property
    def checkpoint(self) -> Artifact | None:
        """The model among the files that the result left; None where it left none."""
        return next((artifact for artifact in self.artifacts if artifact.name == CHECKPOINT), None)

    def without_places(self) -> RunRecord:
        """The same result without paths of this machine, to be handed on."""
        return replace(self, spec=self.spec and self.spec.without_places())

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        values = asdict(self)
        values["spec"] = self.spec.to_dict() if self.spec else None
        return {"version": RECORD_VERSION, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunRecord:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            RecordError: the data are of another version, or a field is unknown or missing.
        """
        fields = dict(values)
        version = fields.pop("version", None)
        if version != RECORD_VERSION:
            raise RecordError(f"A result has version {version!r}; this program reads version {RECORD_VERSION}.")
        try:
            pruned, spec = fields["metrics_pruned"], fields["spec"]
            # Older results do not speak of recovery, of test images, and of time.
            recovered, test = fields.get("metrics_recovered"), fields.get("metrics_test")
            timed = fields.get("time")
            return cls(
                **{
                    **fields,
                    "costs_original": Costs(**fields["costs_original"]),
                    "costs": Costs(**fields["costs"]),
                    "metrics_original": Metrics(**fields["metrics_original"]),
                    "metrics": Metrics(**fields["metrics"]),
                    "metrics_pruned": Metrics(**pruned) if pruned else None,
                    "metrics_recovered": Metrics(**recovered) if recovered else None,
                    "metrics_test": Metrics(**test) if test else None,
                    "spec": RunSpec.from_dict(spec) if spec else None,
                    "layers": tuple(LayerRow(**row) for row in fields["layers"]),
                    "curve": tuple(EpochRow(**row) for row in fields["curve"]),
                    "artifacts": tuple(Artifact(**item) for item in fields["artifacts"]),
                    "warnings": tuple(fields["warnings"]),
                    "time": TimeKept(**timed) if timed else None,
                }
            )
        except (TypeError, KeyError, SpecError) as error:
            raise RecordError(f"A stored result cannot be read: {error}.") from error


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """What a level would cut from a model, exactly, with no training: the JSON of `trimboard plan`.

    Attributes:
        model: label of the model.
        imgsz: size of the input.
        nc: number of classes the model predicts.
        level: 0 to 5, None for a custom target.
        target: the costs asked for, as parts of the original's.
        before: costs of the original.
        after: costs of the pruned model.
        layers: one row a layer, in forward order.
        seconds: time that planning took, without loading the model.
        warnings: what the reader of the figures must know, a sentence each.
        criterion: how channels were ranked.
        allocation: how the cut was shared out among the layers.
        align: channels are removed in steps of up to so many.
        time: what is kept of a forward pass's time; None where no latency was asked for.
    """

    model: str
    imgsz: ImageSize
    nc: int
    level: int | None
    target: Target
    before: Costs
    after: Costs
    layers: tuple[LayerRow, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    criterion: CriterionName = "l2"
    allocation: AllocationName = "uniform"
    align: int = DEFAULT_ALIGN
    time: TimeKept | None = None

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PlanRecord:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            RecordError: a field is unknown or missing.
        """
        try:
            timed = values.get("time")
            return cls(
                **{
                    **values,
                    "imgsz": from_json(values["imgsz"]),
                    "target": Target.from_dict(values["target"]),
                    "time": TimeKept(**timed) if timed else None,
                    "before": Costs(**values["before"]),
                    "after": Costs(**values["after"]),
                    "layers": tuple(LayerRow(**row) for row in values["layers"]),
                    "warnings": tuple(values["warnings"]),
                }
            )
        except (TypeError, KeyError, SpecError) as error:
            raise RecordError(f"A stored plan cannot be read: {error}.") from error


RunState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ExecutorName = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, as it tells itself.

    Attributes:
        stage: what is being done, in words that can be shown.
        epoch: epochs finished in this stage, 0 where it has none.
        epochs: epochs planned in this stage, 0 where it has none.
        eta_seconds: expected time to the end of the stage; None while unknown.
        map50: latest validation result; None while there is none.
        map50_95: likewise.
        finished: the epoch that has just ended; None in between.
    """

    stage: str
    epoch: int = 0
    epochs: int = 0
    eta_seconds: float | None = None
    map50: float | None = None
    map50_95: float | None = None
    finished: EpochRow | None = None


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as the store knows it.

    Attributes:
        key: the spec's key.
        spec: the question.
        request: the same as it was typed; None where nobody typed it.
        state: "running" of a process that is gone is given as "interrupted".
        progress: the last that it told.
        position: its place in the queue, the lowest first.
        lanes: the devices that it needs for itself.
        executor: what runs it.
        host: the machine that it runs on, or is to run on; empty where that is open.
        pid: its process.
        process_started: when that started, seconds since 1970.
        memory_mb: what it holds of the device's memory, megabytes; 0 before it was measured.
        queued: ISO 8601 date and time.
        started: likewise; empty before.
        updated: its last sign of life.
        message: one sentence; why it ended without a result.
        log_file: where its output goes.
    """

    key: str
    spec: RunSpec
    request: RunRequest | None
    state: RunState
    progress: Progress
    position: float
    lanes: str
    executor: ExecutorName
    host: str
    pid: int
    process_started: float
    memory_mb: float
    queued: str
    started: str
    updated: str
    message: str
    log_file: str


def parse_record(text: str) -> RunRecord:
    """The record that a JSON text holds.

    Raises:
        RecordError: the text is not JSON, or not a record this program understands.
    """
    return RunRecord.from_dict(_json_object(text))


def parse_plan(text: str) -> PlanRecord:
    """The plan that a JSON text holds.

    Raises:
        RecordError: the text is not JSON, or not a plan this program understands.
    """
    return PlanRecord.from_dict(_json_object(text))


def _json_object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"Stored data are not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RecordError(f"Stored data are a {type(values).__name__} where a record is expected.")
    return values
