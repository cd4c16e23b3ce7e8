"""What each group of coupled channels is worth: accuracy after cutting only it, with nothing recovered or trained.

The channels are silenced, not removed: they give zero, and nobody reads them. That computes what the narrower model
computes, and costs one pass over validation images that are read once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from cache.record import Progress
from cache.sensitivity import DEFAULT_IMAGES, DEFAULT_PART, GroupSensitivity, SensitivityRecord, SensitivitySpec
from cache.store import own_store
from compression.accuracy.evaluation import check_fits, validate
from compression.data.dataset import Dataset
from compression.data.loaded_images import LoadedImages, load_validation_images
from compression.deployment.latency import Timed, opened
from compression.environment import check_device, describe_environment
from compression.errors import ModelError, SpecError
from compression.graph.channels import Indices
from compression.graph.costs import shown_as
from compression.graph.trace import Trace, Weighted
from compression.models.detector import read_checkpoint
from compression.models.kinds import LEAST_STRIDE
from compression.pruning.planner import Planner
from compression.pruning.surgery import silence_others
from compression.spec import DEFAULT_ALIGN, DEFAULT_BATCH, CriterionName, HeadName
from compression.telling import Tell, silent

# Ranks channels by their weights alone. The default criterion prices what is left after a recovery, which does not take
# place here.
CRITERION: CriterionName = "l2"
# Importances are kept as so many quantiles, of so many significant digits.
N_QUANTILES = 21
DIGITS = 4
# Parts of the costs are kept with so many decimals: hundredths of a percent.
COST_DECIMALS = 5


def measure_sensitivity(
    subject: Timed,
    dataset: Dataset,
    *,
    imgsz: int,
    head: HeadName,
    n_images: int = DEFAULT_IMAGES,
    device: str = "",
    again: bool = False,
    tell: Tell = silent,
) -> SensitivityRecord:
    """Cut each group of a checkpoint alone, measure, and store what was found.

    Args:
        subject: the checkpoint.
        dataset: its validation images are looked at.
        imgsz: side of the square input, pixels.
        head: whose predictions count.
        n_images: at most so many validation images, evenly spaced in the order of their names.
        device: Ultralytics' device string; of several GPUs the first is used.
        again: measure also what is stored.
        tell: receives the progress.

    Raises:
        SpecError: there is no such device, or no image is asked for.
        ModelError: the checkpoint does not fit the data set, or cannot be traced or pruned.
    """
    if n_images < 1:
        raise SpecError(f"{n_images} images are not possible; give a whole number from 1 up.")
    check_device(device)
    spec = SensitivitySpec(
        weights_sha256=subject.sha256,
        data_fingerprint=dataset.fingerprint,
        imgsz=imgsz,
        head=head,
        n_images=min(n_images, dataset.n_val),
        criterion=CRITERION,
        part=DEFAULT_PART,
        align=DEFAULT_ALIGN,
    )
    known = None if again else own_store().find_sensitivity(spec.key)
    if known is not None:
        return known
    module, _ = read_checkpoint(subject.checkpoint)
    check_fits(module, subject.checkpoint.name, dataset, head)
    start = time.perf_counter()
    map50_95, groups = _measured(module, dataset, spec, device, tell)
    record = SensitivityRecord(
        spec=spec,
        model=subject.model,
        level=subject.level,
        data=dataset.name,
        n_val=dataset.n_val,
        map50_95=map50_95,
        groups=groups,
        n_backbone=len(module.yaml["backbone"]),
        n_blocks=len(module.model),
        seconds=round(time.perf_counter() - start, 1),
        environment=describe_environment(device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=dataset.task,
    )
    own_store().save_sensitivity(record)
    return record


def _measured(
    module: DetectionModel, dataset: Dataset, spec: SensitivitySpec, device: str, tell: Tell
) -> tuple[float, tuple[GroupSensitivity, ...]]:
    """The task's main accuracy of the model as it is, and of all groups in forward order."""
    planner = Planner(module, spec.imgsz, criterion=spec.criterion, align=spec.align)
    tell(Progress(stage=f"reading {spec.n_images} validation images"))
    with _quiet():
        images = load_validation_images(
            dataset,
            imgsz=spec.imgsz,
            batch=DEFAULT_BATCH,
            # Of models that halve their maps less often Ultralytics pads the images as of all others.
            stride=max(int(module.stride.max()), LEAST_STRIDE),
            n_images=spec.n_images,
        )

        def accuracy(model: DetectionModel) -> float:
            return _accuracy(model, dataset, spec, device, images)

        tell(Progress(stage="measuring the model as it is"))
        # Of a copy: the validator folds BatchNorm.
        whole = accuracy(silence_others(module, planner.trace, _all_kept(planner.trace)))
        groups = {tie[0]: _group(planner, tie, spec.head) for tie in planner.trace.ties}
        cuts, start = planner.cut_alone(spec.part), time.perf_counter()
        for number, (unit, kept) in enumerate(cuts.items()):
            cut = _cut(groups[unit[0]], planner, unit, kept)
            each = (time.perf_counter() - start) / max(number, 1)
            stage = f"cutting only {cut.name}, {number + 1} of {len(cuts)}"
            tell(Progress(stage=stage, eta_seconds=each * (len(cuts) - number) if number else None))
            found = accuracy(silence_others(module, planner.trace, kept)) if cut.predicts else whole
            groups[unit[0]] = replace(cut, map50_95=found)
    return whole, tuple(groups[index] for index in sorted(groups))


