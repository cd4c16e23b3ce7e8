"""What the page Deploy says about formats and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pages.parts.deploy import exporting
from pages.parts.deploy.exporting import file_cards, offers
from tests.compression.deployment.test_exported import SAME, record_of


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
    assert cards[1].facts == "5.4 MB · calibrated on shapes · 22 May 2026 · torch 2.14"
    assert cards[2].facts == "5.4 MB · 22 May 2026 · torch 2.14"
    assert cards[2].warnings == ("A warning.",)
    # Downloaded, the file lies beside the program.
    assert 'YOLO("best.onnx", task="detect")' in cards[2].snippet
