"""What a classifier takes images for, by Ultralytics' own predictor, as plain data.

Importing this module imports no torch, so that pages can name its types; `classify` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compression.errors import ModelError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """A class that an image may be of.

    Attributes:
        name: of the class.
        score: the model's confidence, 0 to 1; those of all classes add up to 1.
    """

    name: str
    score: float


def classify(checkpoint: Path, image: Image.Image, *, imgsz: int, device: str = "") -> list[ClassScore]:
    """The five classes, or all where there are fewer, that a classifier finds likeliest, the likeliest first.

    Args:
        checkpoint: a classifier, opened by the restricted loader.
        image: RGB.
        imgsz: side of the square that the image is scaled and cropped to, pixels.
        device: Ultralytics' device string; of several GPUs the first is used.

    Raises:
        SpecError: this machine has no such device.
        ModelError: the checkpoint cannot be opened, or is no classifier.
    """
    from compression.environment import check_device
    from compression.models.detector import read_checkpoint
    from compression.models.kinds import KINDS, task_of
    from compression.models.tasks import TASKS

    check_device(device)
    module, _ = read_checkpoint(checkpoint)
    if (task := task_of(module)) != "classify":
        raise ModelError(f"{checkpoint.name!r} is a {TASKS[task].noun}; look at what it sees by `detect`.")
    predictor = KINDS[task].predictor(
        overrides={
            "mode": "predict",
            "task": task,
            "imgsz": imgsz,
            "device": device.split(",")[0],
            "save": False,
            "verbose": False,
        }
    )
    predictor.setup_model(module, verbose=False)
    (result,) = predictor(image)
    scores = result.probs.top5conf.tolist()
    return [ClassScore(name=result.names[i], score=s) for i, s in zip(result.probs.top5, scores, strict=True)]
