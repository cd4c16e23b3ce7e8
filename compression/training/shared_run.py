"""What an interrupted run needs to go on, in the place that the machines of a cluster share.

Without it the whole epochs of a run are gone with the disk of the node that did them. After each epoch the training's
state goes to the place that TRIMBOARD_ARTIFACTS names. A node that takes the run over gets it from there, unless it has
come further itself.

A process of its own sends the states: `python -m compression.training.shared_run FOLDER`. The training does not wait
for it, and shares no random numbers with it, of which a bucket's client takes some where it has to try again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.artifacts import SharedPlace, shared_place
from cache.engine import StoreError
from compression.process import Process, python_process

if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer

# Folder of the states of a run's first training, below the run's; further ones have a number behind it.
TRAINING_FOLDER = "training"
# A checkpoint that is measured before it is anything's result.
DRAFT = "measured.pt"
_RUNS = "runs"

_STATE = rf"{TRAINING_FOLDER}(?:-(\d+))?/weights/epoch-(\d+)\.state"
# Nothing else is sent, and nothing else is taken: a name cannot lead out of the run's folder.
_NEEDED = re.compile(rf"cut-\d+\.pt|{TRAINING_FOLDER}(-\d+)?/(attempt\.json|weights/best-\d+\.pt)|{_STATE}")

# Of a file: when it was changed and its size; equal as long as its content is.
_Stamp = tuple[int, int]


class StateSender:
    """Has what a training keeps after each epoch sent to the shared place.

    A plain class of this module, so that Ultralytics can hand it to the processes of a multi-GPU training.

    Args:
        run_folder: of the run, named by its key; the training's folder lies in it.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._process: Process | None = None

    def on_model_save(self, trainer: BaseTrainer) -> None:
        """Tell the sending process that there is something new."""
        if self._process is None:
            self._process = python_process(
                "-m",
                __name__,
                str(self._run_folder),
                input=subprocess.PIPE,
                output=2,
                errors=2,
            )
        # One that was killed sends nothing more; the training goes on.
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def on_train_end(self, trainer: BaseTrainer) -> None:
        """Wait until nothing is on its way, since the files are removed once the run is over."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.communicate()


def send_at_each_line(run_folder: Path) -> None:
    """Send what is new in a run's folder each time that a line comes in, until there is none to come.

    Where an epoch is shorter than the way to the place, some states are left out.

    Args:
        run_folder: of the run, named by its key.
    """
    sent: dict[str, _Stamp] = {}
    for _ in sys.stdin:
        try:
            send(run_folder, sent)
        except (StoreError, OSError) as error:
            # A place that is away, or a state that the next epoch removed meanwhile, must not end a training of days.
            sys.stderr.write(f"[trimboard] the state of the training was not shared: {error}\n")


def send(run_folder: Path, sent: dict[str, _Stamp]) -> None:
    """Bring to the shared place, where there is one, what is new in a run's folder, and drop there what is gone.

    Args:
        run_folder: of the run, named by its key.
        sent: what was sent before; is added to.

    Raises:
        StoreError: the shared place cannot be used.
        OSError: a file was removed meanwhile.
    """
    place = shared_place()
    if place is None:
        return
    here = _needed_here(run_folder)
    for name in _in_order(here):
        file = run_folder / name
        stamp = (file.stat().st_mtime_ns, file.stat().st_size)
        if sent.get(name) != stamp:
            place.put_file(file, _place_of(run_folder, name))
            sent[name] = stamp
    for name in set(_needed_there(place, run_folder)) - set(here):
        place.remove(_place_of(run_folder, name))


def add_state_sender(trainer: BaseTrainer, run_folder: Path) -> None:
    """Let a trainer's states be sent, where there is a shared place.

    Raises:
        StoreError: the place that TRIMBOARD_ARTIFACTS names cannot be used.
    """
    if shared_place() is not None:
        sender = StateSender(run_folder)
        for event in ("on_model_save", "on_train_end"):
            trainer.add_callback(event, getattr(sender, event))


def fetch_run(run_folder: Path) -> None:
    """Take over what another machine left of a run, where that has come further than what lies here.

    Args:
        run_folder: of the run, named by its key.

    Raises:
        StoreError: the shared place cannot be read, or the folder cannot be written.
    """
    place = shared_place()
    if place is None:
        return
    there = _needed_there(place, run_folder)
    if _progress(there) <= _progress(_needed_here(run_folder)):
        return
    # What was cut here may be another model, by the last bits of its weights; states belong to one.
    remove_working_files(run_folder)
    # The furthest last: if this is interrupted, what is here has come less far, and all is fetched anew.
    for name in sorted(there, key=_epoch):
        place.fetch_file(_place_of(run_folder, name), run_folder / name)


def forget_run(run_folder: Path) -> None:
    """Drop what lies in the shared place of a run that is over; a place that is away keeps it.

    Args:
        run_folder: of the run, named by its key.
    """
    try:
        place = shared_place()
        if place is not None:
            place.remove(f"{_RUNS}/{run_folder.name}")
    except StoreError as error:
        sys.stderr.write(f"[trimboard] the training's states stay in the shared place: {error}\n")


def remove_working_files(run_folder: Path) -> None:
    """Drop what only an interrupted run would need, and the drafts of one that was killed."""
    for training in run_folder.glob(f"{TRAINING_FOLDER}*"):
        shutil.rmtree(training, ignore_errors=True)
    for pattern in ("start.pt", "cut-*.pt", "teacher.pt", DRAFT, ".*.pt.*"):
        for file in run_folder.glob(pattern):
            file.unlink(missing_ok=True)


def _place_of(run_folder: Path, name: str) -> str:
    return f"{_RUNS}/{run_folder.name}/{name}"


def _needed_here(run_folder: Path) -> list[str]:
    names = (file.relative_to(run_folder).as_posix() for file in run_folder.rglob("*") if file.is_file())
    return [name for name in names if _NEEDED.fullmatch(name)]


def _needed_there(place: SharedPlace, run_folder: Path) -> list[str]:
    prefix = _place_of(run_folder, "")
    names = (name.removeprefix(prefix) for name in place.names_in(prefix.rstrip("/")))
    return [name for name in names if _NEEDED.fullmatch(name)]


def _epoch(name: str) -> tuple[int, int]:
    """Number of the training and of its epoch that a file is the state of; zeros for other files."""
    state: Any = re.fullmatch(_STATE, name)
    return (int(state[1] or 1), int(state[2])) if state else (0, 0)


def _progress(names: list[str]) -> tuple[int, int]:
    """How far a run has come whose files these are."""
    return max(map(_epoch, names), default=(0, 0))


def _in_order(names: list[str]) -> list[str]:
    """What a state needs before the state itself, and of the states the last one first."""
    return sorted(names, key=lambda name: (_epoch(name) != (0, 0), [-part for part in _epoch(name)], name))


if __name__ == "__main__":
    send_at_each_line(Path(sys.argv[1]))
