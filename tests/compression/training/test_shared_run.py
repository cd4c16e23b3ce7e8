"""Runs that go on on another machine, whose only common place is a folder or a bucket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ultralytics.utils import DEFAULT_CFG_DICT

from cache.artifacts import SharedPlace, shared_place
from cache.record import Progress
from cache.store import own_store
from compression import compress
from compression.home import run_folder
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import read_checkpoint
from compression.spec import CutMethod
from compression.training.shared_run import StateSender, fetch_run, forget_run, send
from tests.compression.small_models import build

EPOCHS = 4
PATIENCE_S = 60.0
KEY = "ab" * 32


class NodeDiedError(Exception):
    """The end of a machine."""


@dataclass
class DyingIn:
    """Ends a run in the second epoch of a stage, once what the first left has arrived in the shared place."""

    stage: str
    training: str = "training"

    def __call__(self, progress: Progress) -> None:
        if progress.stage == self.stage and progress.epoch == 1 and progress.finished is None:
            place = shared_place()
            assert place is not None
            deadline = time.monotonic() + PATIENCE_S
            while not any(name.endswith(f"/{state(1, self.training)}") for name in place.names_in("runs")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            raise NodeDiedError


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedPlace:
    """An empty shared place."""
    url = str(tmp_path / "shared") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/team"
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", url)
    return SharedPlace(url)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go to another machine, by its name: nothing is shared but the model, the data set and the place."""

    def go(name: str) -> None:
        monkeypatch.setenv("TRIMBOARD_HOME", str(tmp_path / name))

    return go


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = build(nc=10, end2end=True)
    module.args = dict(DEFAULT_CFG_DICT)
    file = tmp_path_factory.mktemp("model") / "tiny.pt"
    write_checkpoint(module, file, {})
    return file


