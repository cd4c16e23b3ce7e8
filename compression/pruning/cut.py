"""What needs no training: plan a cut, apply it, and recover accuracy by least squares."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel

from cache.record import Costs, PlanRecord
from cache.store import own_store, plan_key, sheet_key
from compression.data.calibration import Calibration, load_calibration
from compression.data.classes import class_subset, keep_classes, parse_subset
from compression.data.dataset import Dataset, class_names, kpt_shape_in, open_dataset
from compression.environment import all_cores, torch_device
from compression.errors import SpecError
from compression.graph.cost_sheet import CostSheet
from compression.image_size import ImageSize, height_width, longer_side
from compression.levels import resolve_target
from compression.models.checkpoint import checkpoint_info, write_checkpoint
from compression.models.detector import UNFUSED, Detector, needs_training, open_detector, with_classes
from compression.models.unfuse import settle_batchnorm, was_fused
from compression.pruning.criteria import CRITERIA
from compression.pruning.latency_target import Timetable
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.recovery import recover, reestimate_batchnorm
from compression.pruning.surgery import apply_plan, kept_outputs
from compression.spec import (
    DEFAULT_CALIBRATION_IMAGES,
    DEFAULT_SEED,
    WITHOUT_IMAGES,
    CutMethod,
    HeadName,
    Target,
)
from compression.telling import Tell, silent
from compression.wishes import Wish


class Cutter:
    """Cuts one model; its channels are scored, and its images loaded, once for all cuts.

    Args:
        module: the detector; not modified.
        imgsz: size of the input; training images are looked at in the square that holds it.
        method: how channels are chosen and accuracy is recovered.
        dataset: whose training images are looked at; may be None where the method needs none.
        device: Ultralytics' device string.
        original: the model before any earlier cut, of whose widths the layers' floors are parts.
        head: whose predictions are timed where a latency is asked for.
        label: what progress calls the model.
        tell: receives the progress of timing.

    Raises:
        ModelError: the model cannot be traced.
        SpecError: the method needs training images and there is no data set.
    """

    def __init__(
        self,
        module: DetectionModel,
        imgsz: ImageSize,
        method: CutMethod,
        *,
        dataset: Dataset | None = None,
        device: str = "cpu",
        original: DetectionModel | None = None,
        head: HeadName = "e2e",
        label: str = "the model",
        tell: Tell = silent,
    ) -> None:
        self._module, self._method, self._device = module, method, torch_device(device)
        self._imgsz, self._head, self._label, self._tell = imgsz, head, label, tell
        self._calibration = _calibration(dataset, imgsz, method)
        with all_cores():
            self.planner = Planner(
                module,
                imgsz,
                criterion=method.criterion,
                allocation=method.allocation,
                calibration=self._calibration,
                seed=method.seed,
                device=self._device,
                original=original,
                align=method.align,
            )

    @property
    def sheet(self) -> CostSheet:
        """Costs of the model and of every cut of it."""
        return self.planner.costs

    @property
    def before(self) -> Costs:
        """Costs of the model before this cut."""
        return self.planner.outcome(self._module)[0]

    def plan(self, target: Target) -> PruningPlan:
        """Plan a cut; one that is to meet a latency is timed, unless the same was timed before.

        Raises:
            SpecError: the latency is for another machine, of which nothing is known here.
            TargetError: the model cannot be cut that far, or not both costs together.
        """
        if target.latency is None:
            return self.planner.plan(target)
        return Timetable(
            planner=self.planner,
            module=self._module,
            label=self._label,
            imgsz=self._imgsz,
            head=self._head,
            tell=self._tell,
        ).plan(target)

    def cut(self, target: Target) -> Pruned:
        """Plan a cut and apply it.

        Raises:
            TrimboardError: see `plan`.
        """
        pruning = self.plan(target)
        return Pruned(module=apply_plan(self._module, self.planner.trace, pruning), plan=pruning)

    def recover(self, pruned: Pruned) -> DetectionModel:
        """The pruned model with what the method brings back of its accuracy; the same module where it is nothing."""
        if self._method.recovery == "none" or pruned.plan.after == pruned.plan.before:
            return pruned.module
        assert self._calibration is not None
        images = self._calibration.images
        if self._method.recovery == "batchnorm":
            return reestimate_batchnorm(pruned.module, images, device=self._device)
        kept = kept_outputs(self._module, self.planner.trace, pruned.plan)
        with all_cores():
            recovered, _ = recover(
                self._module, pruned.module, kept, images, seed=self._method.seed, device=self._device
            )
        return recovered


def _calibration(dataset: Dataset | None, imgsz: ImageSize, method: CutMethod) -> Calibration | None:
    if not looks_at_images(method):
        return None
    if dataset is None or method.calibration_images == 0:
        raise SpecError(
            f"Criterion {method.criterion!r} with recovery {method.recovery!r} looks at training images and was given "
            f"none; name a data set and at least one image, or choose --criterion l2 --recovery none."
        )
    return load_calibration(dataset, imgsz=longer_side(imgsz), n_images=method.calibration_images, seed=method.seed)


def settled(detector: Detector, dataset: Dataset, *, imgsz: ImageSize, device: str = "cpu") -> Detector:
    """A detector that was fused, with what its BatchNorm has to know of the training images; others as they are."""
    if not was_fused(detector.module):
        return detector
    calibration = load_calibration(
        dataset, imgsz=longer_side(imgsz), n_images=DEFAULT_CALIBRATION_IMAGES, seed=DEFAULT_SEED
    )
    module = settle_batchnorm(detector.module, calibration.images, device=torch_device(device))
    return replace(detector, module=module, info={**detector.info, UNFUSED: True})


def looks_at_images(method: CutMethod) -> bool:
    """Whether a method needs training images."""
    return CRITERIA[method.criterion].needs_images or method.recovery != "none"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A pruned, not yet trained model and the plan it followed."""

    module: DetectionModel
    plan: PruningPlan


