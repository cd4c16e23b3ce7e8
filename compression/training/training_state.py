"""What a training keeps of itself after each whole epoch, so that one that was killed ends as an undisturbed one does.

Ultralytics' own checkpoint cannot do that: it has averaged weights and the optimizer in half precision, and leaves out
the weights themselves, the gradients that wait for a step, and the images that mosaics are drawn from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compression.models.detector import file_sha256

# Raise when the state changes its form; a training of another one begins anew.
STATE_VERSION = 1

# The last one may be damaged, for instance by a power cut; then the one before is used.
KEPT_STATES = 2

ATTEMPT = "attempt.json"
_STATE = re.compile(r"epoch-(\d+)\.state")
_DIGEST = hashlib.sha256
DIGEST_SIZE = _DIGEST().digest_size


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A training between two epochs.

    Attributes:
        fingerprint: of what is trained and how, see `fingerprint`.
        epoch: whole epochs that lie behind it.
        finished: there is no further one.
        clock: seconds that they took.
        batch: images a batch.
        model: weights as the optimizer left them, float32.
        gradients: those that wait for a step of the optimizer; empty where none do.
        waiting: batches that they are of.
        ema: averaged weights, float32.
        updates: steps that they are averaged over.
        optimizer: its `state_dict`.
        scaler: the gradient scaler's `state_dict`.
        stopper: attributes of Ultralytics' early stopping.
        best_fitness: of the best epoch so far.
        best: name of its checkpoint, which lies beside the state.
        best_sha256: of that file.
        buffer: indices of the training images that mosaics are drawn from; empty where workers load the images.
        results: content of results.csv.
        warnings: what the reader of the figures must know, a sentence each.
    """

    fingerprint: str
    epoch: int
    finished: bool
    clock: float
    batch: int
    model: dict[str, Tensor]
    gradients: dict[str, Tensor]
    waiting: int
    ema: dict[str, Tensor]
    updates: int
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    stopper: dict[str, Any]
    best_fitness: float
    best: str
    best_sha256: str
    buffer: list[int]
    results: str
    warnings: tuple[str, ...]


class DamagedStateError(Exception):
    """A state that is not whole, or whose best checkpoint is not."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What an earlier process left of a training.

    Attributes:
        state: where to go on; None where the training begins.
        warnings: a sentence for what was damaged.
    """

    state: TrainingState | None
    warnings: tuple[str, ...]

    @property
    def epoch(self) -> int:
        """Whole epochs that lie behind the training."""
        return self.state.epoch if self.state else 0

    @property
    def finished(self) -> bool:
        """Whether the training has come to its end."""
        return self.state is not None and self.state.finished


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How the epochs after a state are to be run, as it was decided outside of the training process.

    Attributes:
        fingerprint: of the training.
        epoch: whole epochs of the state that is begun with; 0 for the beginning.
        batch: images a batch.
        number: attempts at the next epoch that gave no finite loss; another number means other random numbers.
        warnings: a sentence for all that happened so far.
    """

    fingerprint: str = ""
    epoch: int = 0
    batch: int
    number: int = 0
    warnings: tuple[str, ...] = ()


def fingerprint(arguments: dict[str, Any], module: nn.Module) -> str:
    """Sha256 of what a training is: the weights it begins with, and Ultralytics' arguments without places.

    Args:
        arguments: that decide the result.
        module: what is trained, on the CPU.
    """
    digest = _DIGEST(json.dumps([STATE_VERSION, arguments], sort_keys=True).encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The weights that a training changes: all but the teacher's.

    Args:
        module: a detector, or Ultralytics' wrapping of one and its teacher.
    """
    return {name: value for name, value in module.state_dict().items() if not name.startswith("teacher_model.")}


def seed_everything(*numbers: int) -> int:
    """Make all random numbers that follow depend on `numbers`, none negative, alone; gives the seed, 32 bits."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed


def write_state(state: TrainingState, folder: Path) -> None:
    """Keep a state: its sha256, then what `torch.save` makes of it. The file appears whole or not at all.

    Args:
        state: what to keep.
        folder: where the best checkpoint lies, too.
    """
    content = io.BytesIO()
    torch.save({field.name: getattr(state, field.name) for field in fields(state)}, content)
    _write(_state_file(folder, state.epoch), _DIGEST(content.getbuffer()).digest(), content.getbuffer())


def read_state(folder: Path, epoch: int, training: str) -> TrainingState | None:
    """The state after `epoch` whole epochs, with its tensors on the CPU.

    Args:
        folder: where it was kept.
        epoch: whole epochs.
        training: fingerprint of the training; None is given for a state of another one.

    Raises:
        DamagedStateError: the file or the best checkpoint is not as it was written.
    """
    try:
        content = memoryview(_state_file(folder, epoch).read_bytes())
    except OSError as error:
        raise DamagedStateError from error
    digest, payload = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if _DIGEST(payload).digest() != digest:
        raise DamagedStateError
    try:
        values = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # it holds more than plain data, so it is not ours
        raise DamagedStateError from error
    if values["fingerprint"] != training:
        return None
    state = TrainingState(**values)
    best = folder / state.best
    if not best.is_file() or file_sha256(best) != state.best_sha256:
        raise DamagedStateError
    return state


def last_state(folder: Path, training: str) -> Kept:
    """The last whole state of a training.

    Args:
        folder: where states were kept.
        training: its fingerprint; a state of another training counts as none.
    """
    damaged: list[int] = []
    for epoch in sorted(_epochs(folder), reverse=True):
        try:
            state = read_state(folder, epoch, training)
        except DamagedStateError:
            damaged.append(epoch)
            continue
        remedy = f"went on from that after epoch {epoch}"
        return Kept(state=state, warnings=_told(damaged, remedy) if state else ())
    return Kept(state=None, warnings=_told(damaged, "began anew"))


def _told(damaged: list[int], remedy: str) -> tuple[str, ...]:
    return tuple(f"What was kept after epoch {epoch} was damaged; the training {remedy}." for epoch in damaged)


def remove_stale(folder: Path, epoch: int, bests: set[str]) -> None:
    """Drop all that is no longer needed after `epoch` whole epochs, drafts of a killed process among it.

    Args:
        folder: where states are kept.
        epoch: of the last state.
        bests: names of the best checkpoints that the kept states tell of.
    """
    states = {_state_file(folder, number).name for number in range(epoch - KEPT_STATES + 1, epoch + 1)}
    for file in folder.iterdir():
        if file.name not in states | bests:
            file.unlink()


def keep(file: Path) -> None:
    """Bring a file from the system's memory to the disk, where a power cut leaves it."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def write_attempt(attempt: Attempt, folder: Path) -> None:
    """Tell the process that trains in a folder how to begin."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / ATTEMPT, json.dumps(asdict(attempt)).encode())


def read_attempt(folder: Path) -> Attempt | None:
    """What was told to the process that trains in a folder; None where nothing readable was."""
    try:
        values = json.loads((folder / ATTEMPT).read_text())
        return Attempt(**{**values, "warnings": tuple(values["warnings"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _state_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch}.state"


def _epochs(folder: Path) -> list[int]:
    found = (_STATE.fullmatch(file.name) for file in folder.glob("*.state"))
    return [int(name[1]) for name in found if name]


def _write(file: Path, *parts: bytes | memoryview) -> None:
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("wb") as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    _keep_names(file.parent)


def _keep_names(folder: Path) -> None:
    """Bring a folder's list of files to the disk; Windows has no way to, and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
