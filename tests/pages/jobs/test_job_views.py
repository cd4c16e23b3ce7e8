"""How a page tells of work in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compression.jobs.local import Job
from pages.parts.jobs.job_views import job_view


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "export.log"


def job_of(log_file: Path, code: int | None) -> Job:
    class Process:
        def poll(self) -> int | None:
            return code

    process: Any = Process()
    return Job(kind="export", arguments=("export", "best.pt"), pid=1, log_file=log_file, _process=process)


def test_a_job_at_work_tells_the_last_of_its_own_lines(log_file: Path) -> None:
    assert job_view(job_of(log_file, None)).line == "opening the checkpoint and the data set"
    log_file.write_text("[trimboard] 1 of 2: exporting\nONNX: slimming...\n 5%\r 100%\n")
    view = job_view(job_of(log_file, None))
    assert (view.line, view.problems) == ("1 of 2: exporting", ())


def test_a_job_that_is_over_tells_what_it_left_out(log_file: Path) -> None:
    log_file.write_text("[trimboard] 1 of 2: exporting\ntrimboard: NCNN needs ncnn.\n")
    view = job_view(job_of(log_file, 0))
    assert (view.line, view.problems) == ("", ("NCNN needs ncnn.",))
    assert job_view(job_of(log_file, 2)).problems == ("NCNN needs ncnn.",)
    log_file.write_text("Killed\n")
    assert job_view(job_of(log_file, -9)).problems == ("Killed",)
    assert job_view(job_of(log_file.with_name("none"), 1)).problems == ("The process ended before it could say why.",)
    assert job_view(job_of(log_file.with_name("none"), 0)).problems == ()
