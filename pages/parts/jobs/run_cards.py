"""What the page Runs says about each run: title, state, progress, where it works, and what can be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cache.queue import this_host
from cache.record import EpochRow, RunState, RunStatus
from cache.series import cut_in_words, method_label
from compression.catalog import TaskName, model_label
from compression.jobs.worker import startable
from compression.spec import RunSpec
from pages.parts import formats
from pages.parts.jobs.progress import progress_line

STATE_WORDS: dict[RunState, str] = {
    "running": "at work",
    "queued": "queued",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "interrupted",
}
RESUMABLE: tuple[RunState, ...] = ("failed", "cancelled", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """One run as the page shows it.

    Attributes:
        key: the run's.
        title: what is compressed, how far, on what.
        how: method, seed and epochs, in a few words.
        state: as the queue gives it.
        line: what it does now, or how it ended.
        fraction: part of the stage that is done; None where the stage does not tell.
        facts: where it works, what it holds, since when; a few words each.
        resumable: it ended without a result and can be queued again.
        task: what the model predicts.
    """

    key: str
    title: str
    how: str
    state: RunState
    line: str
    fraction: float | None
    facts: tuple[str, ...]
    resumable: bool
    task: TaskName = "detect"


def cards_of(runs: Sequence[RunStatus], now: datetime) -> list[RunCard]:
    """The runs in the order given.

    Args:
        runs: as the queue gives them.
        now: the time that durations are counted to.
    """
    return [_card(run, list(runs), now) for run in runs]


def title_of(spec: RunSpec) -> str:
    """What is compressed, how far, on what: "yolo26n on shapes, level 3"."""
    return f"{model_label(spec.model)} on {spec.data}, {cut_in_words(spec)}"


def _card(run: RunStatus, runs: list[RunStatus], now: datetime) -> RunCard:
    progress, spec = run.progress, run.spec
    at_work = run.state == "running"
    return RunCard(
        key=run.key,
        title=title_of(spec),
        how=_how(spec),
        state=run.state,
        line=_line(run, runs, now),
        fraction=min(progress.epoch / progress.epochs, 1.0) if at_work and progress.epochs else None,
        facts=_facts(run, now) if at_work else (),
        resumable=run.state in RESUMABLE and run.request is not None,
        task=spec.task,
    )


def _how(spec: RunSpec) -> str:
    epochs = f", {spec.epochs} epoch{'s' * (spec.epochs != 1)}" if spec.epochs else ""
    return f"{method_label(spec)}, seed {spec.seed}{epochs}"


def _line(run: RunStatus, runs: list[RunStatus], now: datetime) -> str:
    if run.state == "running":
        return progress_line(run.progress, run.spec.task)
    if run.state == "queued":
        if run.executor == "ray":
            return "Sent to the cluster, which starts it when a node is free"
        return "Starts now" if run in startable(runs) else f"Waits for {_device(run.lanes)}"
    ended = f"{STATE_WORDS[run.state].capitalize()} {_ago(run.updated, now)}"
    return f"{ended}. {run.message}" if run.message else f"{ended}."


def _facts(run: RunStatus, now: datetime) -> tuple[str, ...]:
    facts = [_device(run.lanes), f"on {run.host}" if run.host != this_host() else ""]
    if run.memory_mb:
        facts.append(f"{run.memory_mb / 1e3:.1f} GB of memory")
    facts.append(f"at work for {formats.duration(_seconds_since(run.started, now))}")
    return tuple(fact for fact in facts if fact)


def _device(lanes: str) -> str:
    """The devices in words: "the CPU", "GPU 0", "GPUs 0 and 1"."""
    numbers = lanes.split(",")
    if not all(number.isdigit() for number in numbers):
        return {"cpu": "the CPU", "mps": "the GPU", "": "its device"}.get(lanes, lanes)
    return f"GPU {numbers[0]}" if len(numbers) == 1 else f"GPUs {', '.join(numbers[:-1])} and {numbers[-1]}"


def _ago(iso: str, now: datetime) -> str:
    seconds = _seconds_since(iso, now)
    return "just now" if seconds < 5 else f"{formats.duration(seconds)} ago" if seconds < 86_400 else formats.day(iso)


def _seconds_since(iso: str, now: datetime) -> float:
    try:
        return max((now - datetime.fromisoformat(iso)).total_seconds(), 0.0)
    except ValueError:
        return 0.0


def utc_now() -> datetime:
    """The time by which cards count."""
    return datetime.now(UTC)


def losses_of(row: EpochRow, part: str) -> float:
    """Sum of an epoch's losses.

    Args:
        row: the epoch.
        part: "train" or "val".
    """
    return sum(value for name, value in row.losses.items() if name.startswith(f"{part}/"))
