"""Accuracy of a checkpoint, against truth that is known by construction."""

from __future__ import annotations

from pathlib import Path

import pytest

from compression.accuracy.evaluation import evaluate
from compression.data.dataset import open_dataset
from compression.errors import ModelError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.spec import HeadName


def checkpoint_of(architecture: str, nc: int, folder: Path) -> Path:
    file = folder / f"{architecture}.pt"
    write_checkpoint(open_detector(f"{architecture}.yaml", nc=nc).module, file, {})
    return file


def test_random_weights_find_nothing_in_every_class(tmp_path: Path, tiny_shapes: Path) -> None:
    dataset = open_dataset(str(tiny_shapes))
    heads: tuple[HeadName, ...] = ("e2e", "nms")
    for head in heads:
        metrics = evaluate(
            checkpoint_of("yolo26n", 10, tmp_path),
            dataset,
            imgsz=64,
            batch=4,
            device="cpu",
            head=head,
        )
        assert list(metrics.per_class) == list(dataset.names.values())
        assert metrics.map50 is not None
        assert metrics.map50 < 0.05


def test_other_classes_are_refused(tmp_path: Path, tiny_shapes: Path) -> None:
    with pytest.raises(ModelError, match="predicts 3 classes and 'tiny-shapes' has 10"):
        evaluate(checkpoint_of("yolo26n", 3, tmp_path), open_dataset(str(tiny_shapes)), imgsz=64, batch=4)


def test_model_without_an_end_to_end_head_has_none_to_measure(tmp_path: Path, tiny_shapes: Path) -> None:
    with pytest.raises(ModelError, match="has no end-to-end head"):
        evaluate(checkpoint_of("yolo11n", 10, tmp_path), open_dataset(str(tiny_shapes)), imgsz=64, batch=4, head="e2e")
