"""What a training survives, each time ending as one that nothing befell: kills, memory, disk and data that give out."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from cache.record import Progress, RunRecord
from compression import compress
from compression.data.dataset import Dataset, open_dataset
from compression.data.shapes import draw_dataset
from compression.errors import DatasetError, HomeError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import read_checkpoint
from compression.spec import CutMethod
from compression.telling import silent
from compression.training import training_state
from compression.training.failures import LossError, TrainingError, failure_of, note_failure, noted_failure
from compression.training.finetune import LOSS_ATTEMPTS, RECIPES, ProgressTeller, Training, fine_tune
from compression.training.trainer import TRAINERS, FineTuneTrainer
from compression.training.training_state import ATTEMPT, TrainingState, last_state, read_attempt
from tests.compression.small_models import build
from tests.factories import spec

EPOCHS = 3
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
)
NO_CUDA_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB."


class StoppedError(Exception):
    """An interruption."""


# Faults


@dataclass
class Fault:
    """Happens at a batch of an epoch, so many times.

    Attributes:
        act: what happens, given the batch.
        epoch: counted from 1.
        batch: counted from 1.
        times: left to happen.
    """

    act: Callable[[dict[str, Any]], None]
    epoch: int
    batch: int = 2
    times: int = 1


class FaultyTrainer(FineTuneTrainer):
    """A trainer that faults befall."""

    faults: ClassVar[list[Fault]] = []
    steps: ClassVar[list[tuple[int, int]]] = []
    _in_epoch = 0

    def _model_train(self) -> None:
        self._in_epoch = 0
        super()._model_train()

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._in_epoch += 1
        made = super().preprocess_batch(batch)
        for fault in self.faults:
            if (fault.epoch, fault.batch) == (self.epoch + 1, self._in_epoch) and fault.times:
                fault.times -= 1
                fault.act(made)
        return made

    def optimizer_step(self) -> None:
        self.steps.append((self.epoch + 1, self._in_epoch))
        super().optimizer_step()


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Fault]:
    """What befalls the trainings of a test."""
    monkeypatch.setitem(TRAINERS, "detect", FaultyTrainer)
    FaultyTrainer.faults.clear()
    FaultyTrainer.steps.clear()
    return FaultyTrainer.faults


def raising(error: Exception) -> Callable[[dict[str, Any]], None]:
    def act(_: dict[str, Any]) -> None:
        raise error

    return act


def spoil(batch: dict[str, Any]) -> None:
    """Images that are no numbers, as of an overflow; the loss and, after a step, the weights are none either."""
    batch["img"] = batch["img"] * torch.nan


@dataclass
class Interrupting:
    """Ends a training when so many epochs are told."""

    epoch: int

    def __call__(self, progress: Progress) -> None:
        if progress.epoch == self.epoch:
            raise StoppedError


# Trainings


@dataclass(frozen=True)
class Case:
    """A small detector and its data set, of which a test may have a copy that it changes."""

    start: Path
    dataset: Dataset

    def train(self, folder: Path, tell: Callable[[Progress], None] = silent, **changes: Any) -> Training:
        values: dict[str, Any] = {"epochs": EPOCHS, "imgsz": 64, "batch": 5, "device": "cpu", "recipe": "standard"}
        return fine_tune(self.start, self.dataset, spec(5, **{**values, **changes}), folder, tell=tell, stage="s")


@pytest.fixture(scope="module", autouse=True)
def _mosaics() -> Iterator[None]:
    """Let `standard` train with mosaics in all epochs but the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "standard", {"close_mosaic": 1})
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, tiny_shapes: Path) -> Case:
    """Three batches an epoch, the last of two images."""
    torch.manual_seed(0)
    module = build(nc=10, end2end=True)
    module.args = dict(DEFAULT_CFG_DICT)
    dataset = open_dataset(str(tiny_shapes))
    module.names = dict(dataset.names)
    start = tmp_path_factory.mktemp("start") / "start.pt"
    write_checkpoint(module, start, {})
    return Case(start=start, dataset=dataset)


