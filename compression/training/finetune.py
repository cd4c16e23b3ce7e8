"""Fine-tuning of a checkpoint's module: what Ultralytics is told, and what is done when it is interrupted or fails.

A training that was killed goes on from its last whole epoch and ends, on the CPU, with the weights of one that was not.
One that ran out of memory goes on with half the batch, and one whose loss was no number with other random numbers.
"""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.utils import RANK

from cache.record import EpochRow, Progress
from compression.catalog import TaskName
from compression.data.dataset import Dataset
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import read_checkpoint
from compression.models.tasks import TASKS
from compression.spec import RecipeName, RunSpec
from compression.telling import Tell
from compression.training.failures import Failure, TrainingError, failure_of, noted_failure, plain_error, plain_errors
from compression.training.shared_run import add_state_sender
from compression.training.trainer import TRAINERS
from compression.training.training_state import (
    ATTEMPT,
    Attempt,
    Kept,
    TrainingState,
    fingerprint,
    last_state,
    read_attempt,
    write_attempt,
)

# How often a running epoch tells its progress, seconds.
TELL_EVERY = 1.0

# Of the processes of a multi-GPU training the one that validates and logs; alone, a process has no rank.
_TELLING_RANKS = (-1, 0)

# Weight of the loss between the teacher's features and the student's, a tenth of Ultralytics' own. With 6.0 it was nine
# times the detection losses together (30.6 against 3.3) in the first epoch on BCCD, with 0.6 about as much (2.8 against
# 3.1); that epoch took an L2 cut of level 5 to 0.038 and 0.153 mAP50-95 on `val`, and to 0.050 without a teacher.
DISTILLATION_WEIGHT = 0.6

# By default Ultralytics gathers gradients to a nominal batch of 64, which leaves 200 images three steps an epoch, and
# its first epochs undo what pruning and recovery left. Tried on BCCD, 30 epochs from a recovered model of 70% of the
# GFLOPs: these values and a step a batch end at the original's mAP50-95 (0.512 of 0.511), the defaults at 0.471.
# At 40% of the GFLOPs a rate of 0.0003 held what was recovered (0.462 of 0.515 on `val` after one epoch, 0.001 falls to
# 0.141), but ended at 0.531 where 0.001 ends at 0.543.
_COSINE: dict[str, Any] = {"optimizer": "AdamW", "lr0": 0.001, "lrf": 0.02, "cos_lr": True, "warmup_epochs": 0.0}

# Each recipe as what it changes of Ultralytics' defaults. "plain" is the published experiment: no augmentation at all.
RECIPES: dict[RecipeName, dict[str, Any]] = {
    "standard": {},
    "plain": {
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": 0.0,
        "translate": 0.0,
        "scale": 0.0,
        "fliplr": 0.0,
        "mosaic": 0.0,
        "close_mosaic": 0,
        "erasing": 0.0,
        "auto_augment": None,
    },
    "cosine": _COSINE,
    "distill": {**_COSINE, "dis": DISTILLATION_WEIGHT},
}
# Arguments of a training that say where something lies, and change nothing of its result.
_PLACES = ("model", "project", "name", "exist_ok", "plots")

# Attempts at one epoch whose loss is no number, as many as in Ultralytics.
LOSS_ATTEMPTS = 3

# Recipes whose nominal batch is the run's own, so that the optimizer steps after every batch.
STEP_EACH_BATCH: frozenset[RecipeName] = frozenset({"cosine", "distill"})


