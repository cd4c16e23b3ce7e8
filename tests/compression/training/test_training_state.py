"""States of a training on the disk: whole or noticed, the last two, and of this training alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compression.models.detector import file_sha256
from compression.training.training_state import (
    ATTEMPT,
    DIGEST_SIZE,
    Attempt,
    DamagedStateError,
    TrainingState,
    fingerprint,
    last_state,
    read_attempt,
    read_state,
    remove_stale,
    seed_everything,
    weights_of,
    write_attempt,
    write_state,
)

TRAINING = "ab" * 32


def state(folder: Path, epoch: int, **changes: Any) -> TrainingState:
    """A state whose best checkpoint, of the first epoch, lies in the folder."""
    best = folder / "best-1.pt"
    best.write_bytes(b"weights")
    values: dict[str, Any] = {
        "fingerprint": TRAINING,
        "epoch": epoch,
        "finished": False,
        "clock": 1.5,
        "batch": 4,
        "model": {"weight": torch.full((2, 3), 0.1), "count": torch.tensor(7)},
        "gradients": {"weight": torch.full((2, 3), 1e-30)},
        "waiting": 3,
        "ema": {"weight": torch.full((2, 3), 1 / 3)},
        "updates": 11,
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
        "scaler": {},
        "stopper": {"best_fitness": 0.25, "best_epoch": 1, "possible_stop": False},
        "best_fitness": 0.25,
        "best": best.name,
        "best_sha256": file_sha256(best),
        "buffer": [5, 1],
        "results": "epoch,time\n1,1.5\n",
        "warnings": ("One.",),
        **changes,
    }
    return TrainingState(**values)


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    written = state(tmp_path, 3)
    write_state(written, tmp_path)
    read = read_state(tmp_path, 3, TRAINING)
    assert read is not None
    tensors = ("model", "gradients", "ema")
    for name in tensors:
        ours, theirs = getattr(read, name), getattr(written, name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    plain = {key: value for key, value in vars(read).items() if key not in tensors}
    assert plain == {key: value for key, value in vars(written).items() if key not in tensors}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best-1.pt", "epoch-3.state"]


def test_state_with_code_is_not_opened(tmp_path: Path) -> None:
    """Also where its checksum is right."""
    write_state(state(tmp_path, 1, scaler={"place": tmp_path}), tmp_path)
    with pytest.raises(DamagedStateError):
        read_state(tmp_path, 1, TRAINING)


@pytest.mark.parametrize("size", [0, 1, DIGEST_SIZE, DIGEST_SIZE + 1, -1])
def test_cut_file_is_noticed(size: int, tmp_path: Path) -> None:
    write_state(state(tmp_path, 2), tmp_path)
    file = tmp_path / "epoch-2.state"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DamagedStateError):
        read_state(tmp_path, 2, TRAINING)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    write_state(state(tmp_path, 2), tmp_path)
    file = tmp_path / "epoch-2.state"
    whole = file.read_bytes()
    for place in range(0, len(whole), 97):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedStateError):
            read_state(tmp_path, 2, TRAINING)


@pytest.mark.parametrize("content", [b"weight", None])
def test_state_without_its_best_checkpoint_is_damaged(content: bytes | None, tmp_path: Path) -> None:
    write_state(state(tmp_path, 2), tmp_path)
    (tmp_path / "best-1.pt").unlink()
    if content is not None:
        (tmp_path / "best-1.pt").write_bytes(content)
    with pytest.raises(DamagedStateError):
        read_state(tmp_path, 2, TRAINING)


class TestLastState:
    def test_there_is_none(self, tmp_path: Path) -> None:
        for folder in (tmp_path, tmp_path / "missing"):
            kept = last_state(folder, TRAINING)
            assert (kept.state, kept.epoch, kept.finished, kept.warnings) == (None, 0, False, ())

    def test_the_later_by_number_counts(self, tmp_path: Path) -> None:
        for epoch in (9, 10):
            write_state(state(tmp_path, epoch, finished=epoch == 10), tmp_path)
        kept = last_state(tmp_path, TRAINING)
        assert (kept.epoch, kept.finished, kept.warnings) == (10, True, ())

    def test_the_one_before_a_damaged_one_is_used(self, tmp_path: Path) -> None:
        for epoch in (9, 10):
            write_state(state(tmp_path, epoch), tmp_path)
        (tmp_path / "epoch-10.state").write_bytes(b"")
        kept = last_state(tmp_path, TRAINING)
        assert kept.epoch == 9
        assert kept.warnings == (
            "What was kept after epoch 10 was damaged; the training went on from that after epoch 9.",
        )

    def test_a_training_of_which_all_is_damaged_begins_anew(self, tmp_path: Path) -> None:
        for epoch in (9, 10):
            write_state(state(tmp_path, epoch), tmp_path)
            (tmp_path / f"epoch-{epoch}.state").write_bytes(b"?")
        kept = last_state(tmp_path, TRAINING)
        assert kept.epoch == 0
        assert kept.warnings == tuple(
            f"What was kept after epoch {epoch} was damaged; the training began anew." for epoch in (10, 9)
        )

    def test_state_of_another_training_counts_as_none(self, tmp_path: Path) -> None:
        write_state(state(tmp_path, 4), tmp_path)
        kept = last_state(tmp_path, "another")
        assert (kept.epoch, kept.warnings) == (0, ())


def test_writing_that_fails_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(state(tmp_path, 1), tmp_path)
    before = (tmp_path / "epoch-1.state").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compression.training.training_state.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_state(state(tmp_path, 1, clock=2.0), tmp_path)
    assert (tmp_path / "epoch-1.state").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best-1.pt", "epoch-1.state"]


def test_two_states_and_their_best_checkpoints_are_kept(tmp_path: Path) -> None:
    names = ("epoch-6.state", "epoch-7.state", "epoch-8.state", "best-3.pt", "best-7.pt", "best-5.pt", ".best-8.pt.42")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    remove_stale(tmp_path, 8, {"best-7.pt", "best-5.pt"})
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == ["best-5.pt", "best-7.pt", "epoch-7.state", "epoch-8.state"]


class TestFingerprint:
    def test_it_is_of_weights_and_arguments(self) -> None:
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(2)
        module = nn.Sequential(nn.Conv2d(1, 2, 1), norm)
        first = fingerprint({"epochs": 3, "nms": None}, module)
        assert fingerprint({"nms": None, "epochs": 3}, module) == first
        assert fingerprint({"epochs": 4, "nms": None}, module) != first
        assert norm.running_mean is not None
        norm.running_mean[0] += 1e-6
        assert fingerprint({"epochs": 3, "nms": None}, module) != first


def test_random_numbers_depend_on_the_given_ones_alone() -> None:
    def draw(*numbers: int) -> list[float]:
        seed_everything(*numbers)
        return [random.random(), float(np.random.rand()), float(torch.rand(1))]

    first = draw(0, 1, 0)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert draw(0, 1, 0) == first
    others = [draw(*numbers) for numbers in ((1, 0, 0), (0, 0, 1), (0, 2, 0), (0, 1, 1))]
    assert all(a != b for other in others for a, b in zip(other, first, strict=True))


def test_the_teachers_weights_are_not_kept() -> None:
    module = nn.ModuleDict({"teacher_model": nn.Linear(1, 1), "student_model": nn.Linear(1, 1, bias=False)})
    assert list(weights_of(module)) == ["student_model.weight"]


class TestAttempt:
    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        attempt = Attempt(fingerprint="f", epoch=3, batch=8, number=2, warnings=("One.", "Two."))
        write_attempt(attempt, tmp_path / "new")
        assert read_attempt(tmp_path / "new") == attempt

    @pytest.mark.parametrize("text", [None, "", "[]", '{"batch": 8}', '{"warnings": [], "other": 1}'])
    def test_what_cannot_be_read_counts_as_none(self, text: str | None, tmp_path: Path) -> None:
        if text is not None:
            (tmp_path / ATTEMPT).write_text(text)
        assert read_attempt(tmp_path) is None
