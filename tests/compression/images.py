"""Labelled images of random noise, for what looks at training images."""

from __future__ import annotations

import torch

from compression.data.calibration import Calibration

IMGSZ = 64


def noise(n_images: int, *, nc: int = 1, seed: int = 0) -> Calibration:
    """Images of noise, with two boxes on each, of classes in turn.

    Args:
        n_images: how many.
        nc: number of classes.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index in range(n_images):
        # Coarse squares under the noise, so that neighbouring pixels and the channels have something in common.
        coarse = torch.rand(3, 8, 8, generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2)
        image = 0.7 * coarse + 0.3 * torch.rand(3, IMGSZ, IMGSZ, generator=generator)
        size = 0.2 + 0.3 * torch.rand(2, 2, generator=generator)
        centre = size / 2 + (1 - size) * torch.rand(2, 2, generator=generator)
        samples.append(
            {
                "img": (255 * image).to(torch.uint8),
                "cls": torch.tensor([[float(2 * index % nc)], [float((2 * index + 1) % nc)]]),
                "bboxes": torch.cat([centre, size], dim=1),
                "batch_idx": torch.zeros(2),
            }
        )
    return Calibration(samples=tuple(samples))
