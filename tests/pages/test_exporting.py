"""What the page Deploy says about formats, jobs and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compression.jobs.local import Job
from pages.parts import exporting
from pages.parts.exporting import export_view, file_cards, offers
from tests.compression.test_exported import SAME, record_of


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "export.log"


def job_of(log_file: Path, code: int | None) -> Job:
    class Process:
        def poll(self) -> int | None:
            return code

    process: Any = Process()
    return Job(kind="export", arguments=("export", "best.pt"), pid=1, log_file=log_file, _process=process)


def test_what_cannot_be_made_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "obstacle", lambda name, precision: "Not here." if name == "ncnn" else None)
    labels = [(offer.label, offer.reason) for offer in offers("fp32", with_data=False)]
    assert labels == [
        *(("ONNX", ""), ("OpenVINO", ""), ("TensorRT", ""), ("TorchScript", "")),
        *(("NCNN", "Not here."), ("CoreML", ""), ("TFLite", "")),
    ]
    reasons = {offer.format: offer.reason for offer in offers("int8", with_data=False)}
    assert reasons["onnx"] == "INT8 is calibrated on training images; name a data set above."
    # Its weights are rounded without looking at images.
    assert reasons["coreml"] == ""
    assert not any(offer.reason for offer in offers("int8", with_data=True) if offer.format != "ncnn")


def test_a_job_at_work_tells_the_last_of_its_own_lines(log_file: Path) -> None:
    assert export_view(job_of(log_file, None)).line == "opening the checkpoint and the data set"
    log_file.write_text("[trimboard] 1 of 2: exporting\nONNX: slimming...\n 5%\r 100%\n")
    view = export_view(job_of(log_file, None))
    assert (view.line, view.problems) == ("1 of 2: exporting", ())


def test_a_job_that_is_over_tells_what_it_left_out(log_file: Path) -> None:
    log_file.write_text("[trimboard] 1 of 2: exporting\ntrimboard: NCNN needs ncnn.\n")
    view = export_view(job_of(log_file, 0))
    assert (view.line, view.problems) == ("", ("NCNN needs ncnn.",))
    assert export_view(job_of(log_file, 2)).problems == ("NCNN needs ncnn.",)
    log_file.write_text("Killed\n")
    assert export_view(job_of(log_file, -9)).problems == ("Killed",)
    assert export_view(job_of(log_file.with_name("none"), 1)).problems == (
        "The process ended before it could say why.",
    )
    assert export_view(job_of(log_file.with_name("none"), 0)).problems == ()


def test_cards_tell_files_the_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "best.onnx"
    path.write_bytes(b"x" * 5_400_000)
    first = record_of(path)
    second = replace(first, parity=SAME, exported=replace(first.exported, batch=8, precision="int8"))
    third = replace(first, parity=None, not_compared="It runs elsewhere.", environment={})
    cards = file_cards([first, second, third])
    assert [(card.title, card.same, card.size) for card in cards] == [
        ("**ONNX** · fp32 · 320 px · e2e head", None, "5.4 MB"),
        ("**ONNX** · int8 · 320 px · batch 8 · e2e head", True, "5.4 MB"),
        ("**ONNX** · fp32 · 320 px · e2e head", False, "5.4 MB"),
    ]
    assert cards[0].parity == "It runs elsewhere."
    assert cards[0].facts == "5.4 MB · 22 May 2026"
    assert cards[2].facts == "5.4 MB · 22 May 2026 · torch 2.14"
    assert cards[2].warnings == ("A warning.",)
    # Downloaded, the file lies beside the program.
    assert 'YOLO("best.onnx", task="detect")' in cards[2].snippet
