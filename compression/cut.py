"""What needs no training: plan a cut, and apply it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ultralytics.nn.tasks import DetectionModel

from cache.record import PlanRecord
from cache.store import own_store, plan_key
from compression.checkpoint import checkpoint_info, write_checkpoint
from compression.dataset import class_names
from compression.detector import open_detector, with_classes
from compression.errors import SpecError
from compression.levels import resolve_target
from compression.planner import Planner, PruningPlan
from compression.spec import DEFAULT_IMGSZ, DEFAULT_SEED, Target
from compression.surgery import apply_plan


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What `prune` gives back: a pruned, not yet trained model and the plan it followed."""

    module: DetectionModel
    plan: PruningPlan


def plan(
    model: str,
    *,
    level: int | None = None,
    target: Target | None = None,
    imgsz: int = DEFAULT_IMGSZ,
    data: str | None = None,
) -> PlanRecord:
    """What would be cut from a model, exactly, with no training.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None.
        imgsz: side of the square input, pixels.
        data: data set whose number of classes the model shall have; the model's own where None.

    Raises:
        TrimboardError: the model, level, target or data set cannot be used.
    """
    return plan_all(model, {level: resolve_target(level, target)}, imgsz=imgsz, data=data)[0]


def plan_all(
    model: str, targets: dict[int | None, Target], *, imgsz: int = DEFAULT_IMGSZ, data: str | None = None
) -> list[PlanRecord]:
    """Plans of several levels of one model, which is opened and traced once; kept in the store.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        targets: level (None for a custom target) to the costs to keep.
        imgsz: side of the square input, pixels.
        data: data set whose number of classes the model shall have; the model's own where None.

    Raises:
        TrimboardError: the model, a target or the data set cannot be used.
    """
    names = class_names(data) if data is not None else None
    detector = open_detector(model, nc=len(names) if names else None)
    module = detector.module if names is None else with_classes(detector, names)
    start = time.perf_counter()
    planner = Planner(module, imgsz)
    opened = time.perf_counter() - start
    records = []
    for level, target in targets.items():
        pruning = planner.plan(target)
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
            warnings=pruning.warnings,
        )
        if level is not None:
            key = plan_key(detector.label, detector.weights_sha256, record.nc, imgsz, level)
            own_store().save_plan(key, record)
        records.append(record)
    return records


def prune(
    model: str,
    *,
    out: Path | None = None,
    level: int | None = None,
    target: Target | None = None,
    imgsz: int = DEFAULT_IMGSZ,
    seed: int = DEFAULT_SEED,
) -> Pruned:
    """Cut a model, without training it.

    Args:
        model: catalog name, .yaml, or the path of a .pt.
        out: where to save a checkpoint that plain Ultralytics loads; None saves nothing.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None.
        imgsz: side of the square input at which the GFLOPs are counted, pixels.
        seed: of the random weights of a .yaml.

    Raises:
        TrimboardError: the model, level or target cannot be used.
    """
    wanted = resolve_target(level, target)
    if out is not None:
        _check_writable(out)
    detector = open_detector(model, seed=seed)
    planner = Planner(detector.module, imgsz)
    pruning = planner.plan(wanted)
    module = apply_plan(detector.module, planner.trace, pruning)
    if out is not None:
        content = {
            "level": level,
            "target": asdict(wanted),
            "imgsz": imgsz,
            "before": asdict(pruning.before),
            "after": asdict(pruning.after),
            "layers": [asdict(row) for row in pruning.layers],
        }
        write_checkpoint(module, out, checkpoint_info(detector.label, content))
    return Pruned(module=module, plan=pruning)


def _check_writable(file: Path) -> None:
    """Refuse a place for a checkpoint before any work is done for it."""
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise SpecError(f"{str(file)!r} cannot be written; give a file name in a folder that exists and is yours.")
    if file.suffix != ".pt":
        raise SpecError(f"{str(file)!r} does not end in .pt; Ultralytics loads no other checkpoint.")
