"""What is asked for: one run, as a frozen value whose canonical JSON is the cache key.

This module imports no torch, so that pages can build a spec in a moment.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, cast, get_args

from compression.catalog import TaskName, model_label
from compression.errors import SpecError
from compression.wishes import Wish, in_words, settled

# Raise when the meaning of a field or of the engine changes so that older results no longer answer the same question.
SPEC_VERSION = 1

RecipeName = Literal["standard", "plain", "cosine", "distill"]
CriterionName = Literal["l1", "l2", "bn_scale", "lamp", "taylor", "fisher", "obs", "random"]
AllocationName = Literal["uniform", "global", "isomorphic", "budget"]
BackendName = Literal["torch", "onnx", "openvino", "tensorrt", "cuda"]
HeadName = Literal["e2e", "nms"]
RecoveryName = Literal["none", "batchnorm", "least_squares"]
FormatName = Literal["onnx", "openvino", "tensorrt", "torchscript", "ncnn", "coreml", "tflite"]
PrecisionName = Literal["fp32", "fp16", "int8"]

# Steps of channels that a cut is rounded to; eights were the only ones before there was a choice.
ALIGNMENTS = (1, 4, 8, 16, 32)
DEFAULT_ALIGN = 8

# What was measured before these fields existed was measured so. They stand in a key only where they differ from this,
# so that older results keep their keys.
_ADDED_FIELDS: dict[str, Any] = {
    "allocation": "uniform",
    "recovery": "none",
    "calibration_images": 0,
    "steps": 1,
    "align": DEFAULT_ALIGN,
    "classes": (),
    "task": "detect",
}

# The least that a custom target may keep of the GFLOPs or parameters.
MIN_KEPT = 0.2

# Ultralytics' own defaults of `epochs`, `batch`, `patience` and `seed`, cfg/default.yaml.
DEFAULT_EPOCHS = 100
DEFAULT_BATCH = 16
DEFAULT_PATIENCE = 100
DEFAULT_SEED = 0
DEFAULT_IMGSZ = 640
# That of its classifiers, models/yolo/classify/train.py.
DEFAULT_CLASSIFIER_IMGSZ = 224
DEFAULT_RECIPE: RecipeName = "cosine"
# "A few hundred": criteria and recovery gain little from more, and need as much more time and memory.
DEFAULT_CALIBRATION_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class LatencyTarget:
    """The time of a forward pass to keep: of one image, in full precision.

    Attributes:
        kept: part of the original's time, 0.2 to 1.
        backend: what runs the model.
        threads: of the processor; does not matter on a GPU.
        machine: the processor or GPU that it is for; times of another one are others.
        backend_version: of the package that runs it there.
    """

    kept: float
    backend: BackendName
    machine: str
    backend_version: str
    threads: int = 1

    def __post_init__(self) -> None:
        _check_kept("latency", self.kept)
        if self.backend not in get_args(BackendName):
            raise SpecError(f"There is no backend {self.backend!r}; choose one of {', '.join(get_args(BackendName))}.")
        if isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1:
            raise SpecError(f"threads {self.threads!r} is not possible; give a whole number from 1 up.")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The costs to keep, on the training graph, as parts of the original's; None leaves that cost free.

    Attributes:
        gflops_kept: part of the GFLOPs at the run's image size, 0.2 to 1.
        params_kept: part of the parameters, 0.2 to 1.
        latency: the time to keep, in place of GFLOPs.
        layers: what single layers keep; the costs are met by the others. Where no cost is asked for, these layers are
            cut, and nothing else.
    """

    gflops_kept: float | None
    params_kept: float | None
    latency: LatencyTarget | None = None
    layers: tuple[Wish, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", settled(self.layers))
        if not self.parts and not self.layers:
            raise SpecError(
                "A target needs something to keep; give --keep-gflops or --keep-latency, --keep-params, or both, or "
                "--layer."
            )
        if not self.parts and all(wish.locks for wish in self.layers):
            raise SpecError(
                f"With {in_words(self.layers)} and nothing else asked for there is nothing to cut; give --layer, "
                f"--level or --keep-gflops beside --lock."
            )
        if self.gflops_kept is not None and self.latency is not None:
            raise SpecError(
                f"Keeping {self.gflops_kept:g} of the GFLOPs and {self.latency.kept:g} of the latency contradict each "
                f"other; give one of both."
            )
        for name, kept in (("GFLOPs", self.gflops_kept), ("parameters", self.params_kept)):
            if kept is not None:
                _check_kept(name, kept)

    @property
    def parts(self) -> dict[str, float]:
        """What is asked for, by what it is called: "GFLOPs", "latency", "parameters"."""
        latency = self.latency.kept if self.latency else None
        asked = {"GFLOPs": self.gflops_kept, "latency": latency, "parameters": self.params_kept}
        return {name: kept for name, kept in asked.items() if kept is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Target:
        """The inverse of `asdict`, also of what was written before there were latencies and wishes about layers.

        Raises:
            SpecError: a part is out of range.
            TypeError: a field is unknown or missing.
        """
        latency = values.get("latency")
        layers = tuple(Wish(**wish) for wish in values.get("layers", ()))
        return cls(**{**values, "latency": LatencyTarget(**latency) if latency else None, "layers": layers})


def _check_kept(name: str, kept: float) -> None:
    if not MIN_KEPT <= kept <= 1:
        raise SpecError(f"Keeping {kept:g} of the {name} is not possible; give a part from {MIN_KEPT:g} to 1.")


_CHOICES = {
    "recipe": RecipeName,
    "criterion": CriterionName,
    "allocation": AllocationName,
    "recovery": RecoveryName,
    "head": HeadName,
    "task": TaskName,
}
_LEAST = {"epochs": 0, "patience": 1, "imgsz": 32, "batch": 1, "seed": 0, "calibration_images": 0, "steps": 1}


def _check_choices(asked: CutMethod | RunSpec) -> None:
    for field in fields(asked):
        known, value = _CHOICES.get(field.name), getattr(asked, field.name)
        if known and value not in get_args(known):
            raise SpecError(f"There is no {field.name} {value!r}; choose one of {', '.join(get_args(known))}.")


def _check_steps(asked: CutMethod | RunSpec) -> None:
    if isinstance(asked.align, bool) or asked.align not in ALIGNMENTS:
        raise SpecError(
            f"Steps of {asked.align!r} channels are not possible; choose one of {', '.join(map(str, ALIGNMENTS))}."
        )


def _check_counts(asked: CutMethod | RunSpec) -> None:
    for field in fields(asked):
        least, value = _LEAST.get(field.name), getattr(asked, field.name)
        if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            name = field.name.replace("_", " ")
            raise SpecError(f"{name} {value!r} is not possible; give a whole number from {least} up.")


@dataclass(frozen=True, kw_only=True)
class CutMethod:
    """How channels are chosen and what is done for the accuracy before any training; see `RunSpec`."""

    criterion: CriterionName = "obs"
    allocation: AllocationName = "budget"
    recovery: RecoveryName = "least_squares"
    calibration_images: int = DEFAULT_CALIBRATION_IMAGES
    align: int = DEFAULT_ALIGN
    seed: int = DEFAULT_SEED

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_counts(self)
        _check_steps(self)


# What can be done where no training images are at hand.
WITHOUT_IMAGES = CutMethod(criterion="l2", allocation="uniform", recovery="none", calibration_images=0)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: which model, on which data, cut how far, trained how.

    Attributes:
        model: what the user typed: catalog name, .yaml, or the path of a .pt.
        weights_sha256: hash of the weights; None for a .yaml, which starts from random weights.
        data: name of the data set, as results are grouped by it.
        data_fingerprint: hash of its labels and images, see `compression.data.dataset`.
        level: 0 (the original) to 5; None for a custom target.
        target: the costs to keep; what the level stands for, or the custom one.
        criterion: how channels are ranked.
        allocation: how the cut is shared out among the layers.
        recovery: what brings accuracy back before training.
        calibration_images: at most so many training images are looked at by criterion and recovery.
        steps: the target is reached in so many rounds of cutting and fine-tuning.
        align: channels are removed in steps of up to so many.
        classes: indices, in the data set, of the only classes that the model keeps; none stands for all.
        recipe: how the pruned model is fine-tuned.
        epochs: at most so many epochs of fine-tuning; 0 measures without training.
        patience: epochs without a better validation result after which fine-tuning ends.
        imgsz: side of the square input, pixels.
        batch: images a step.
        seed: of the fine-tuning and, for a .yaml, of the initial weights.
        head: the predictions that are measured: end-to-end, or one-to-many followed by NMS; a classifier has no choice.
        task: what the model predicts, which decides what its accuracies are.
        device: Ultralytics' device string ("cpu", "0", "0,1", "" to choose); not part of the key.
        data_source: what the user typed for the data set; not part of the key.
    """

    model: str
    weights_sha256: str | None
    data: str
    data_fingerprint: str
    level: int | None
    target: Target
    head: HeadName
    criterion: CriterionName = CutMethod.criterion
    allocation: AllocationName = CutMethod.allocation
    recovery: RecoveryName = CutMethod.recovery
    calibration_images: int = DEFAULT_CALIBRATION_IMAGES
    steps: int = 1
    align: int = DEFAULT_ALIGN
    classes: tuple[int, ...] = ()
    recipe: RecipeName = DEFAULT_RECIPE
    epochs: int = DEFAULT_EPOCHS
    patience: int = DEFAULT_PATIENCE
    imgsz: int = DEFAULT_IMGSZ
    batch: int = DEFAULT_BATCH
    seed: int = DEFAULT_SEED
    task: TaskName = "detect"
    device: str = ""
    data_source: str = ""

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_counts(self)
        _check_steps(self)
        if self.steps > 1 and self.target.latency is not None:
            raise SpecError(f"A latency is reached in one step; leave --steps {self.steps} out.")
        if self.steps > 1 and self.target.layers:
            raise SpecError(f"Layers are cut as wished in one step; leave --steps {self.steps} out.")

    @property
    def method(self) -> CutMethod:
        """How the model is cut."""
        return CutMethod(**{field.name: getattr(self, field.name) for field in fields(CutMethod)})

    def without_places(self) -> RunSpec:
        """The same question without paths of this machine, to be handed on."""
        return replace(self, model=model_label(self.model), data_source=self.data)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain data, versioned."""
        return {"version": SPEC_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunSpec:
        """The inverse of `to_dict`.

        Raises:
            SpecError: the data are of another version, or a field is unknown, missing or out of range.
        """
        known = {**_ADDED_FIELDS, **values}
        version = known.pop("version", None)
        if version != SPEC_VERSION:
            raise SpecError(
                f"This run was specified as version {version!r}; only version {SPEC_VERSION} is understood."
            )
        try:
            return cls(**{**known, "target": Target.from_dict(known["target"]), "classes": tuple(known["classes"])})
        except SpecError:
            raise
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise SpecError(f"A stored run specification cannot be read: {error}.") from error

    @property
    def key(self) -> str:
        """Sha256 of everything that decides the result; equal for equal questions on any device."""
        decisive = self.to_dict()
        for place in ("device", "data", "data_source"):
            del decisive[place]
        for field, before in _ADDED_FIELDS.items():
            if decisive[field] == before:
                del decisive[field]
        for field in ("latency", "layers"):
            if not decisive["target"][field]:
                del decisive["target"][field]
        # Two paths to the same weights are the same model.
        decisive["model"] = None if self.weights_sha256 else model_label(self.model)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def default_imgsz_of(task: TaskName) -> int:
    """The image size where nobody asks for another and the model notes none: Ultralytics' own of a task."""
    return DEFAULT_CLASSIFIER_IMGSZ if task == "classify" else DEFAULT_IMGSZ


def parse_recipe(name: str) -> RecipeName:
    """Check a recipe's name.

    Raises:
        SpecError: there is no such recipe.
    """
    if name not in get_args(RecipeName):
        raise SpecError(f"There is no recipe {name!r}; choose one of {', '.join(get_args(RecipeName))}.")
    return cast(RecipeName, name)
