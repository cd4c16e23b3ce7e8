"""What is said about each run on the page Runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cache.queue import this_host
from cache.record import EpochRow, Progress, RunState, RunStatus
from compression.request import RunRequest
from compression.spec import Target
from pages.parts.jobs.run_cards import RunCard, cards_of, losses_of, title_of
from tests import factories

NOW = datetime.fromisoformat("2026-05-22T10:00:00+00:00")


def ago(**parts: int) -> str:
    return (NOW - timedelta(**parts)).isoformat()


def status(level: int = 3, **changes: Any) -> RunStatus:
    spec = changes.pop("spec", None) or factories.spec(level)
    values: dict[str, Any] = {
        "key": spec.key,
        "spec": spec,
        "request": RunRequest(model=spec.model, data=spec.data, level=level),
        "state": "running",
        "progress": Progress(stage="fine-tuning", epoch=5, epochs=20, eta_seconds=130, map50=0.5, map50_95=0.41234),
        "position": 0.0,
        "lanes": "cpu",
        "executor": "local",
        "host": this_host(),
        "pid": 1,
        "process_started": 0.0,
        "memory_mb": 812.0,
        "queued": ago(hours=2),
        "started": ago(minutes=3, seconds=20),
        "updated": ago(seconds=1),
        "message": "",
        "log_file": "",
        **changes,
    }
    return RunStatus(**values)


def card(*runs: RunStatus) -> RunCard:
    return cards_of(runs, NOW)[0]


def test_a_run_at_work_tells_how_far_it_is_and_what_it_holds() -> None:
    shown = card(status())
    assert shown.title == "yolo26n on shapes, level 3"
    assert shown.how == f"default method, seed 0, {factories.spec(3).epochs} epochs"
    assert shown.line == "Fine-tuning · epoch 5 of 20 · about 2 min 10 s left · mAP50-95 now 0.412"
    assert (shown.fraction, shown.resumable) == (0.25, False)
    assert shown.facts == ("the CPU", "0.8 GB of memory", "at work for 3 min 20 s")


def test_a_stage_without_epochs_has_no_bar_and_unknown_memory_is_not_told() -> None:
    shown = card(status(progress=Progress(stage="pruning"), memory_mb=0.0, host="elsewhere"))
    assert (shown.line, shown.fraction) == ("Pruning", None)
    assert shown.facts == ("the CPU", "on elsewhere", "at work for 3 min 20 s")


@pytest.mark.parametrize(
    ("lanes", "words"), [("0", "GPU 0"), ("0,1", "GPUs 0 and 1"), ("0,1,3", "GPUs 0, 1 and 3"), ("mps", "the GPU")]
)
def test_devices_in_words(lanes: str, words: str) -> None:
    assert card(status(lanes=lanes)).facts[0] == words


def test_a_queued_run_says_what_it_waits_for() -> None:
    queued = status(4, state="queued", lanes="0")
    assert card(queued).line == "Starts now"
    assert card(queued, status(lanes="0")).line == "Waits for GPU 0"
    assert card(queued, status(lanes="cpu")).line == "Starts now"
    assert "cluster" in card(status(state="queued", executor="ray", host="")).line


@pytest.mark.parametrize(
    ("state", "message", "updated", "line"),
    [
        ("done", "", ago(seconds=2), "Done just now."),
        ("cancelled", "", ago(minutes=61), "Cancelled 1 h 1 min ago."),
        ("failed", "No space is left.", ago(seconds=40), "Failed 40 s ago. No space is left."),
        (
            "interrupted",
            "The process ended.",
            "2026-05-20T08:00:00+00:00",
            "Interrupted 20 May 2026. The process ended.",
        ),
    ],
)
def test_a_run_that_is_over_says_how_and_when(state: RunState, message: str, updated: str, line: str) -> None:
    shown = card(status(state=state, message=message, updated=updated))
    assert (shown.line, shown.facts, shown.fraction) == (line, (), None)
    assert shown.resumable == (state != "done")


def test_a_run_that_nobody_typed_cannot_be_resumed() -> None:
    assert not card(status(state="failed", request=None)).resumable


@pytest.mark.parametrize(
    ("level", "target", "words"),
    [
        (0, None, "the original"),
        (None, Target(gflops_kept=0.4, params_kept=None), "40% of the GFLOPs"),
        (None, Target(gflops_kept=0.25, params_kept=0.5), "25% of the GFLOPs and 50% of the parameters"),
    ],
)
def test_the_title_names_the_cut(level: int | None, target: Target | None, words: str) -> None:
    spec = factories.spec(0 if level == 0 else 3)
    spec = spec if target is None else replace(spec, level=None, target=target)
    assert title_of(spec) == f"yolo26n on shapes, {words}"


def test_losses_are_summed_up_by_what_they_are_of() -> None:
    losses = {"train/box_loss": 1.5, "train/cls_loss": 0.25, "val/box_loss": 2.0}
    row = EpochRow(epoch=1, map50=0, map50_95=0, precision=0, recall=0, losses=losses, lr=0, seconds=1)
    assert (losses_of(row, "train"), losses_of(row, "val")) == (1.75, 2.0)
