"""Runs and plans in processes of their own."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from cache.record import EpochRow, Progress
from cache.store import own_store
from compression.cli.main import main
from compression.jobs import local
from compression.process import Process, python_process
from compression.request import RunRequest
from tests import factories


def _request(level: int = 9) -> RunRequest:
    """A level that does not exist, so that the process refuses it at once."""
    return RunRequest(
        model="yolo26n.yaml",
        data="shapes",
        level=level,
        epochs=1,
        patience=5,
        imgsz=64,
        batch=2,
        seed=0,
        recipe="plain",
        device="cpu",
    )


def _wait(job: local.Job) -> int:
    for _ in range(600):
        code = job.exit_code()
        if code is not None:
            return code
        time.sleep(0.1)
    raise AssertionError("the process does not end")


def test_a_plan_of_a_model_that_has_its_classes_names_no_data() -> None:
    shown = "--level all --imgsz 64 --criterion l2 --allocation uniform --json"
    assert " ".join(local.plan_arguments("own.pt", None, imgsz=64)) == f"plan own.pt {shown}"
    assert " ".join(local.plan_arguments("own.pt", "shapes", imgsz=64)) == f"plan own.pt --data shapes {shown}"


def test_a_second_click_starts_nothing_and_a_refusal_is_one_sentence(own_home: Path) -> None:
    first = local.start_run(_request())
    second = local.start_run(_request())
    assert second is first
    assert local.jobs() == [first]
    assert first.log_file.parent == own_home / "logs"
    assert _wait(first) == 2
    assert "9" in first.last_line()
    local.forget(first)
    assert local.jobs() == []
    assert first.log_file.is_file()


def test_a_new_attempt_takes_the_place_of_a_failed_one() -> None:
    first = local.start_run(_request())
    assert _wait(first) == 2
    second = local.start_run(replace(_request(), device="0"))
    assert local.jobs() == [second]
    assert _wait(second) == 2
    local.forget(second)


def test_what_was_queued_leaves_no_log_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def queue_at_once(*_: str, output: BinaryIO, errors: BinaryIO) -> Process:
        return python_process("-c", "", output=output, errors=errors)

    monkeypatch.setattr(local, "python_process", queue_at_once)
    first = local.start_run(_request(level=1))
    assert _wait(first) == 0
    second = local.start_run(_request(level=2))
    assert local.jobs() == [second]
    assert not first.log_file.exists()
    assert _wait(second) == 0
    local.forget(second)


def test_a_plan_leaves_no_log_when_it_is_forgotten() -> None:
    job = local.start_plan("nowhere.pt", "shapes", imgsz=64)
    assert local.find_job(local.plan_arguments("nowhere.pt", "shapes", imgsz=64)) is job
    assert _wait(job) == 2
    assert "nowhere.pt" in job.last_line()
    local.forget(job)
    assert local.find_job(job.arguments) is None
    assert not job.log_file.exists()


def test_an_export_is_known_by_its_checkpoint() -> None:
    checkpoint = Path("nowhere.pt")
    job = local.start_export(
        checkpoint, ["onnx", "ncnn"], precision="int8", imgsz=64, batch=2, head="nms", data="shapes"
    )
    assert " ".join(job.arguments) == (
        "export nowhere.pt --format=onnx,ncnn --precision=int8 --imgsz=64 --batch=2 --head=nms --data=shapes --json"
    )
    assert local.exports_of(checkpoint) == [job]
    assert local.exports_of(Path("elsewhere.pt")) == []
    assert _wait(job) == 2
    assert "There is no model 'nowhere.pt'" in job.last_line()
    local.forget(job)
    assert local.exports_of(checkpoint) == []


def test_a_ranking_is_asked_for_as_a_user_would_type_it() -> None:
    arguments = local.detections_arguments(
        Path("a.pt"), Path("b.pt"), "shapes", classes="", imgsz=320, head="e2e", conf=0.25
    )
    assert " ".join(arguments) == "detections a.pt b.pt --data shapes --imgsz 320 --head e2e --conf 0.25 --json"
    of_some = local.detections_arguments(
        Path("a.pt"), Path("b.pt"), "shapes", classes="disc,ring", imgsz=320, head="nms", conf=0.5
    )
    assert of_some[-3:] == ("--classes", "disc,ring", "--json")
    job = local.start_detections(arguments)
    assert local.start_detections(arguments) is job
    assert _wait(job) == 2
    assert "There is no checkpoint 'a.pt'" in job.last_line()
    local.forget(job)
    assert not job.log_file.exists()


def test_the_tail_of_a_log_keeps_the_last_state_of_progress_bars(tmp_path: Path) -> None:
    log_file = tmp_path / "run.log"
    log_file.write_bytes(b"start\n1%\r50%\r100%\nend\n" + "grün\n".encode())
    assert local.tail(log_file, 4) == ["100%", "end", "grün", ""]
    assert local.tail(tmp_path / "none.log") == []


def test_combinations_are_measured_by_the_command_that_a_user_would_type() -> None:
    arguments = local.levers_arguments(
        ["0123456789ab"],
        "shapes",
        levels=[0, 3],
        backends=["onnx"],
        precisions=["fp32", "int8"],
        sizes=[1.0, 0.75, 160],
        siblings=True,
        threads=2,
    )
    asked = "--levels 0,3 --backend onnx --precision fp32,int8 --imgsz 1,0.75,160 --threads 2 --siblings"
    assert " ".join(arguments) == f"levers 0123456789ab --data shapes {asked}"
    job = local.start_levers(("levers", "0123456789ab", "--data", "nowhere"))
    assert local.levers_of(["0123456789ab"]) == [job]
    assert local.levers_of(["ba9876543210"]) == []
    assert _wait(job) == 2
    assert job.last_line().startswith("trimboard: There is no checkpoint '0123456789ab'")
    local.forget(job)


def test_the_sensitivity_of_layers_is_asked_for_as_a_user_would_type_it_and_can_be_cancelled() -> None:
    arguments = local.sensitivity_arguments("a.pt", "shapes", classes="", imgsz=320, head="e2e")
    assert " ".join(arguments) == "sensitivity a.pt --data shapes --imgsz 320 --head e2e --json"
    of_some = local.sensitivity_arguments("a.pt", "shapes", classes="disc,ring", imgsz=64, head="nms")
    assert of_some[4:6] == ("--classes", "disc,ring")
    job = local.start_sensitivity(arguments)
    assert local.start_sensitivity(arguments) is job
    local.cancel(job)
    assert job.exit_code() is not None
    assert local.find_job(arguments) is None
    assert not job.log_file.exists()


def test_progress_of_any_task_speaks_of_accuracy(capsys: pytest.CaptureFixture[str]) -> None:
    local.write_progress(Progress(stage="fine-tuning", epoch=1, epochs=2, map50=1.0, map50_95=0.5))
    assert capsys.readouterr().err == "[trimboard] fine-tuning 1/2 epochs, accuracy 0.500\n"


def test_epochs_of_a_run_are_told_by_its_task(capfd: pytest.CaptureFixture[str]) -> None:
    asked = factories.spec(task="classify", head="nms")
    queue = own_store().queue
    queue.begin(asked, None, lanes="cpu", pid=os.getpid(), log_file="")
    row = EpochRow(epoch=1, map50=1, map50_95=0.5, precision=None, recall=None, losses={}, lr=0.1, seconds=2)
    queue.tell(asked.key, Progress(stage="fine-tuning", epoch=1, epochs=2, finished=row))
    main(["runs", asked.key])
    assert "epoch 1: top-1 0.500" in capfd.readouterr().out