def plan(
    model: str,
    *,
    level: int | None = None,
    target: Target | None = None,
    layers: tuple[Wish, ...] = (),
    imgsz: ImageSize | None = None,
    data: str | None = None,
    classes: str = "",
    method: CutMethod | None = None,
) -> PlanRecord:
    """What would be cut from a model, exactly, with no training.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None; not needed where layers are given.
        layers: what single layers keep; level or target are met by the others.
        imgsz: size of the input; None for the model's usual one.
        data: data set whose number of classes the model shall have; the model's own where None.
        classes: names or indices of the only classes to keep; empty for all.
        method: how channels are chosen; None for the default, see `plan_all`.

    Raises:
        TrimboardError: the model, level, target, method, data set or a class cannot be used.
    """
    targets = {level: resolve_target(level, target, layers)}
    return plan_all(model, targets, imgsz=imgsz, data=data, classes=classes, method=method)[0]


def plan_all(
    model: str,
    targets: dict[int | None, Target],
    *,
    imgsz: ImageSize | None = None,
    data: str | None = None,
    classes: str = "",
    method: CutMethod | None = None,
    tell: Tell = silent,
) -> list[PlanRecord]:
    """Plans of several levels of one model, opened and traced once; those without images are kept in the store.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        targets: level (None for a custom target) to the costs to keep.
        imgsz: size of the input; None for the model's usual one.
        data: data set whose number of classes the model shall have; the model's own where None.
        classes: names or indices of the only classes to keep, of the data set or else of the model; empty for all.
        method: how channels are chosen; its recovery does not matter. None for that of a run where the model was
            trained on the data set's classes, and for what needs no images elsewhere.
        tell: receives the progress of timing where a latency is asked for.

    Raises:
        TrimboardError: the model, a target, the method, the data set or a class cannot be used.
    """
    names = class_names(data) if data is not None else None
    points = kpt_shape_in(data) if data is not None else None
    detector = open_detector(model, nc=len(names) if names else None, kpt_shape=points)
    imgsz = detector.usual_imgsz if imgsz is None else imgsz
    method, dataset = _method_for(detector, data, replace(method, recovery="none") if method else None)
    method = replace(method, recovery="none")
    detector = _settled_by(detector, data, imgsz)
    module = detector.module if names is None else with_classes(detector, names, points)
    kept = parse_subset(classes, names or module.names)
    if kept:
        module, dataset = keep_classes(module, kept), dataset and class_subset(dataset, kept)
    start = time.perf_counter()
    head = detector.choose_head(None)
    cutter = Cutter(module, imgsz, method, dataset=dataset, head=head, label=detector.label, tell=tell)
    opened = time.perf_counter() - start
    if not kept and _is_kept(method):
        # Counted once, so that a page can tell the costs of any other cut.
        own_store().save_sheet(
            sheet_key(detector.label, detector.weights_sha256, len(module.names), imgsz, points), cutter.sheet
        )
    records = []
    for level, target in targets.items():
        pruning = cutter.plan(target)
        record = PlanRecord(
            model=detector.label,
            imgsz=imgsz,
            nc=len(module.names),
            level=level,
            target=target,
            before=pruning.before,
            after=pruning.after,
            layers=pruning.layers,
            seconds=round(opened + pruning.seconds, 3),
            warnings=(*detector.warnings, *pruning.warnings),
            criterion=method.criterion,
            allocation=method.allocation,
            align=method.align,
            time=pruning.time,
        )
        if level is not None and not target.layers and not kept and _is_kept(method):
            key = plan_key(detector.label, detector.weights_sha256, record.nc, imgsz, level, points)
            own_store().save_plan(key, record)
        records.append(record)
    return records