@pytest.fixture(scope="module")
def undisturbed(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """What nothing befell."""
    return case.train(tmp_path_factory.mktemp("undisturbed") / "training")


def outcome(training: Training) -> tuple[Any, ...]:
    """All that two trainings have in common but the times and the warnings."""
    weights = read_checkpoint(training.best)[0].state_dict()
    rows = [replace(row, seconds=0) for row in training.curve]
    return training.best.name, rows, {name: value.numpy().tobytes() for name, value in weights.items()}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "weights").iterdir())


def test_undisturbed_training_trains(undisturbed: Training, case: Case) -> None:
    """What the others are compared with is no standstill."""
    assert [row.epoch for row in undisturbed.curve] == [1, 2, 3]
    assert undisturbed.warnings == ()
    assert len({row.losses["train/box_loss"] for row in undisturbed.curve}) == 3
    before = read_checkpoint(case.start)[0].state_dict()
    after = read_checkpoint(undisturbed.best)[0].state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


class TestMemory:
    def test_batch_is_halved_from_the_epoch_on(
        self, case: Case, faults: list[Fault], tmp_path: Path, undisturbed: Training
    ) -> None:
        faults.append(Fault(raising(RuntimeError(NO_MEMORY)), epoch=2))
        training = case.train(tmp_path / "t")
        assert training.warnings == ("Epoch 2 ran out of memory with 5 images a batch; from there on 2 were used.",)
        assert [row.epoch for row in training.curve] == [1, 2, 3]
        same, other = (outcome(each)[1] for each in (undisturbed, training))
        assert other[0] == same[0], "the epoch before is kept"
        assert other[1] != same[1]

    def test_optimizer_steps_after_as_many_images_as_before(
        self, case: Case, faults: list[Fault], tmp_path: Path
    ) -> None:
        """Batches of 5, 5 and 2 images with a step each become six of 2, with one for each round(5 / 2)."""
        faults.append(Fault(raising(RuntimeError(NO_MEMORY)), epoch=2))
        training = case.train(tmp_path / "t", recipe="cosine")
        state = last_state(tmp_path / "t" / "weights", _training(tmp_path / "t")).state
        assert state is not None
        assert (state.batch, state.warnings) == (2, training.warnings)
        first, *rest = (
            [batch for epoch, batch in FaultyTrainer.steps if epoch == number] for number in range(1, EPOCHS + 1)
        )
        assert first == [1, 2, 3]
        # The step of the first batch of the attempt that failed comes before those of the one that did not.
        assert rest == [[1, 2, 4, 6], [2, 4, 6]]

    @pytest.mark.parametrize("error", [RuntimeError(NO_CUDA_MEMORY), MemoryError()])
    def test_first_epoch_is_recorded_too(
        self, error: Exception, case: Case, faults: list[Fault], tmp_path: Path
    ) -> None:
        """In its own first epoch Ultralytics would halve the batch and say so nowhere but in the log."""
        faults.append(Fault(raising(error), epoch=1, times=2))
        training = case.train(tmp_path / "t", epochs=1)
        assert training.warnings == (
            "Epoch 1 ran out of memory with 5 images a batch; from there on 2 were used.",
            "Epoch 1 ran out of memory with 2 images a batch; from there on 1 were used.",
        )

    def test_smaller_batch_outlives_a_kill(self, case: Case, faults: list[Fault], tmp_path: Path) -> None:
        faults.append(Fault(raising(RuntimeError(NO_MEMORY)), epoch=2))
        whole = case.train(tmp_path / "whole")
        faults[:] = [
            Fault(raising(RuntimeError(NO_MEMORY)), epoch=2),
            Fault(raising(StoppedError()), epoch=2, batch=4),
        ]
        with pytest.raises(StoppedError):
            case.train(tmp_path / "t")
        attempt = read_attempt(tmp_path / "t")
        assert attempt is not None
        assert (attempt.epoch, attempt.batch) == (1, 2)
        with pytest.raises(StoppedError):
            case.train(tmp_path / "t", tell=Interrupting(2))
        training = case.train(tmp_path / "t")
        assert outcome(training) == outcome(whole)
        assert training.warnings == whole.warnings

    def test_single_image_that_does_not_fit(
        self, case: Case, faults: list[Fault], tmp_path: Path, undisturbed: Training
    ) -> None:
        faults.append(Fault(raising(RuntimeError(NO_MEMORY)), epoch=2, batch=1, times=3))
        with pytest.raises(
            TrainingError, match=r"^Epoch 2 ran out of memory with a batch of only 1; choose a smaller image size or"
        ):
            case.train(tmp_path / "t")
        assert names(tmp_path / "t") == ["best-1.pt", "epoch-1.state"]
        # With more memory the same call begins with the whole batch again.
        assert outcome(case.train(tmp_path / "t")) == outcome(undisturbed)


