"""Ultralytics' trainer, for a module whose channels no yaml describes, and exact where a training is interrupted.

Loop, losses, optimizer, EMA and multi-GPU training are Ultralytics' own. Instead of its checkpoint for resuming, which
is inexact, a state is kept after each epoch, and each epoch's random numbers depend on the seed and the epoch alone.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.utils import DEFAULT_CFG, RANK
from ultralytics.utils.torch_utils import unwrap_model

from compression.catalog import TaskName
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import file_sha256
from compression.training.failures import LossError, note_failure
from compression.training.training_state import (
    Attempt,
    TrainingState,
    keep,
    read_attempt,
    read_state,
    remove_stale,
    seed_everything,
    weights_of,
    write_state,
)

# So many times Ultralytics itself begins its first epoch again with half the batch and says so in the log alone.
ULTRALYTICS_RETRIES = 3


class KeepingTrainer(BaseTrainer):
    """What makes a trainer of Ultralytics keep the module it is given, and a state of its own after each epoch.

    It stands before the trainer of a task in the classes below.
    """

    batch_size: int

    # Ultralytics counts the batches since the last step of the optimizer from the beginning of this process; the first
    # step after an interruption is due so many batches later than it believes.
    _postponed = 0
    _accumulate = 1
    # Batches since the last step.
    _waiting = 0
    _resumed: TrainingState | None = None

    def __init__(
        self, cfg: Any = DEFAULT_CFG, overrides: dict[str, Any] | None = None, _callbacks: dict[str, Any] | None = None
    ) -> None:
        super().__init__(cfg, overrides, _callbacks)
        # Ultralytics empties the folder before a multi-GPU training that does not say so.
        self.resume = True
        self._attempt = Attempt(batch=self.args.batch)
        # Names of the best checkpoint and of the one before, and the sha256 of the best.
        self._best = self._best_before = self._best_sha256 = ""

    @property
    def accumulate(self) -> int:
        """Batches from one step of the optimizer to the next."""
        return self._accumulate + self._postponed

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._accumulate = batches

    def get_model(
        self, cfg: str | dict[str, Any] | None = None, weights: nn.Module | None = None, verbose: bool = True
    ) -> nn.Module:
        """The checkpoint's own module in place of one rebuilt from `cfg`."""
        if weights is None:
            raise AssertionError("fine-tuning starts from a checkpoint")
        return weights.requires_grad_(True)

    def train(self) -> None:
        """Train, and leave word of what ended it for a process that waits, and no workers."""
        try:
            super().train()
        except Exception as error:
            note_failure(error, self.save_dir)
            raise
        finally:
            self._close_loaders()

    def _close_loaders(self) -> None:
        for name in ("train_loader", "test_loader"):
            loader = getattr(self, name, None)
            if loader is not None:
                loader.close()

    # Going on

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Take over the state that this attempt begins with, in place of Ultralytics' checkpoint."""
        self._attempt = read_attempt(self.save_dir) or self._attempt
        if self._attempt.epoch:
            state = read_state(self.wdir, self._attempt.epoch, self._attempt.fingerprint)
            if state is None:
                raise AssertionError("the attempt is of another training than the state")
            self._load(state)
        self._use_batch(self._attempt.batch)

    def _load(self, state: TrainingState) -> None:
        model = unwrap_model(self.model)
        for module, weights in ((model, state.model), (self.ema.ema, state.ema)):
            module.load_state_dict({**module.state_dict(), **weights})
        self.ema.updates = state.updates
        for kept, group in zip(state.optimizer["param_groups"], self.optimizer.param_groups, strict=True):
            # The device of this process decides, as in Ultralytics.
            kept["fused"] = group.get("fused")
        self.optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        for name, value in state.stopper.items():
            setattr(self.stopper, name, value)
        self.best_fitness = state.best_fitness
        self._best, self._best_sha256 = state.best, state.best_sha256
        model.criterion = _criterion_after(model, state.epoch)
        self.start_epoch, self._resumed = state.epoch, state
        if RANK in {-1, 0}:
            self.csv.write_text(state.results)

    def _use_batch(self, batch: int) -> None:
        """Load so many images a batch, as Ultralytics does where memory gave out.

        The nominal batch `nbs` stays, so that the optimizer goes on to step after as many images as before; learning
        rate, decay and number of steps then fit as they did, and only BatchNorm sees smaller batches. The optimizer has
        been built by the whole batch, by which Ultralytics may choose its kind.
        """
        if batch != self.batch_size:
            self._close_loaders()
            self.args.batch = self.batch_size = batch
            self._build_train_pipeline()
            self.validator.dataloader = self.test_loader

    # One epoch

    def _model_train(self) -> None:
        """Begin an epoch."""
        super()._model_train()
        # Memory that gives out ends the attempt, so that the epoch begins anew from its state, and it is recorded.
        self._oom_retries = ULTRALYTICS_RETRIES
        if self._resumed:
            self._go_on(self._resumed)
            self._resumed = None
        attempt = self._attempt.number if self.epoch == self.start_epoch else 0
        seed = seed_everything(self.args.seed, self.epoch, attempt, RANK + 1)
        self.train_loader.generator.manual_seed(seed)
        if not self.train_loader.num_workers:
            # A new iterator draws a number, so each epoch begins with one. Workers would have to be started again.
            self.train_loader.reset()

    def _go_on(self, state: TrainingState) -> None:
        """What has to wait until Ultralytics has set up its loop."""
        for name, parameter in unwrap_model(self.model).named_parameters():
            if name in state.gradients:
                parameter.grad = state.gradients[name].to(parameter)
        self._waiting = state.waiting * state.batch // self.batch_size
        self._postponed = max(self.start_epoch * len(self.train_loader) - self._waiting, 0)
        self.train_time_start -= state.clock
        for index in state.buffer:
            self.train_loader.dataset.load_image(index)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Count the batches that wait for a step of the optimizer."""
        self._waiting += 1
        return super().preprocess_batch(batch)

    def optimizer_step(self) -> None:
        """Step; from here on Ultralytics counts right."""
        self._postponed = self._waiting = 0
        super().optimizer_step()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """End the attempt where the loss is no number; Ultralytics would go on from half-precision weights."""
        values = [torch.as_tensor(value) for value in (self.loss, self.fitness) if value is not None]
        if RANK in {-1, 0} and not all(value.isfinite().all() for value in values):
            raise LossError(f"epoch {epoch + 1}")
        return False

    # After an epoch

    def save_model(self) -> bool:
        """Keep the best checkpoint, where it is this epoch's, and then the state that names it."""
        self._heal_ema()
        self._best_before = self._best
        if self.best_fitness == self.fitness:
            self._best = f"best-{self.epoch + 1}.pt"
            self._write_best(self.wdir / self._best)
            self._best_sha256 = file_sha256(self.wdir / self._best)
        state = self._state()
        write_state(state, self.wdir)
        remove_stale(self.wdir, state.epoch, {self._best, self._best_before})
        return True

    def _heal_ema(self) -> None:
        """Give averages that one overflow made infinite for good the weights' present values.

        Source: ultralytics, engine/trainer.py, `save_model`.
        """
        model = unwrap_model(self.model).state_dict()
        for name, value in self.ema.ema.state_dict().items():
            if not torch.isfinite(value).all() and torch.isfinite(model[name]).all():
                value.copy_(model[name])

    def _write_best(self, file: Path) -> None:
        """The averaged weights as a finished checkpoint, without the teacher's wrapping."""
        ema: Any = copy.deepcopy(self.ema.ema).to(memory_format=torch.contiguous_format)
        if hasattr(ema, "student_model"):
            ema._remove_feature_hooks()
            ema = ema.student_model
        for value in ema.state_dict().values():
            if value.is_floating_point():
                # What half precision cannot hold would be infinite in the file.
                value.nan_to_num_().clamp_(*(getattr(torch.finfo(torch.half), end) for end in ("min", "max")))
        write_checkpoint(ema, file, {})
        keep(file)

    def _state(self) -> TrainingState:
        model = unwrap_model(self.model)
        gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        return TrainingState(
            fingerprint=self._attempt.fingerprint,
            epoch=self.epoch + 1,
            finished=bool(self.stop),
            clock=time.time() - self.train_time_start,
            batch=self.batch_size,
            model=weights_of(model),
            gradients=gradients if self._waiting else {},
            waiting=self._waiting,
            ema=weights_of(self.ema.ema),
            updates=self.ema.updates,
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            stopper={
                "best_fitness": float(self.stopper.best_fitness),
                "best_epoch": self.stopper.best_epoch,
                "possible_stop": self.stopper.possible_stop,
            },
            best_fitness=float(self.best_fitness),
            best=self._best,
            best_sha256=self._best_sha256,
            # Images that the next mosaic is made of; a classifier has none.
            buffer=list(getattr(self.train_loader.dataset, "buffer", ())),
            results=self.csv.read_text(),
            warnings=self._attempt.warnings,
        )

    def final_eval(self) -> None:
        """Leave out Ultralytics' last validation: the best checkpoint is stripped already, and the run measures it."""


def _criterion_after(model: Any, epochs: int) -> Any:
    """The loss as it is after so many epochs; that of an end-to-end head shifts its weight from epoch to epoch."""
    criterion = model.init_criterion()
    if hasattr(criterion, "update"):
        criterion.updates = epochs - 1
        criterion.update()
    return criterion


# Ultralytics pickles the class of a multi-GPU training by its name.
class FineTuneTrainer(KeepingTrainer, DetectionTrainer):
    """The trainer of boxes."""


class SegmentTrainer(KeepingTrainer, SegmentationTrainer):
    """The trainer of masks."""


class KeypointTrainer(KeepingTrainer, PoseTrainer):
    """The trainer of key points."""


class RotatedTrainer(KeepingTrainer, OBBTrainer):
    """The trainer of rotated boxes."""


class ClassTrainer(KeepingTrainer, ClassificationTrainer):
    """The trainer of a classifier."""


TRAINERS: dict[TaskName, type[KeepingTrainer]] = {
    "detect": FineTuneTrainer,
    "segment": SegmentTrainer,
    "pose": KeypointTrainer,
    "obb": RotatedTrainer,
    "classify": ClassTrainer,
}