def _is_kept(method: CutMethod) -> bool:
    """Whether this is how a cut is planned without images: those plans alone are the same on any data set."""
    return replace(method, seed=WITHOUT_IMAGES.seed, calibration_images=0) == WITHOUT_IMAGES


def _method_for(detector: Detector, data: str | None, asked: CutMethod | None) -> tuple[CutMethod, Dataset | None]:
    """How to cut a model outside of a run, and the data set where its images are looked at for that.

    Raises:
        SpecError: the model has to be trained on the data set before its channels can be told apart there.
    """
    method = asked or (CutMethod() if data is not None else WITHOUT_IMAGES)
    if data is None or not looks_at_images(method):
        return method, None
    names = class_names(data)
    if not needs_training(detector, len(names), kpt_shape_in(data), names):
        return method, open_dataset(data, detector.task)
    if asked is None:
        return WITHOUT_IMAGES, None
    raise SpecError(
        f"{detector.label!r} was not trained on the {len(names)} classes of {data!r}, so criterion "
        f"{method.criterion!r} cannot rank its channels there; choose --criterion l2 --allocation uniform --recovery "
        f"none."
    )


def _settled_by(detector: Detector, data: str | None, imgsz: ImageSize) -> Detector:
    """The same as `settled`, where there is a data set that the model was trained for."""
    if data is None or not detector.was_unfused:
        return detector
    names = class_names(data)
    if needs_training(detector, len(names), kpt_shape_in(data), names):
        return detector
    return settled(detector, open_dataset(data, detector.task), imgsz=imgsz)


def prune(
    model: str,
    *,
    out: Path | None = None,
    level: int | None = None,
    target: Target | None = None,
    layers: tuple[Wish, ...] = (),
    imgsz: ImageSize | None = None,
    data: str | None = None,
    method: CutMethod | None = None,
    seed: int = DEFAULT_SEED,
    tell: Tell = silent,
) -> Pruned:
    """Cut a model and recover what can be recovered without training.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        out: where to save a checkpoint that plain Ultralytics loads; None saves nothing.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None; not needed where layers are given.
        layers: what single layers keep; level or target are met by the others.
        imgsz: size of the input at which the GFLOPs are counted; None for the model's usual one.
        data: data set whose training images the method looks at.
        method: how channels are chosen and accuracy is recovered; None for the default, see `plan_all`.
        seed: of everything random.
        tell: receives the progress of timing where a latency is asked for.

    Raises:
        TrimboardError: the model, level, target, method or data set cannot be used.
    """
    wanted = resolve_target(level, target, layers)
    if out is not None:
        _check_writable(out)
    detector = open_detector(model, seed=seed)
    if out is not None:
        _check_keeps_original(out, detector)
    imgsz = detector.usual_imgsz if imgsz is None else imgsz
    method, dataset = _method_for(detector, data, method)
    method = replace(method, seed=seed)
    detector = _settled_by(detector, data, imgsz)
    cutter = Cutter(
        detector.module,
        imgsz,
        method,
        dataset=dataset,
        head=detector.choose_head(None),
        label=detector.label,
        tell=tell,
    )
    pruned = cutter.cut(wanted)
    pruned = Pruned(
        module=cutter.recover(pruned), plan=replace(pruned.plan, warnings=(*detector.warnings, *pruned.plan.warnings))
    )
    if out is not None:
        pruning = pruned.plan
        content = {
            "level": level,
            "target": asdict(wanted),
            "imgsz": longer_side(imgsz),
            "counted_at": list(height_width(imgsz)),
            **asdict(method),
            "before": asdict(pruning.before),
            "after": asdict(pruning.after),
            "time": asdict(pruning.time) if pruning.time else None,
            "layers": [asdict(row) for row in pruning.layers],
            **({UNFUSED: True} if detector.was_unfused else {}),
        }
        write_checkpoint(pruned.module, out, checkpoint_info(detector.label, content))
    return pruned


def _check_writable(file: Path) -> None:
    """Refuse a place for a checkpoint before any work is done for it."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise SpecError(f"{str(file)!r} cannot be written; give a file name in a folder that exists and is yours.")
    if file.suffix != ".pt":
        raise SpecError(f"{str(file)!r} does not end in .pt; Ultralytics loads no other checkpoint.")


def _check_keeps_original(file: Path, detector: Detector) -> None:
    """Refuse to write over the model that is cut, whatever name it goes by."""
    if detector.file is not None and file.exists() and file.samefile(detector.file):
        raise SpecError(f"{str(file)!r} is the model that is to be cut; give another file name, so that it stays.")