def _accuracy(
    model: DetectionModel, dataset: Dataset, spec: SensitivitySpec, device: str, images: LoadedImages
) -> float:
    metrics = validate(
        model,
        dataset,
        imgsz=spec.imgsz,
        batch=DEFAULT_BATCH,
        device=device,
        head=spec.head,
        rect=True,
        images=images,
    )
    assert metrics.map50_95 is not None
    return metrics.map50_95


def _all_kept(trace: Trace) -> list[Indices]:
    return [np.arange(group.width) for group in trace.groups]


def _widths(kept: Sequence[Indices]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([len(channels) for channels in kept], dtype=np.float64)


def _group(planner: Planner, tie: tuple[int, ...], head: HeadName) -> GroupSensitivity:
    """Groups that must keep equally many channels, as far as they are known without a cut."""
    trace = planner.trace
    n_channels = sum(trace.groups[index].width for index in tie)
    layers = _layers(trace, tie)
    deployed = {layer.shown_as for layer in planner.costs.layers if layer.deployed}
    return GroupSensitivity(
        name=shown_as(trace.groups[tie[0]].name),
        layers=layers,
        channels_before=n_channels,
        channels_after=n_channels,
        locked=trace.groups[tie[0]].locked,
        # Predictions come from one of two heads: from that which is deployed, or from the other one.
        predicts=bool(deployed & set(layers)) if head == "e2e" else not all(".one2one_" in name for name in layers),
        map50_95=None,
        gflops_saved=0.0,
        params_saved=0.0,
        importance=(),
    )


def _layers(trace: Trace, tie: tuple[int, ...]) -> tuple[str, ...]:
    """What gives these channels, depthwise convolutions and linear layers among them, in forward order."""
    given = (member.layer for index in tie for member in trace.groups[index].members if member.side == "out")
    return tuple(dict.fromkeys(shown_as(name) for name in given if _is_weighted(trace, name)))


def _is_weighted(trace: Trace, name: str) -> bool:
    return isinstance(trace.twin.get_submodule(name), Weighted)


def _cut(group: GroupSensitivity, planner: Planner, unit: tuple[int, ...], kept: Sequence[Indices]) -> GroupSensitivity:
    """What is cut of a unit and what that saves, its accuracy not measured yet."""
    before, after = (planner.costs.training_costs(widths) for widths in (planner.costs.widths, _widths(kept)))
    gflops_kept, params_kept = (float(new / old) for old, new in zip(before, after, strict=True))
    quantiles = np.quantile(planner.scores_of(unit), np.linspace(0, 1, N_QUANTILES))
    return replace(
        group,
        channels_after=sum(len(kept[index]) for index in unit),
        gflops_saved=round(1 - gflops_kept, COST_DECIMALS),
        params_saved=round(1 - params_kept, COST_DECIMALS),
        importance=tuple(float(f"{value:.{DIGITS}g}") for value in quantiles),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ultralytics from telling of each pass, by lines and by bars."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def subject_for(model: str) -> Timed:
    """A trained checkpoint by its path, its name or the beginning of its result's key.

    Raises:
        ModelError: there is no such model, it has random weights, or it cannot be opened.
        SpecError: several results have a key that begins so.
    """
    if model.lower().endswith((".yaml", ".yml")):
        raise ModelError(f"{model!r} has random weights, whose accuracy tells nothing; give the path of a .pt.")
    return opened(model)