@pytest.fixture
def options(model: Path, tiny_shapes: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Of a run that takes seconds; each of its batches is told."""
    monkeypatch.setattr("compression.training.finetune.TELL_EVERY", 0.0)
    method = CutMethod(criterion="l2", allocation="uniform", recovery="batchnorm", calibration_images=2)
    return {
        "model": str(model),
        "data": str(tiny_shapes),
        "level": 5,
        "epochs": EPOCHS,
        "imgsz": 64,
        "batch": 5,
        "device": "cpu",
        "method": method,
    }


def trained(checkpoint: Path | None) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    return read_checkpoint(checkpoint)[0].state_dict()


@pytest.mark.parametrize(
    ("steps", "dying"),
    [(1, DyingIn("fine-tuning")), (2, DyingIn("fine-tuning, step 2 of 2", training="training-2"))],
    ids=["one step", "two steps"],
)
def test_a_run_goes_on_from_what_a_lost_machine_left(
    steps: int,
    dying: DyingIn,
    place: SharedPlace,
    machine: Callable[[str], None],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options["steps"] = steps
    machine("lost")
    with pytest.raises(NodeDiedError):
        compress(**options, tell=dying)
    (lost,) = own_store().queue.runs()
    before = own_store().queue.curve(lost.key)

    machine("next")
    outcome = compress(**options)
    # The epochs that were done were not done again: they have the lost machine's times.
    n_before = EPOCHS // steps * (steps - 1) + 1
    assert len(before) == n_before
    assert outcome.record.curve[:n_before] == before
    assert len(outcome.record.curve) == EPOCHS
    assert place.names_in(f"runs/{lost.key}") == [], "what is over needs no states"

    machine("undisturbed")
    monkeypatch.delenv("TRIMBOARD_ARTIFACTS")
    whole = compress(**options)
    assert whole.record.metrics == outcome.record.metrics
    ours, theirs = trained(outcome.checkpoint), trained(whole.checkpoint)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_of_the_original_goes_on_too(
    place: SharedPlace, machine: Callable[[str], None], options: dict[str, Any]
) -> None:
    options["model"], options["epochs"] = "yolo26n.yaml", 2
    machine("lost")
    with pytest.raises(NodeDiedError):
        compress(**options, tell=DyingIn("training the original"))
    machine("next")
    epochs = []

    def watch(progress: Progress) -> None:
        if progress.stage == "training the original" and progress.finished:
            epochs.append(progress.finished.epoch)

    compress(**options, tell=watch)
    assert epochs == [2]


def leave(folder: Path, content: str, *names: str) -> None:
    """Write files below a run's folder."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def state(epoch: int, training: str = "training") -> str:
    return f"{training}/weights/epoch-{epoch}.state"


class TestWhoIsFurther:
    @staticmethod
    def files(folder: Path) -> dict[str, str]:
        found = (file for file in folder.rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.read_text() for file in found}

    def test_states_of_the_other_machine_replace_fewer_epochs(self, place: SharedPlace, tmp_path: Path) -> None:
        there, here = tmp_path / "there" / KEY, tmp_path / "here" / KEY
        leave(there, "theirs", "cut-1.pt", "training/weights/best-3.pt", state(10))
        send(there, {})
        leave(here, "ours", "cut-1.pt", "training/weights/best-2.pt", state(9))
        fetch_run(here)
        assert self.files(here) == self.files(there)

    def test_what_is_further_here_stays(self, place: SharedPlace, tmp_path: Path) -> None:
        there, here = tmp_path / "there" / KEY, tmp_path / "here" / KEY
        leave(there, "theirs", "cut-1.pt", state(9))
        send(there, {})
        leave(here, "ours", "cut-1.pt", state(9))
        before = self.files(here)
        fetch_run(here)
        assert self.files(here) == before

    def test_a_later_training_is_further(self, place: SharedPlace, tmp_path: Path) -> None:
        there, here = tmp_path / "there" / KEY, tmp_path / "here" / KEY
        leave(there, "theirs", "cut-2.pt", state(1, "training-2"))
        send(there, {})
        leave(here, "ours", "cut-1.pt", state(9))
        fetch_run(here)
        assert self.files(here) == self.files(there)

    def test_stale_states_do_not_pile_up(self, place: SharedPlace, tmp_path: Path) -> None:
        folder = tmp_path / KEY
        sent: dict[str, tuple[int, int]] = {}
        for epoch in (1, 2, 3):
            leave(folder, str(epoch), state(epoch))
            (folder / state(epoch - 2)).unlink(missing_ok=True)
            send(folder, sent)
        names = sorted(place.names_in(f"runs/{KEY}"))
        assert names == [f"runs/{KEY}/{state(epoch)}" for epoch in (2, 3)]
        forget_run(folder)
        assert place.names_in(f"runs/{KEY}") == []

    def test_other_names_are_not_taken(self, place: SharedPlace, tmp_path: Path) -> None:
        source = tmp_path / "planted"
        source.write_text("planted")
        for name in (state(3), "evil.pt", ".lock", "training/weights/further/best-1.pt", "training/args.yaml"):
            place.put_file(source, f"runs/{KEY}/{name}")
        here = tmp_path / "here" / KEY
        fetch_run(here)
        assert set(self.files(here)) == {state(3)}

    def test_an_unchanged_file_is_sent_once(
        self, place: SharedPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        brought: list[str] = []
        bring = SharedPlace.put_file

        def put_file(self: SharedPlace, file: Path, name: str) -> None:
            brought.append(file.name)
            bring(self, file, name)

        monkeypatch.setattr(SharedPlace, "put_file", put_file)
        folder = tmp_path / KEY
        sent: dict[str, tuple[int, int]] = {}
        for epoch in (1, 2):
            leave(folder, "cut", "cut-1.pt")
            leave(folder, str(epoch), state(epoch))
            send(folder, sent)
        # What was written anew comes anew, and what a state needs before it.
        assert brought == ["cut-1.pt", "epoch-1.state", "cut-1.pt", "epoch-2.state"]


def test_an_epoch_does_not_wait_for_a_slow_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = None
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", str(tmp_path / "shared"))
    folder = tmp_path / KEY
    sender = StateSender(folder)
    leave(folder, "1", state(1))
    sender.on_model_save(trainer)
    assert sender._process is not None
    os.kill(sender._process.pid, signal.SIGSTOP)
    for epoch in range(2, 100):
        leave(folder, str(epoch), state(epoch))
        sender.on_model_save(trainer)
    os.kill(sender._process.pid, signal.SIGCONT)
    # The end does: the last state has arrived then, and the process is gone.
    sender.on_train_end(trainer)
    assert sender._process.returncode == 0
    assert (tmp_path / "shared" / "runs" / KEY / state(99)).read_text() == "99"


def test_a_training_goes_on_when_its_sender_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = None
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", str(tmp_path / "shared"))
    sender = StateSender(tmp_path / KEY)
    sender.on_model_save(trainer)
    assert sender._process is not None
    sender._process.kill()
    sender._process.wait()
    sender.on_model_save(trainer)
    sender.on_train_end(trainer)


def test_a_sender_ends_with_its_training(tmp_path: Path) -> None:
    """Also with one that is killed."""
    code = (
        "import os, signal, sys; from pathlib import Path; from compression.training.shared_run import StateSender; "
        "sender = StateSender(Path(sys.argv[1])); sender.on_model_save(None); print(sender._process.pid, flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / KEY)], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    with suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(int(done.stdout))], timeout=PATIENCE_S)
    assert not psutil.pid_exists(int(done.stdout))


def test_a_place_that_goes_away_ends_no_training(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", str(shared))

    def break_off(progress: Progress) -> None:
        """From the first epoch to the last nothing can be written below `runs`."""
        if progress.stage == "fine-tuning" and not (shared / "runs").exists():
            shared.mkdir(exist_ok=True)
            (shared / "runs").write_text("in the way")

    outcome = compress(**options, tell=break_off)
    assert len(outcome.record.curve) == EPOCHS
    assert "[trimboard] the state of the training was not shared: The shared files in" in capfd.readouterr().err


def test_without_a_place_nothing_is_looked_for(own_home: Path) -> None:
    fetch_run(run_folder(KEY))
    forget_run(run_folder(KEY))
    assert not run_folder(KEY).exists()