class TestLoss:
    def test_epoch_is_run_again_with_other_random_numbers(
        self, case: Case, faults: list[Fault], tmp_path: Path, undisturbed: Training
    ) -> None:
        faults.append(Fault(spoil, epoch=2, batch=3))
        training = case.train(tmp_path / "t")
        assert training.warnings == (
            "Epoch 2 gave a loss that is no finite number and was run again with other random numbers.",
        )
        same, other = (outcome(each)[1] for each in (undisturbed, training))
        assert other[0] == same[0]
        assert other[1] != same[1]
        assert all(value == value for row in training.curve for value in row.losses.values())

    def test_a_loss_that_stays_no_number_ends_the_run(
        self, case: Case, faults: list[Fault], tmp_path: Path, undisturbed: Training
    ) -> None:
        folder = tmp_path / "t"
        faults.append(Fault(spoil, epoch=2, batch=3, times=LOSS_ATTEMPTS))
        with pytest.raises(
            TrainingError,
            match=r"^Epoch 2 gave a loss that is no finite number 3 times; choose another recipe or seed\.",
        ):
            case.train(folder)
        assert faults[0].times == 0
        assert names(folder) == ["best-1.pt", "epoch-1.state"]
        assert not (folder / ATTEMPT).exists()
        # What was kept is whole, and the count begins anew.
        assert outcome(case.train(folder)) == outcome(undisturbed)

    def test_first_epoch_begins_from_the_start_again(self, case: Case, faults: list[Fault], tmp_path: Path) -> None:
        """Ultralytics would go on with weights that are no numbers."""
        faults.append(Fault(spoil, epoch=1, batch=3))
        training = case.train(tmp_path / "t", epochs=1)
        assert len(training.warnings) == 1
        weights = read_checkpoint(training.best)[0].state_dict()
        assert all(torch.isfinite(value).all() for value in weights.values())


