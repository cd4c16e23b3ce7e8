"""What a user asks to be run, as typed: nothing is opened yet, and no key is known.

This module imports no torch, so that pages and the queue can hold requests.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from compression.errors import SpecError
from compression.spec import (
    DEFAULT_BATCH,
    DEFAULT_EPOCHS,
    DEFAULT_PATIENCE,
    DEFAULT_RECIPE,
    DEFAULT_SEED,
    CutMethod,
    HeadName,
    RecipeName,
    RunSpec,
    Target,
)
from compression.wishes import Wish, layers_argument, locked_argument, settled


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One run, see `compression.compress`.

    Attributes:
        model: catalog name, .yaml, or the path of a .pt.
        data: known name or the path of a data.yaml.
        level: 0 to 5; None with a custom target.
        target: the costs to keep where `level` is None; None also where only wishes about layers are given.
        layers: what single layers keep, beside or in place of level and target.
        classes: names or indices of the only classes to keep, as "person,car"; "" for all.
        recipe: how the pruned model is fine-tuned.
        method: how channels are chosen and accuracy is recovered before training; its seed is not used.
        steps: the target is reached in so many rounds of cutting and fine-tuning.
        epochs: at most so many; 0 measures without training.
        patience: epochs without a better result after which fine-tuning ends.
        imgsz: side of the square input, pixels; None for the model's usual one, which is known once it is open.
        batch: images a step.
        seed: of everything random.
        device: Ultralytics' device string; "" lets Ultralytics choose.
        head: predictions to measure; None for the end-to-end ones where the model has them.
        resources: what a cluster sets aside for it, as "gpu=2,cpu=8"; "" lets the cluster choose.
        again: run even where a result is stored, and put the new one in its place.
    """

    model: str
    data: str
    level: int | None = None
    target: Target | None = None
    layers: tuple[Wish, ...] = ()
    classes: str = ""
    recipe: RecipeName = DEFAULT_RECIPE
    method: CutMethod = field(default_factory=CutMethod)
    steps: int = 1
    epochs: int = DEFAULT_EPOCHS
    patience: int = DEFAULT_PATIENCE
    imgsz: int | None = None
    batch: int = DEFAULT_BATCH
    seed: int = DEFAULT_SEED
    device: str = ""
    head: HeadName | None = None
    resources: str = ""
    again: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", settled(self.layers))

    @classmethod
    def of_spec(cls, spec: RunSpec) -> RunRequest:
        """What asks the question of a stored result again, with model and data set as they were given."""
        return cls(
            model=spec.model,
            data=spec.data_source or spec.data,
            level=spec.level,
            target=spec.target if spec.level is None else None,
            layers=spec.target.layers if spec.level is not None else (),
            classes=",".join(map(str, spec.classes)),
            recipe=spec.recipe,
            method=spec.method,
            steps=spec.steps,
            epochs=spec.epochs,
            patience=spec.patience,
            imgsz=spec.imgsz,
            batch=spec.batch,
            seed=spec.seed,
            device=spec.device,
            head=spec.head,
        )

    def to_dict(self) -> dict[str, Any]:
        """The request as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunRequest:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            SpecError: a field is unknown, missing or out of range.
        """
        try:
            target = values["target"]
            return cls(
                **{
                    **values,
                    "target": Target.from_dict(target) if target else None,
                    # Older requests do not speak of layers.
                    "layers": tuple(Wish(**wish) for wish in values.get("layers", ())),
                    "method": CutMethod(**values["method"]),
                }
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise SpecError(f"A stored request cannot be read: {error}.") from error

    def arguments(self) -> tuple[str, ...]:
        """The command line behind `trimboard run`, for the machine that a latency is asked for on."""
        latency = self.target.latency if self.target else None
        wishes = (*self.layers, *(self.target.layers if self.target else ()))
        asked = {
            "data": self.data,
            "level": self.level,
            "keep-gflops": self.target.gflops_kept if self.target else None,
            "keep-params": self.target.params_kept if self.target else None,
            "keep-latency": latency.kept if latency else None,
            "backend": latency.backend if latency else None,
            "threads": latency.threads if latency else None,
            "lock": locked_argument(wishes) or None,
            "layer": layers_argument(wishes) or None,
            "epochs": self.epochs,
            "patience": self.patience,
            "imgsz": self.imgsz,
            "batch": self.batch,
            "seed": self.seed,
            "recipe": self.recipe,
            "criterion": self.method.criterion,
            "allocation": self.method.allocation,
            "recovery": self.method.recovery,
            "calibration-images": self.method.calibration_images,
            "align": self.method.align,
            "steps": self.steps,
            "classes": self.classes or None,
            "device": self.device or None,
            "head": self.head,
            "resources": self.resources or None,
        }
        # In one piece, since a name may begin like an option.
        told = [f"--{name}={value}" for name, value in asked.items() if value is not None]
        return (self.model, *told, *(["--again"] if self.again else []))

    def command(self) -> str:
        """The same as a user types it, without what is so by default."""
        by_default = set(RunRequest(model=self.model, data="").arguments())
        if self.target and self.target.latency:
            # Where steps of channels are not named, they are what the backend likes.
            by_default.discard(f"--align={self.method.align}")
        return shlex.join(["trimboard", "run", self.model, *(a for a in self.arguments() if a not in by_default)])


def listed(text: str | None) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
