"""What a checkpoint sees, against Ultralytics' own `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ultralytics import YOLO

from cache.shipped import SHIPPED
from compression.accuracy.detection_changes import found_by
from compression.accuracy.detections import detect
from compression.accuracy.labels import drawn_sample
from compression.errors import ImageError, ModelError, SpecError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector

TRAINED = SHIPPED / "shapes" / "yolo26n.pt"


def wide_image() -> Image.Image:
    """The drawn sample beside itself, 640 x 320 pixels."""
    sample, _ = drawn_sample()
    wide = Image.new("RGB", (640, 320))
    wide.paste(sample, (0, 0))
    wide.paste(sample, (320, 0))
    return wide


@pytest.mark.parametrize(("head", "nms"), [("e2e", False), ("nms", None)])
def test_the_same_as_plain_ultralytics(head: str, nms: bool | None) -> None:
    sample, _ = drawn_sample()
    for image in (sample, wide_image()):
        (ours,) = detect(TRAINED, [image], imgsz=320, head=head, conf=0.1, device="cpu")  # type: ignore[arg-type]
        (theirs,) = YOLO(TRAINED).predict(image, imgsz=320, nms=nms, conf=0.1, device="cpu", verbose=False)
        expected = theirs.boxes.data.numpy()
        assert len(ours) == len(expected) > 3
        order = np.argsort(-expected[:, 4], kind="stable")
        np.testing.assert_allclose([one.box_xyxy for one in ours], expected[order, :4], atol=1e-3)
        np.testing.assert_allclose([one.score for one in ours], expected[order, 4], atol=1e-5)
        assert [one.name for one in ours] == [theirs.names[int(label)] for label in expected[order, 5]]


def test_most_of_what_was_drawn_is_found_in_pixels_of_the_image() -> None:
    sample, objects = drawn_sample()
    (seen,) = detect(TRAINED, [sample], imgsz=320, head="e2e", device="cpu")
    assert sum(found_by(objects, seen)) >= 0.6 * len(objects)


def test_each_image_is_seen_as_alone(tmp_path: Path) -> None:
    sample, _ = drawn_sample()
    file = tmp_path / "wide.png"
    wide_image().save(file)
    together = detect(TRAINED, [sample, file], imgsz=320, head="e2e", device="cpu")
    alone = [detect(TRAINED, [image], imgsz=320, head="e2e", device="cpu")[0] for image in (sample, file)]
    assert together == alone
    assert detect(TRAINED, [], imgsz=320, head="e2e", device="cpu") == []


def test_faults_are_sentences(tmp_path: Path) -> None:
    without = tmp_path / "yolo11n.pt"
    write_checkpoint(open_detector("yolo11n.yaml", nc=2).module, without, {})
    with pytest.raises(ModelError, match="has no end-to-end head"):
        detect(without, [], imgsz=64, head="e2e", device="cpu")
    with pytest.raises(SpecError, match="Device 'cuda:99' is not there"):
        detect(TRAINED, [], imgsz=64, head="e2e", device="cuda:99")
    file = tmp_path / "text.jpg"
    file.write_text("no image")
    with pytest.raises(ImageError, match=r"'text\.jpg' is no image"):
        detect(TRAINED, [file], imgsz=64, head="e2e", device="cpu")
