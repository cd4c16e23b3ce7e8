"""Train the level 0 of the shipped `shapes` results: yolo26n from scratch at 320 pixels, by plain Ultralytics.

    python benchmarks/shapes_baseline.py --out cache/shipped/shapes/yolo26n.pt

The small nominal batch (`nbs`) gives 500 images 31 optimizer steps an epoch in place of 8, and so a trained detector in
80 epochs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from ultralytics import YOLO

from compression.data.shapes import IMAGE_SIZE, draw_dataset
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import read_checkpoint

SETTINGS = {
    "epochs": 80,
    "batch": 16,
    "nbs": 16,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "lrf": 0.01,
    "cos_lr": True,
    "seed": 0,
    "nms": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the checkpoint goes")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "shapes", help="dataset folder")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()

    detector = YOLO("yolo26n.yaml")
    detector.add_callback("on_train_start", lambda trainer: torch.set_num_threads(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        detector.train(
            data=str(draw_dataset(arguments.data)),
            imgsz=IMAGE_SIZE,
            project=folder,
            plots=False,
            cache="ram",
            **SETTINGS,
        )
        trained, _ = read_checkpoint(Path(folder) / "train" / "weights" / "best.pt")
        write_checkpoint(trained, arguments.out, {})


if __name__ == "__main__":
    main()
