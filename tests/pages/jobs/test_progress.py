"""What is said about runs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache.record import Progress, RunStatus
from compression.jobs.local import Job
from compression.request import RunRequest
from pages.parts.jobs.progress import Subject, progress_line, run_views
from tests import factories

SUBJECT = Subject(
    model="yolo26n", data="shapes", weights=frozenset({"ef" * 32}), arguments=frozenset({"yolo26n.yaml", "shapes"})
)


def _status(level: int = 3, **changes: Any) -> RunStatus:
    spec = changes.pop("spec", None) or factories.spec(level)
    values: dict[str, Any] = {
        "key": spec.key,
        "spec": spec,
        "request": None,
        "state": "running",
        "position": 0.0,
        "lanes": "cpu",
        "executor": "local",
        "host": "here",
        "process_started": 0.0,
        "memory_mb": 0.0,
        "queued": "2026-05-22",
        "message": "",
        "log_file": "",
        "progress": Progress(stage="fine-tuning", epoch=3, epochs=20, eta_seconds=130, map50=0.5, map50_95=0.41234),
        "pid": 1,
        "started": "2026-05-22",
        "updated": "2026-05-22",
        **changes,
    }
    return RunStatus(**values)


def _job(tmp_path: Path, exit_code: int, said: str = "", model: str = "yolo26n.yaml", **changes: Any) -> Job:
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({exit_code})"])
    process.wait()
    log_file = tmp_path / "run.log"
    log_file.write_text(said, encoding="utf-8")
    request = RunRequest(
        model=model, data="shapes", level=4, epochs=1, patience=1, imgsz=64, batch=1, seed=0, **changes
    )
    return Job(
        kind="run",
        arguments=request.arguments(),
        pid=process.pid,
        log_file=log_file,
        request=request,
        _process=process,
    )


def test_a_run_tells_stage_epoch_time_and_accuracy() -> None:
    (view,) = run_views(SUBJECT, [_status()], [], [3])
    assert (view.title, view.state, view.fraction) == ("Level 3", "running", 0.15)
    assert view.line == "Fine-tuning · epoch 3 of 20 · about 2 min 10 s left · mAP50-95 now 0.412"
    assert (view.how, view.elsewhere) == ("default method, seed 0", False)


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("pruning", "Pruning"),
        ("measuring before recovery", "Measuring before recovery"),
        ("recovering accuracy", "Recovering accuracy"),
        ("measuring before training", "Measuring before training"),
        ("measuring", "Measuring"),
        ("saving", "Saving"),
    ],
)
def test_a_stage_without_epochs_says_what_it_does_and_no_more(stage: str, line: str) -> None:
    (view,) = run_views(SUBJECT, [_status(progress=Progress(stage=stage))], [], [3])
    assert (view.line, view.fraction) == (line, None)


def test_one_of_several_rounds_is_named() -> None:
    progress = Progress(stage="fine-tuning, step 1 of 3", epoch=2, epochs=10)
    assert progress_line(progress) == "Fine-tuning, step 1 of 3 · epoch 2 of 10"


def test_runs_of_others_are_not_shown() -> None:
    others = [
        _status(spec=factories.spec(3, data="cells")),
        _status(spec=factories.spec(3, model="yolo26s.pt")),
    ]
    assert run_views(SUBJECT, others, [], [3]) == []


def test_a_run_from_a_path_is_known_by_its_weights() -> None:
    spec = factories.spec(3, model="best.pt", weights_sha256="ef" * 32)
    assert len(run_views(SUBJECT, [_status(spec=spec)], [], [3])) == 1


def test_a_run_on_some_classes_says_where_its_result_will_be(tmp_path: Path) -> None:
    spec = factories.spec(4, data="shapes [disc, star]", classes=(0, 2))
    job = _job(tmp_path, 2, classes="disc,star")
    (view,) = run_views(SUBJECT, [_status(spec=spec, request=job.request)], [job], [4])
    assert (view.title, view.elsewhere) == ("Level 4 on shapes [disc, star]", True)
    (refused,) = run_views(SUBJECT, [], [job], [4])
    assert (refused.title, refused.elsewhere) == ("Level 4 on shapes [disc,star]", True)


def test_the_page_of_some_classes_shows_their_runs_only(tmp_path: Path) -> None:
    subject = replace(SUBJECT, data="shapes [disc, star]", classes="disc,star")
    assert run_views(subject, [], [_job(tmp_path, 2)], [4]) == []
    (view,) = run_views(subject, [], [_job(tmp_path, 2, classes="disc,star")], [4])
    assert (view.title, view.elsewhere) == ("Level 4", False)


def test_a_failure_on_some_classes_does_not_hide_one_on_all(tmp_path: Path) -> None:
    job = _job(tmp_path, 2, classes="disc")
    of_some = _status(state="failed", request=job.request, spec=factories.spec(3, data="shapes [disc]", classes=(0,)))
    titles = [view.title for view in run_views(SUBJECT, [of_some, _status(state="failed")], [job], [3])]
    assert titles == ["Level 3 on shapes [disc]", "Level 3"]


def test_a_failed_run_is_shown_until_its_level_is_measured_or_runs_again() -> None:
    failed = _status(state="failed", message="No space is left.", log_file="run.log")
    (view,) = run_views(SUBJECT, [failed], [], [3])
    assert (view.state, view.line, view.log_file) == ("failed", "No space is left.", Path("run.log"))
    assert run_views(SUBJECT, [failed], [], [1]) == []
    assert [view.state for view in run_views(SUBJECT, [_status(), failed], [], [3])] == ["running"]


def test_a_refused_input_shows_the_sentence_that_the_command_line_wrote(tmp_path: Path) -> None:
    job = _job(tmp_path, 2, "Loading\ntrimboard: There is no such model.\n\n")
    (view,) = run_views(SUBJECT, [], [job], [])
    assert (view.title, view.state, view.line) == ("Level 4", "failed", "trimboard: There is no such model.")


def test_a_job_that_registered_itself_is_shown_once(tmp_path: Path) -> None:
    job = _job(tmp_path, 2)
    (view,) = run_views(SUBJECT, [_status(request=job.request, state="failed", message="Broken.")], [job], [])
    assert (view.line, view.job) == ("Broken.", job)


def test_a_queued_run_tells_its_place_among_all() -> None:
    others = _status(spec=factories.spec(3, model="yolo26s.pt"), state="queued")
    first, second = run_views(SUBJECT, [_status(1, state="queued"), others, _status(2, state="queued")], [], [1, 2])
    assert (first.state, first.line) == ("queued", "Waits for its device, next in the queue")
    assert second.line == "Waits for its device, 3 in the queue"


def test_an_interrupted_run_is_a_failure_and_a_cancelled_one_is_none() -> None:
    lost = _status(1, state="interrupted", message="The process ended without a word.")
    views = run_views(SUBJECT, [lost, _status(2, state="cancelled")], [], [1, 2])
    assert [(view.title, view.state, view.line) for view in views] == [("Level 1", "failed", lost.message)]


def test_a_job_that_found_its_result_in_the_cache_is_no_news(tmp_path: Path) -> None:
    assert run_views(SUBJECT, [], [_job(tmp_path, 0)], [4]) == []


def test_a_job_of_another_model_is_not_shown(tmp_path: Path) -> None:
    assert run_views(SUBJECT, [], [_job(tmp_path, 2, model="yolo11n.yaml")], [4]) == []