@dataclass
class ProgressTeller:
    """Tells the progress of a training, at most once a second and at the end of each epoch.

    A plain class of this module, so that Ultralytics can hand it to the processes of a multi-GPU training.
    """

    tell: Tell
    stage: str
    started: float = field(default_factory=time.monotonic)
    last_told: float = 0.0
    batches: int = 0
    first_epoch: int = 0
    has_validated: bool = False

    def on_train_start(self, trainer: BaseTrainer) -> None:
        """Start the clock that the expected time is computed from."""
        self.started, self.first_epoch = time.monotonic(), trainer.start_epoch

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        """Count the batches of this epoch."""
        self.batches = 0

    def on_train_batch_end(self, trainer: BaseTrainer) -> None:
        """Tell how far the epoch is."""
        self.batches += 1
        if RANK in _TELLING_RANKS and time.monotonic() - self.last_told >= TELL_EVERY:
            self._tell(trainer, trainer.epoch, self.batches / len(trainer.train_loader))

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        """Tell the epoch's losses and its validation result."""
        if RANK not in _TELLING_RANKS:
            return
        self.has_validated = True
        # Ultralytics has just logged it.
        finished = read_curve(trainer.csv, trainer.args.task)[-1] if trainer.csv.is_file() else None
        self._tell(trainer, min(trainer.epoch + 1, trainer.epochs), 0.0, finished)

    def _tell(self, trainer: BaseTrainer, epoch: int, part: float, finished: EpochRow | None = None) -> None:
        self.last_told = time.monotonic()
        done = epoch - self.first_epoch + part
        elapsed = self.last_told - self.started
        metrics, (main, second, *_) = trainer.metrics or {}, TASKS[trainer.args.task].results
        self.tell(
            Progress(
                stage=self.stage,
                epoch=epoch,
                epochs=trainer.epochs,
                eta_seconds=elapsed / done * (trainer.epochs - self.first_epoch - done) if done > 0 else None,
                # After a resume Ultralytics begins with zeros.
                map50=float(metrics[second]) if self.has_validated else None,
                map50_95=float(metrics[main]) if self.has_validated else None,
                finished=finished,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training left.

    Attributes:
        best: the checkpoint of the best validated epoch.
        curve: one row an epoch.
        warnings: a sentence for whatever the reader of the figures must know.
    """

    best: Path
    curve: tuple[EpochRow, ...]
    warnings: tuple[str, ...] = ()

    @property
    def best_row(self) -> EpochRow:
        """The epoch that `best` is of: Ultralytics' fitness chose it, which may count more than the main accuracy."""
        number = int(self.best.stem.removeprefix("best-"))
        return next(row for row in self.curve if row.epoch == number)

    @property
    def seconds(self) -> float:
        """Wall time of all epochs, those of an interrupted process among them."""
        return sum(row.seconds for row in self.curve)


def fine_tune(
    start: Path,
    dataset: Dataset,
    spec: RunSpec,
    folder: Path,
    *,
    teacher: Path | None = None,
    tell: Tell,
    stage: str,
) -> Training:
    """Train a checkpoint's module, or go on where an interrupted training of it stopped.

    Args:
        start: checkpoint to begin with.
        dataset: what to train and validate on.
        spec: recipe, epochs, patience, image size, batch, seed, device and the head that is validated.
        folder: where the checkpoints and the state of the training are kept, in the run's folder; the place an
            interrupted training is looked for.
        teacher: checkpoint of the original, which the recipe "distill" teaches by; others do without.
        tell: receives the progress.
        stage: name of the stage in it.

    Raises:
        ModelError: the teacher is no checkpoint of a detector, or holds more than the restricted loader admits.
        TrainingError: there is too little memory for a single image, or the loss is no number again and again.
        HomeError: the disk is full.
        DatasetError: the images cannot be read any more.
    """
    overrides = _overrides(start, dataset, spec, folder)
    training = _fingerprint(overrides, start)
    failure: Failure | None = None
    with plain_errors(dataset, folder):
        while not (kept := last_state(folder / "weights", training)).finished:
            attempt = _attempt(kept, training, spec, folder)
            if failure:
                attempt = _after(failure, attempt, spec, folder)
            write_attempt(attempt, folder)
            with _distillation(teacher, spec, folder) as distillation:
                places = {"data": str(dataset.yaml_file), "device": spec.device or None}
                failure = _train(overrides | places | distillation, dataset, folder, tell, stage)
    assert kept.state is not None
    return _result(kept.state, folder, dataset.task)


def _train(overrides: dict[str, Any], dataset: Dataset, folder: Path, tell: Tell, stage: str) -> Failure | None:
    """Train to the end, or to a failure after which another attempt may help."""
    trainer = TRAINERS[dataset.task](overrides=overrides)
    add_teller(trainer, tell, stage)
    add_state_sender(trainer, folder.parent)
    noted_failure(folder)
    try:
        trainer.train()
    except Exception as error:
        # Of the processes of a multi-GPU training only the exit code arrives here.
        failure = failure_of(error) or noted_failure(folder)
        told = plain_error(failure, dataset, folder)
        if told:
            raise told from error
        if failure is None:
            raise
    else:
        return None
    del trainer
    gc.collect()
    torch.cuda.empty_cache()
    return failure


def _attempt(kept: Kept, training: str, spec: RunSpec, folder: Path) -> Attempt:
    """What was decided earlier for the epochs after a state; where nothing was, they are run as those before."""
    decided = read_attempt(folder)
    if decided is None or (decided.fingerprint, decided.epoch) != (training, kept.epoch):
        state = kept.state
        batch, warnings = (state.batch, state.warnings) if state else (spec.batch, ())
        decided = Attempt(fingerprint=training, epoch=kept.epoch, batch=batch, warnings=warnings)
    return _warned(decided, *kept.warnings)


def _after(failure: Failure, attempt: Attempt, spec: RunSpec, folder: Path) -> Attempt:
    """The attempt after one that failed.

    Raises:
        TrainingError: another one would not help.
    """
    # Each of several GPUs needs an image.
    smaller = max(attempt.batch // 2, len(spec.device.split(",")))
    told = f"Epoch {attempt.epoch + 1}"
    if failure.kind == "memory" and smaller < attempt.batch:
        told += f" ran out of memory with {attempt.batch} images a batch; from there on {smaller} were used."
        return _warned(replace(attempt, batch=smaller), told)
    if failure.kind == "loss" and attempt.number + 1 < LOSS_ATTEMPTS:
        told += " gave a loss that is no finite number and was run again with other random numbers."
        return _warned(replace(attempt, number=attempt.number + 1), told)
    # Whoever starts the run again begins with a fresh count.
    (folder / ATTEMPT).unlink()
    if failure.kind == "memory":
        told += f" ran out of memory with a batch of only {attempt.batch}; choose a smaller image size or model"
    else:
        told += f" gave a loss that is no finite number {LOSS_ATTEMPTS} times; choose another recipe or seed"
    raise TrainingError(f"{told}. The epochs before it are kept in {str(folder)!r}.")


def _warned(attempt: Attempt, *sentences: str) -> Attempt:
    return replace(attempt, warnings=tuple(dict.fromkeys((*attempt.warnings, *sentences))))


def _fingerprint(overrides: dict[str, Any], start: Path) -> str:
    module, _ = read_checkpoint(start)
    return fingerprint({name: value for name, value in overrides.items() if name not in _PLACES}, module)


def _result(state: TrainingState, folder: Path, task: TaskName) -> Training:
    curve = read_curve(io.StringIO(state.results), task)
    return Training(best=folder / "weights" / state.best, curve=curve, warnings=state.warnings)


@contextmanager
def _distillation(teacher: Path | None, spec: RunSpec, folder: Path) -> Iterator[dict[str, str]]:
    """What tells Ultralytics the teacher, also of a resumed training, since the teacher is in no checkpoint.

    Ultralytics opens it without restriction. It gets a copy of what the restricted loader made of the file, for as long
    as the training lasts, beside `folder`, which a multi-GPU training empties.
    """
    if spec.recipe != "distill":
        yield {}
        return
    if teacher is None:
        raise AssertionError("distillation needs a teacher")
    module, _ = read_checkpoint(teacher)
    copy = folder.with_name("teacher.pt")
    write_checkpoint(module, copy, {})
    try:
        yield {"distill_model": str(copy)}
    finally:
        copy.unlink(missing_ok=True)


def add_teller(trainer: BaseTrainer, tell: Tell, stage: str) -> None:
    """Let a trainer tell its progress.

    Args:
        trainer: before its training.
        tell: receives the progress; of a multi-GPU training it is pickled.
        stage: name of the stage in it.
    """
    teller = ProgressTeller(tell=tell, stage=stage)
    for event in ("on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_fit_epoch_end"):
        trainer.add_callback(event, getattr(teller, event))


def _overrides(start: Path, dataset: Dataset, spec: RunSpec, folder: Path) -> dict[str, Any]:
    return {
        **RECIPES[spec.recipe],
        **({"nbs": spec.batch} if spec.recipe in STEP_EACH_BATCH else {}),
        "model": str(start),
        "epochs": spec.epochs,
        "patience": spec.patience,
        "imgsz": spec.imgsz,
        "batch": spec.batch,
        "seed": spec.seed,
        # Validation during training, which chooses the best epoch, looks at the predictions that are reported.
        "nms": False if spec.head == "e2e" else None,
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
        "plots": False,
    }


def read_curve(results: Path | io.StringIO, task: TaskName = "detect") -> tuple[EpochRow, ...]:
    """The epochs that Ultralytics logged in a results.csv, with the accuracies of the task."""
    main, second, precision, recall = TASKS[task].results
    table = pd.read_csv(results).rename(columns=str.strip)
    curve, clock = [], 0.0
    for values in table.to_dict("records"):
        row = {str(name): float(value) for name, value in values.items()}
        started, clock = clock, row["time"]
        curve.append(
            EpochRow(
                epoch=int(row["epoch"]),
                map50=row[second],
                map50_95=row[main],
                precision=row[precision] if precision else None,
                recall=row[recall] if recall else None,
                losses={name: value for name, value in row.items() if name.startswith(("train/", "val/"))},
                lr=row["lr/pg0"],
                seconds=round(clock - started, 3),
            )
        )
    return tuple(curve)