class TestDisk:
    @pytest.mark.parametrize("writing", ["state", "checkpoint", "csv"])
    def test_full_disk_is_told_and_the_training_goes_on(
        self,
        writing: str,
        case: Case,
        tmp_path: Path,
        undisturbed: Training,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = tmp_path / "t"
        with pytest.raises(StoppedError):
            case.train(folder, tell=Interrupting(1))
        before = {name: (folder / "weights" / name).read_bytes() for name in names(folder)}

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def full_for_torch(*_: Any, **__: Any) -> None:
            raise RuntimeError(
                "[enforce fail at inline_container.cc:820] . PytorchStreamWriter failed writing file data/3"
            )

        place = {
            "state": ("compression.training.training_state._write", full),
            "checkpoint": ("compression.training.trainer.write_checkpoint", full_for_torch),
            "csv": ("compression.training.trainer.FineTuneTrainer.save_metrics", full),
        }[writing]
        write_attempt = training_state._write
        with monkeypatch.context() as patch:
            patch.setattr(*place)
            if writing == "state":
                # What a process is told fits; its state does not.
                patch.setattr(
                    "compression.training.training_state._write",
                    lambda file, *parts: (full if file.suffix == ".state" else write_attempt)(file, *parts),
                )
            with pytest.raises(
                HomeError, match=r"^The disk of '.*' is full; make room there and start the same run"
            ) as told:
                case.train(folder)
        assert repr(str(folder)) in str(told.value)
        assert all((folder / "weights" / name).read_bytes() == content for name, content in before.items())
        assert outcome(case.train(folder)) == outcome(undisturbed)

    def test_really_full_disk(self, case: Case, tmp_path: Path, undisturbed: Training) -> None:
        place = tmp_path / "small"
        place.mkdir()
        weights = undisturbed.best.parent
        state = max(file.stat().st_size for file in weights.glob("*.state"))
        # Room for one state and its checkpoint, and not for the one after it.
        if not _mount(place, f"size={int(1.9 * state) + undisturbed.best.stat().st_size}"):
            pytest.skip("no rights to mount a small file system")
        try:
            with pytest.raises(HomeError, match="is full; make room"):
                case.train(place / "t")
            assert last_state(place / "t" / "weights", _training(place / "t")).epoch == 1
            assert _mount(place, f"remount,size={10 * state}")
            assert outcome(case.train(place / "t")) == outcome(undisturbed)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


def _mount(place: Path, options: str) -> bool:
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
    return bool(done and done.returncode == 0)


def _training(folder: Path) -> str:
    attempt = read_attempt(folder)
    assert attempt is not None
    return attempt.fingerprint


class TestData:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_images_that_vanish_and_come_back(
        self, split: str, case: Case, faults: list[Fault], tmp_path: Path, undisturbed: Training
    ) -> None:
        data = draw_dataset(tmp_path / "own" / "tiny-shapes", {"train": 12, "val": 6})
        own = Case(start=case.start, dataset=open_dataset(str(data)))
        images = data.parent / "images" / split
        assert images.is_dir()

        def vanish(_: dict[str, Any]) -> None:
            images.rename(tmp_path / "away")

        faults.append(Fault(vanish, epoch=2, batch=1))
        pattern = (
            rf"^The images of 'tiny-shapes' cannot be read any more \(Image Not Found .*{split}.*\); bring back what"
        )
        with pytest.raises(DatasetError, match=pattern):
            own.train(tmp_path / "t")
        with pytest.raises(DatasetError, match="cannot be read any more"):
            own.train(tmp_path / "t")
        (tmp_path / "away").rename(images)
        training = own.train(tmp_path / "t")
        assert outcome(training) == outcome(undisturbed)
        assert training.warnings == ()


class TestDamage:
    def test_last_state_that_is_damaged(self, case: Case, tmp_path: Path, undisturbed: Training) -> None:
        folder = tmp_path / "t"
        with pytest.raises(StoppedError):
            case.train(folder, tell=Interrupting(2))
        state = folder / "weights" / "epoch-2.state"
        state.write_bytes(state.read_bytes()[:-1000])
        training = case.train(folder)
        assert outcome(training) == outcome(undisturbed)
        assert training.warnings == (
            "What was kept after epoch 2 was damaged; the training went on from that after epoch 1.",
        )

    def test_both_states_damaged(self, case: Case, tmp_path: Path, undisturbed: Training) -> None:
        folder = tmp_path / "t"
        with pytest.raises(StoppedError):
            case.train(folder, tell=Interrupting(2))
        for state in (folder / "weights").glob("*.state"):
            state.write_bytes(b"")
        training = case.train(folder)
        assert outcome(training) == outcome(undisturbed)
        assert len(training.warnings) == 2
        assert all(sentence.endswith("the training began anew.") for sentence in training.warnings)

    def test_state_of_another_training_is_not_taken_over(
        self, case: Case, tmp_path: Path, undisturbed: Training
    ) -> None:
        folder = tmp_path / "t"
        with pytest.raises(StoppedError):
            case.train(folder, tell=Interrupting(1), seed=5)
        assert outcome(case.train(folder)) == outcome(undisturbed)


# Ends of an epoch that are cut short. What comes after the given step is not done.


def _half_written(module: Any, file: Path, info: dict[str, Any]) -> None:
    file.write_bytes(b"half of a checkpoint")
    raise StoppedError


def _never(*_: Any) -> None:
    raise StoppedError


def _draft_of_a_state(state: TrainingState, folder: Path) -> None:
    (folder / f".epoch-{state.epoch}.state.draft").write_bytes(b"half of a state")
    raise StoppedError


@pytest.mark.parametrize(
    ("step", "cut"),
    [
        ("write_checkpoint", _half_written),
        ("write_checkpoint", _never),
        ("write_state", _draft_of_a_state),
        ("remove_stale", _never),
    ],
)
def test_end_of_an_epoch_that_is_cut_short(
    step: str,
    cut: Callable[..., None],
    case: Case,
    tmp_path: Path,
    undisturbed: Training,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log of epochs has a row more than the state then, and the folder a best checkpoint that no state names."""
    folder = tmp_path / "t"
    with pytest.raises(StoppedError):
        case.train(folder, tell=Interrupting(1))
    with monkeypatch.context() as patch:
        patch.setattr(f"compression.training.trainer.{step}", cut)
        with pytest.raises(StoppedError):
            case.train(folder)
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    training = case.train(folder)
    assert outcome(training) == outcome(undisturbed)
    assert set(names(folder)) == {"epoch-2.state", "epoch-3.state", *names(undisturbed.best.parent.parent)}


def test_record_tells_what_befell_any_round(case: Case, faults: list[Fault], tiny_shapes: Path) -> None:
    """The first of two rounds runs out of memory; the second begins with the whole batch."""
    faults.append(Fault(raising(MemoryError()), epoch=1))
    method = CutMethod(criterion="l2", allocation="uniform", recovery="none")
    values: dict[str, Any] = {"epochs": 2, "imgsz": 64, "batch": 5, "device": "cpu", "steps": 2, "method": method}
    record = compress(str(case.start), str(tiny_shapes), level=5, **values).record
    assert record.warnings.count("Epoch 1 ran out of memory with 5 images a batch; from there on 2 were used.") == 1
    assert [row.epoch for row in record.curve] == [1, 2]


# Several GPUs: Ultralytics then trains in other processes, which get the trainer's class, arguments and callbacks

CHILD = "TRIMBOARD_TEST_CHILD"


class DistributedTrainer(FaultyTrainer):
    """Trains in a process of its own, as with several GPUs; there memory gives out in the second epoch."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.ddp = CHILD not in os.environ
        mark = self.save_dir.parent / "befell"
        if not self.ddp and not mark.exists():
            mark.touch()
            self.faults.append(Fault(raising(RuntimeError(NO_CUDA_MEMORY)), epoch=2))


def start_child(trainer: Any) -> tuple[list[str], str]:
    """What `generate_ddp_command` does, with one process and without cloudpickle."""
    if not trainer.resume:
        shutil.rmtree(trainer.save_dir)
    # Pickle alone does not take Ultralytics' own callbacks.
    callbacks: defaultdict[str, list[Any]] = defaultdict(list)
    for event, called in trainer.callbacks.items():
        callbacks[event] = [each for each in called if isinstance(getattr(each, "__self__", None), ProgressTeller)]
    assert any(callbacks.values())
    content = {"class": type(trainer), "args": vars(trainer.args), "callbacks": callbacks, "model": trainer.model}
    file = trainer.save_dir.parent / "child.pickle"
    file.write_bytes(pickle.dumps(content))
    program = (
        "import pickle, sys\n"
        f"sys.path = {sys.path!r}\n"
        f"content = pickle.load(open({str(file)!r}, 'rb'))\n"
        "trainer = content['class'](overrides=content['args'], _callbacks=content['callbacks'])\n"
        "trainer.model = content['model']\n"
        "trainer.train()\n"
    )
    return ["env", f"{CHILD}=1", sys.executable, "-c", program], str(file)


def test_training_in_other_processes(
    case: Case, faults: list[Fault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults.append(Fault(raising(RuntimeError(NO_MEMORY)), epoch=2))
    here = case.train(tmp_path / "here" / "t")
    faults.clear()
    monkeypatch.setitem(TRAINERS, "detect", DistributedTrainer)
    monkeypatch.setattr("ultralytics.engine.trainer.generate_ddp_command", start_child)
    (tmp_path / "there").mkdir()
    there = case.train(tmp_path / "there" / "t")
    assert outcome(there) == outcome(here)
    assert (
        there.warnings
        == here.warnings
        == ("Epoch 2 ran out of memory with 5 images a batch; from there on 2 were used.",)
    )


# What errors tell


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError(NO_MEMORY), "memory"),
        (torch.OutOfMemoryError(NO_CUDA_MEMORY), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "memory"),
        (MemoryError(), "memory"),
        (Exception("OpenCV(4.11) error: (-4:Insufficient memory) Failed to allocate 9 bytes"), "memory"),
        (LossError("epoch 3"), "loss"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (RuntimeError("PytorchStreamWriter failed writing file data/7: file write failed"), "disk"),
        (FileNotFoundError("Image Not Found /data/images/1.jpg"), "data"),
        (RuntimeError("Dataset '/data/data.yaml' error ❌ Dataset images not found"), "data"),
        (FileNotFoundError(2, "No such file or directory", "/models/a.pt"), None),
        (ValueError("a dataset 'x' with an error"), None),
        (OSError(errno.EACCES, "Permission denied"), None),
        (StoppedError(), None),
    ],
)
def test_kinds_of_failures(error: Exception, kind: str | None) -> None:
    failure = failure_of(error)
    assert (failure.kind if failure else None) == kind


def test_failure_that_another_error_was_raised_from() -> None:
    outer = RuntimeError("Caught in a worker.")
    outer.__cause__ = FileNotFoundError("Image Not Found /a.jpg\nsecond line")
    failure = failure_of(outer)
    assert failure is not None
    assert (failure.kind, failure.reason) == ("data", "Image Not Found /a.jpg")


def test_word_of_a_failure_is_read_once(tmp_path: Path) -> None:
    note_failure(StoppedError(), tmp_path)
    assert noted_failure(tmp_path) is None
    note_failure(MemoryError(), tmp_path)
    assert noted_failure(tmp_path) == failure_of(MemoryError())
    assert noted_failure(tmp_path) is None
    note_failure(MemoryError(), tmp_path / "missing")


# Kills

N_KILLS = 20
KILL_EPOCHS = 16
# Of the stages of a run, one each; the other kills befall its training.
KILLED_STAGES = (
    "dataset",
    "measuring the original",
    "pruning",
    "measuring before recovery",
    "recovering accuracy",
    "measuring before training",
)
KILLED_LATE = ("measuring", "saving")

# Imports once, by measuring something else, and runs every attempt in a fork of itself, since importing takes longer
# than the run. An attempt is killed by a thread of its own, as by `kill -9`, a random time after its n-th word of a stage.
FORKING = """
import json, os, signal, sys, threading
from cache.store import own_store
from compression import compress
from compression.training import finetune
from compression.spec import CutMethod

finetune.TELL_EVERY = 0.0
options, plan = json.loads(sys.argv[1]), json.loads(sys.argv[2])
options["method"] = CutMethod(**options["method"])
home = os.environ["TRIMBOARD_HOME"]
os.environ["TRIMBOARD_HOME"] = home + "-imports"
compress(**(options | {"epochs": 0, "method": CutMethod(criterion="l2", allocation="uniform", recovery="none")}))
own_store().close()
os.environ["TRIMBOARD_HOME"] = home

def attempt(kill):
    told = [0]
    def tell(progress):
        told[0] += progress.stage == kill["stage"]
        if progress.stage == kill["stage"] and told[0] == kill["nth"]:
            if not kill["seconds"]:
                os.kill(os.getpid(), signal.SIGKILL)
            threading.Timer(kill["seconds"], os.kill, (os.getpid(), signal.SIGKILL)).start()
    compress(**options, **({"tell": tell} if kill else {}))

for kill in plan:
    child = os.fork()
    if not child:
        try:
            attempt(kill)
        except BaseException as error:
            print("\\nERROR", repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    # What the attempt wrote last may have no end of line.
    print("\\nRESULT", json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), flush=True)
"""


def _kills(seed: int) -> list[dict[str, Any] | None]:
    """So many kills that a run of so many epochs does not end before the last: each leaves one or two epochs behind."""
    chance = random.Random(seed)
    n_training = N_KILLS - len(KILLED_STAGES) - len(KILLED_LATE)
    # Told of an epoch are its three batches and its end, and once the stage itself.
    training = [{"stage": "fine-tuning", "nth": chance.randint(1, 7)} for _ in range(n_training)]
    early = [{"stage": stage, "nth": 1} for stage in KILLED_STAGES]
    # The last stages may be over before a thread wakes up.
    late = [{"stage": stage, "nth": 1, "seconds": 0} for stage in KILLED_LATE]
    return [*({**kill, "seconds": chance.uniform(0, 0.1)} for kill in (*early, *training)), *late]


def test_twenty_kills_at_random_moments(
    case: Case, tiny_shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "model": str(case.start),
        "data": str(tiny_shapes),
        "level": 5,
        "epochs": KILL_EPOCHS,
        "imgsz": 64,
        "batch": 5,
        "device": "cpu",
        "method": {"criterion": "l2", "allocation": "uniform", "recovery": "batchnorm", "calibration_images": 2},
    }
    outcomes = []
    for home, plan in ((tmp_path / "quiet", []), (tmp_path / "killed", _kills(seed=1))):
        done = subprocess.run(
            [sys.executable, "-c", FORKING, json.dumps(options), json.dumps([*plan, None])],
            env=os.environ | {"TRIMBOARD_HOME": str(home)},
            capture_output=True,
            text=True,
        )
        codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert codes == [-signal.SIGKILL] * len(plan) + [0], done.stdout[-3000:] + done.stderr[-3000:]
        monkeypatch.setenv("TRIMBOARD_HOME", str(home))
        outcomes.append(compress(**(options | {"method": CutMethod(**options["method"])})))
    quiet, killed = outcomes
    assert quiet.cached
    assert killed.cached
    assert _decisive(killed.record) == _decisive(quiet.record)
    assert [row.epoch for row in killed.record.curve] == list(range(1, KILL_EPOCHS + 1))
    assert killed.checkpoint is not None
    assert quiet.checkpoint is not None
    ours, theirs = (read_checkpoint(file)[0].state_dict() for file in (killed.checkpoint, quiet.checkpoint))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    left = {file.name for file in killed.checkpoint.parent.iterdir()}
    assert left == {file.name for file in quiet.checkpoint.parent.iterdir()}, "nothing of the kills is left"


def _decisive(record: RunRecord) -> RunRecord:
    """The record without times, and without the file, which holds its date."""
    curve = tuple(replace(row, seconds=0) for row in record.curve)
    return replace(record, curve=curve, seconds={}, created="", artifacts=())
