"""Inputs that cannot be used, each with the command that meets it and what the sentence must say."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import nn
from ultralytics.nn.tasks import (
    DetectionModel,
    RTDETRDetectionModel,
    SemanticSegmentationModel,
    WorldModel,
    YOLOEModel,
)

from tests.compression.small_models import CONV, DETECT, build

# In commands: the folder that holds what was made. Planted code makes a folder of this name there.
HERE = "{here}"
MARKER = "marker"

Maker = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """One input that cannot be used.

    Attributes:
        name: what it is.
        command: arguments of `trimboard`; HERE stands for the folder.
        says: part of the sentence, which names the offending value; HERE as above.
        remedy: another part of it.
        make: puts the files there.
    """

    name: str
    command: tuple[str, ...]
    says: str
    remedy: str
    make: Maker = lambda here: None


# Models


@cache
def small_checkpoint() -> bytes:
    """A checkpoint of three classes that can be pruned."""
    model = build(nc=3)
    model.args = {}
    buffer = io.BytesIO()
    torch.save({"model": model.half(), "train_args": {}}, buffer)
    return buffer.getvalue()


def torch_file(content: Callable[[Path], Any], **arguments: Any) -> Maker:
    """A model.pt that torch saves."""
    return lambda here: torch.save(content(here), here / "model.pt", **arguments)


def bytes_file(content: bytes | Callable[[], bytes], name: str = "model.pt") -> Maker:
    """A file of that content."""
    return lambda here: void((here / name).write_bytes(content if isinstance(content, bytes) else content()))


def void(_value: Any) -> None:
    """Forget a value."""


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, here: Path) -> None:
        self.marker = here / MARKER

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def code_that_marks(here: Path) -> str:
    """Python that makes the folder when it is evaluated."""
    return f"__import__('os').mkdir({str(here / MARKER)!r}) or nn.SiLU()"


def with_attribute(name: str, value: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A checkpoint whose model has another attribute."""

    def content(here: Path) -> Any:
        model = build(nc=3)
        setattr(model, name, value(here))
        return {"model": model}

    return content


def with_yaml(**changes: Any) -> Callable[[Path], Any]:
    """A checkpoint whose model's yaml is another; functions are called with the folder."""

    def content(here: Path) -> Any:
        model = build(nc=3)
        model.yaml |= {key: value(here) if callable(value) else value for key, value in changes.items()}
        return {"model": model}

    return content


def torchscript(here: Path) -> None:
    """A traced module."""
    torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8)).save(str(here / "model.pt"))


def zip_bomb(here: Path) -> None:
    """A checkpoint with a record that unpacks to 64 MiB."""
    (here / "small.pt").write_bytes(small_checkpoint())
    with zipfile.ZipFile(here / "small.pt") as whole, zipfile.ZipFile(here / "model.pt", "w") as bomb:
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry))
        bomb.writestr("archive/data/9999", b"\0" * (64 << 20), zipfile.ZIP_DEFLATED)
    (here / "small.pt").unlink()


def claims_too_much(here: Path) -> Any:
    """A checkpoint with a kernel of more numbers than are stored."""
    model = build(nc=3)
    model.model[1].conv.weight = nn.Parameter(torch.zeros(1).expand(64, 64, 30_000, 30_000), requires_grad=False)
    return {"model": model}


def diverged(here: Path) -> Any:
    """A checkpoint of a training whose weights overflowed."""
    model = build(nc=3)
    nn.init.constant_(model.model[1].conv.weight, float("nan"))
    return {"model": model}


def infinite_statistics(here: Path) -> Any:
    """The same of a BatchNorm's statistics alone."""
    model = build(nc=3)
    model.model[1].bn.running_var[3] = float("inf")
    return {"model": model}


def foreign_class(here: Path) -> None:
    """A checkpoint whose class is of a package that is not there, as YOLO-NAS'."""
    module = types.ModuleType("super_gradients")
    module.YoloNAS = type("YoloNAS", (nn.Module,), {"__module__": "super_gradients"})  # type: ignore[attr-defined]
    sys.modules["super_gradients"] = module
    try:
        torch.save({"net": module.YoloNAS(), "model": module.YoloNAS()}, here / "model.pt")
    finally:
        del sys.modules["super_gradients"]


def part_of_checkpoint(part: float) -> Maker:
    """A checkpoint that ends too early."""
    return bytes_file(lambda: small_checkpoint()[: int(part * len(small_checkpoint()))])


@cache
def of_task(task: type[DetectionModel], config: str) -> Any:
    """A model of another task or family, as Ultralytics builds it."""
    model = task(config, verbose=False)
    return {"model": model}


LOADED_MODEL = ("plan", f"{HERE}/model.pt", "--level", "1")
SAVED_AGAIN = "save it again with Ultralytics' YOLO(...).save()"
NO_CHECKPOINT = "cannot be loaded: it is damaged, no Ultralytics checkpoint, or holds code or classes"
OTHER_TASK = "only YOLO that detect, segment, classify, or find poses or rotated boxes can be pruned"


def bad_models() -> Iterator[BadInput]:
    """Files in place of a checkpoint."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5400\n"
    makers: dict[str, tuple[Maker, str, str]] = {
        "empty file": (bytes_file(b""), "is empty", "download it again"),
        "one newline": (bytes_file(b"\n"), NO_CHECKPOINT, SAVED_AGAIN),
        "text": (bytes_file(b"hello there\n" * 30), NO_CHECKPOINT, SAVED_AGAIN),
        "web page": (bytes_file(b"<!DOCTYPE html><html>404</html>"), NO_CHECKPOINT, SAVED_AGAIN),
        "picture": (bytes_file(b"\x89PNG\r\n" + bytes(range(256)) * 8), NO_CHECKPOINT, SAVED_AGAIN),
        "pickle of nothing": (bytes_file(b"\x80\x02N."), NO_CHECKPOINT, SAVED_AGAIN),
        "LFS pointer": (bytes_file(pointer), "is a pointer of Git LFS", "git lfs pull"),
        "ONNX": (
            bytes_file(b"\x08\x08\x12\x07pytorch\x1a\x05" + b"\0" * 99),
            "is an ONNX model",
            "the .pt that it was",
        ),
        "TorchScript": (torchscript, "is a TorchScript export", "the .pt that it was exported from"),
        "first bytes only": (part_of_checkpoint(0.001), NO_CHECKPOINT, SAVED_AGAIN),
        "half a file": (part_of_checkpoint(0.5), NO_CHECKPOINT, SAVED_AGAIN),
        "end is missing": (part_of_checkpoint(0.999), NO_CHECKPOINT, SAVED_AGAIN),
        "zip of something else": (
            lambda here: zipfile.ZipFile(here / "model.pt", "w").writestr("readme.txt", "no model"),
            NO_CHECKPOINT,
            SAVED_AGAIN,
        ),
        "zip bomb": (zip_bomb, "would unpack to", SAVED_AGAIN),
        "tensor that claims too much": (torch_file(claims_too_much), "holds a damaged tensor", SAVED_AGAIN),
        "weights that are NaN": (
            torch_file(diverged),
            "holds NaN or infinite numbers (first in 'model.1.conv.weight')",
            "take an earlier checkpoint",
        ),
        "infinite statistics": (
            torch_file(infinite_statistics),
            "holds NaN or infinite numbers (first in 'model.1.bn.running_var')",
            "take an earlier checkpoint",
        ),
        "state dict": (torch_file(lambda here: build().state_dict()), "holds no model", SAVED_AGAIN),
        "state dict in a checkpoint": (
            torch_file(lambda here: {"model": build().state_dict()}),
            "holds no model",
            SAVED_AGAIN,
        ),
        "checkpoint of nothing": (torch_file(lambda here: {"model": None}), "holds no model", SAVED_AGAIN),
        "list": (torch_file(lambda here: [1, 2]), NO_CHECKPOINT, SAVED_AGAIN),
        "tensor": (torch_file(lambda here: torch.zeros(3)), NO_CHECKPOINT, SAVED_AGAIN),
        "other module": (
            torch_file(lambda here: {"model": nn.Linear(2, 2)}),
            "holds a model of class Linear",
            OTHER_TASK,
        ),
        "YOLO-NAS": (foreign_class, "holds super_gradients.YoloNAS, which", "name its module in TRIMBOARD_BLOCKS"),
        "raw pickle of another protocol": (bytes_file(pickle.dumps({"model": 1}, 4)), NO_CHECKPOINT, SAVED_AGAIN),
        "semantic segmentation": (
            torch_file(lambda here: of_task(SemanticSegmentationModel, "yolo26n-sem.yaml")),
            "holds a model of class SemanticSegmentationModel",
            OTHER_TASK,
        ),
        "YOLO-World": (
            torch_file(lambda here: of_task(WorldModel, "yolov8n-world.yaml")),
            "holds a model of class WorldModel",
            OTHER_TASK,
        ),
        "YOLOE": (
            torch_file(lambda here: of_task(YOLOEModel, "yoloe-11n.yaml")),
            "holds a model of class YOLOEModel",
            OTHER_TASK,
        ),
    }
    for name, (make, says, remedy) in makers.items():
        yield BadInput(name=name, command=LOADED_MODEL, says=f"'{HERE}/model.pt' {says}", remedy=remedy, make=make)


def rtdetr() -> Any:
    """RT-DETR as a checkpoint, narrow so that it is quick to build."""
    rows = [[-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[[0, 1, 2], 1, "RTDETRDecoder", ["nc"]]]
    return {"model": RTDETRDetectionModel({"nc": 3, "backbone": rows, "head": head}, verbose=False)}


def code_in_models() -> Iterator[BadInput]:
    """Checkpoints that would run code."""
    places: dict[str, Callable[[Path], Any]] = {
        "alone": Planted,
        "as the model": lambda here: {"model": Planted(here)},
        "as the average": lambda here: {"model": build(), "ema": Planted(here)},
        "in the arguments": lambda here: {"model": build(), "train_args": {"a": Planted(here)}},
        "as the names": with_attribute("names", Planted),
        "beside the model": lambda here: {"model": build(), "trimboard": Planted(here)},
    }
    for form, arguments in {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}.items():
        for place, content in places.items():
            yield BadInput(
                name=f"code {place}, {form}",
                command=LOADED_MODEL,
                says=f"'{HERE}/model.pt' {NO_CHECKPOINT}",
                remedy=SAVED_AGAIN,
                make=torch_file(content, **arguments),
            )
    yield BadInput(
        name="code as a plain pickle",
        command=LOADED_MODEL,
        says=f"'{HERE}/model.pt' {NO_CHECKPOINT}",
        remedy=SAVED_AGAIN,
        make=lambda here: void((here / "model.pt").write_bytes(pickle.dumps(Planted(here)))),
    )
    yield BadInput(
        name="code in the activation of a checkpoint",
        command=LOADED_MODEL,
        says="gives its activation as",
        remedy="write it like 'nn.LeakyReLU(0.1)'",
        make=torch_file(with_yaml(activation=code_that_marks)),
    )
    yield BadInput(
        name="function as a block of a checkpoint",
        command=LOADED_MODEL,
        says="names a block 'torch_safe_load'",
        remedy="use layers of Ultralytics and torch.nn",
        make=torch_file(with_yaml(head=[[-1, 1, "torch_safe_load", ["x.pt"]]])),
    )
    yield BadInput(
        name="RT-DETR",
        command=LOADED_MODEL,
        says="holds a model of class RTDETRDetectionModel",
        remedy=OTHER_TASK,
        make=torch_file(lambda here: rtdetr()),
    )


def architecture(**changes: Any) -> Maker:
    """A model.yaml; a key whose value is None is left out, functions are called with the folder."""

    def make(here: Path) -> None:
        content: dict[str, Any] = {"nc": 1, "backbone": [CONV, CONV], "head": [DETECT]}
        content |= {key: value(here) if callable(value) else value for key, value in changes.items()}
        text = yaml.safe_dump({key: value for key, value in content.items() if value is not None})
        (here / "model.yaml").write_text(text)

    return make


def bad_architectures() -> Iterator[BadInput]:
    """Files in place of an architecture."""
    blocks, keys = "check its blocks and scales", "its yaml needs 'backbone' and 'head'"
    for name, make, says, remedy in (
        ("empty yaml", bytes_file(b"", "model.yaml"), "does not describe a model", keys),
        ("yaml of a list", bytes_file(b"- 1\n- 2\n", "model.yaml"), "cannot be built as a detector", blocks),
        ("broken yaml", bytes_file(b"nc: [1\n", "model.yaml"), "cannot be built as a detector", blocks),
        ("binary yaml", bytes_file(b"\xff\xfe\x00\x01", "model.yaml"), "model.yaml", ""),
        ("yaml without a head", architecture(head=None), "does not describe a model", keys),
        ("yaml without classes", architecture(nc=0), "0", ""),
        ("rows of the wrong form", architecture(backbone=[[-1, 1, "Conv"]]), "does not describe a model", keys),
        ("block that reads a later one", architecture(backbone=[[7, 1, "Conv", [8, 1, 1]]]), "cannot be built", blocks),
        ("unknown block", architecture(backbone=[[-1, 1, "Sparkle", [8]]]), "names a block 'Sparkle'", "use layers of"),
        (
            "function as a block",
            architecture(backbone=[[-1, 1, "torch_safe_load", ["x.pt"]]]),
            "names a block 'torch_safe_load'",
            "use layers of",
        ),
        (
            "code in the activation",
            architecture(activation=code_that_marks),
            "gives its activation as",
            "write it like",
        ),
        (
            "head of another task",
            architecture(head=[[[-1], 1, "Depth", [16]]]),
            "ends in Depth",
            OTHER_TASK,
        ),
        ("no head", architecture(head=[[-1, 1, "Conv", [8, 1, 1]]]), "ends in Conv", OTHER_TASK),
    ):
        yield BadInput(
            name=name, command=("plan", f"{HERE}/model.yaml", "--level", "1"), says=says, remedy=remedy, make=make
        )


def places_without_a_model() -> Iterator[BadInput]:
    """Names and paths that lead to no model."""
    listed, path = "`trimboard models` lists", "give the path of a .pt or .yaml"
    for model, says, remedy in (
        ("nothing.pt", "There is no model 'nothing.pt'", path),
        ("nothing.yaml", "There is no architecture 'nothing.yaml'", listed),
        ("", "There is no model ''", path),
        ("yolo99n.pt", "There is no model 'yolo99n.pt'", path),
        ("rtdetr-l.yaml", "There is no architecture 'rtdetr-l.yaml'", listed),
        ("yolov8s-world.pt", "There is no model 'yolov8s-world.pt'", path),
        ("yolov6n.pt", "Ultralytics offers no weights 'yolov6n.pt'", "yolov6n.yaml"),
        ("https://example.org/model.pt", "There is no model 'https://example.org/model.pt'", path),
        ("x" * 300, "There is no model", path),
    ):
        yield BadInput(name=f"model {model[:30]!r}", command=("plan", model, "--level", "1"), says=says, remedy=remedy)
    yield BadInput(
        name="folder as a model",
        command=("plan", f"{HERE}/model.pt", "--level", "1"),
        says=f"There is no model '{HERE}/model.pt'",
        remedy=path,
        make=lambda here: (here / "model.pt").mkdir(),
    )
    yield BadInput(
        name="pipe as a model",
        command=("plan", f"{HERE}/model.pt", "--level", "1"),
        says=f"There is no model '{HERE}/model.pt'",
        remedy=path,
        make=lambda here: os.mkfifo(here / "model.pt"),
    )
    for suffix in (".onnx", ".txt", ""):
        yield BadInput(
            name=f"model of the suffix {suffix!r}",
            command=("plan", f"{HERE}/model{suffix}", "--level", "1"),
            says=f"'{HERE}/model{suffix}' is no .pt file",
            remedy="give a checkpoint that Ultralytics saved",
            make=bytes_file(small_checkpoint, f"model{suffix}"),
        )


# Data sets


def dataset(change: Maker = lambda here: None, **keys: Any) -> Maker:
    """A data.yaml of two classes with a training and a validation image, changed; None leaves a key out."""

    def make(here: Path) -> None:
        for split in ("train", "val"):
            for kind in ("images", "labels"):
                (here / kind / split).mkdir(parents=True)
            Image.new("RGB", (64, 64), (90, 120, 30)).save(here / "images" / split / "a.jpg")
            (here / "labels" / split / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n")
        content = {"train": "images/train", "val": "images/val", "names": ["a", "b"]} | keys
        text = yaml.safe_dump({key: value for key, value in content.items() if value is not None})
        (here / "data.yaml").write_text(text)
        change(here)

    return make


def real_numbers(here: Path) -> None:
    """Another training image, whose pixels are 32-bit real numbers, which Pillow opens and OpenCV does not."""
    Image.new("F", (64, 64), 0.5).save(here / "images" / "train" / "b.tiff")


def pipe(name: str) -> Maker:
    """A named pipe that nobody writes to, in place of what is there."""

    def make(here: Path) -> None:
        (here / name).unlink(missing_ok=True)
        os.mkfifo(here / name)

    return make


def alias_bomb(end: str) -> Maker:
    """A data.yaml of a few hundred bytes that stands for hundreds of millions of names."""
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]" for n in range(9)]
    text = "\n".join(("train: images/train", "val: images/val", *levels, end))
    return lambda here: void((here / "data.yaml").write_text(text))


def label(text: str | bytes) -> Maker:
    """A data set with that label of its training image."""
    content = text if isinstance(text, bytes) else text.encode()
    return dataset(lambda here: void((here / "labels" / "train" / "a.txt").write_bytes(content)))


def image(content: bytes) -> Maker:
    """A data set with that training image."""
    return dataset(lambda here: void((here / "images" / "train" / "a.jpg").write_bytes(content)))


def without_images(here: Path) -> None:
    """Take the training image away."""
    (here / "images" / "train" / "a.jpg").unlink()


def without_labels(here: Path) -> None:
    """Take the training labels away."""
    shutil.rmtree(here / "labels" / "train")


def planted_download(here: Path) -> None:
    """A data set whose images are missing, and whose file would run code to fetch them."""
    dataset(download=f"__import__('os').mkdir({str(here / MARKER)!r})")(here)
    shutil.rmtree(here / "images" / "val")


def jpeg_start() -> bytes:
    """An image that ends too early."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()[:700]


def bad_datasets() -> Iterator[BadInput]:
    """Files in place of a data set, or with faults."""
    file, first = f"{HERE}/data.yaml", f"{HERE}/labels/train/a.txt, line 1"
    keys = "give a data.yaml with train, val and names"
    values = "class, x_center, y_center, width, height"
    for name, make, says, remedy in (
        ("data.yaml of a list", bytes_file(b"- train\n- val\n", "data.yaml"), f"{file} holds no keys", keys),
        ("empty data.yaml", bytes_file(b"", "data.yaml"), f"{file} holds no keys", keys),
        ("broken data.yaml", bytes_file(b"train: [a\n", "data.yaml"), f"{file} is not YAML", keys),
        ("binary data.yaml", bytes_file(b"\xff\xfe\x00\x01", "data.yaml"), f"{file} is not YAML", keys),
        ("names that multiply", alias_bomb("names: [*a8, b]"), f"{file} refers to parts of itself", "write out"),
        ("path that multiplies", alias_bomb("names: [b]\npath: *a8"), f"{file} refers to parts of itself", "write out"),
        ("no train", dataset(train=None), f"{file} has no `train`", "name the folder of its train images"),
        ("no val", dataset(val=None), f"{file} has no `val`", "name the folder of its val images"),
        ("no names", dataset(names=None), f"{file} names no classes", "list them under `names`"),
        ("0 classes", dataset(names=[]), f"{file} names no classes", "list them under `names`"),
        ("names in one word", dataset(names="disc"), f"{file} names no classes", "list them under `names`"),
        ("names with a gap", dataset(names={0: "a", 2: "b"}), "not 0, 2", "indices must be 0 to 1"),
        ("names by letters", dataset(names={"a": "b"}), f"{file}: the keys of `names`", "must be class indices"),
        ("nc of another number", dataset(nc=9), "`nc` is 9", "remove `nc` or correct it"),
        ("train is a number", dataset(train=5), "`train` is 5", "must be a path or a list of paths"),
        ("grey images", dataset(channels=1), "`channels` is 1", "only images of 3 channels are supported"),
        (
            "missing folder",
            dataset(lambda here: shutil.rmtree(here / "images" / "train")),
            f"there is no {HERE}/images/train",
            "correct `path` or `train`",
        ),
        ("folder without images", dataset(without_images), "there are no train images", "correct `train`"),
        ("no labels", dataset(without_labels), "None of the 1 train images", "is looked for at"),
        ("code to download", planted_download, "the val images are missing", "download the images first"),
        ("box left of the image", label("1 -0.5 0.5 0.2 0.2"), f"{first}: -0.5 lies outside", "give boxes as parts"),
        ("box in pixels", label("1 160 120 40 40"), f"{first}: 160 lies outside", "give boxes as parts"),
        ("NaN in a box", label("1 0.5 0.5 nan 0.2"), f"{first}: nan lies outside", "give boxes as parts"),
        ("class that is not named", label("7 0.5 0.5 0.2 0.2"), f"{first}: class index 7", "use 0 to 1"),
        ("negative class", label("-1 0.5 0.5 0.2 0.2"), f"{first}: class index -1", "use 0 to 1"),
        ("NaN as a class", label("nan 0.5 0.5 0.2 0.2"), f"{first}: class index nan", "use 0 to 1"),
        ("four values", label("1 0.5 0.5 0.2"), f"{first}: 4 values", values),
        ("word in a label", label("disc 0.5 0.5 0.2 0.2"), f"{first}: 'disc' is not a number", values),
        ("binary label", label(b"\x00\xff\xfe\x80"), f"{HERE}/labels/train/a.txt", ""),
        ("image that is text", image(b"no image"), f"{HERE}/images/train/a.jpg cannot be read", "replace or remove it"),
        ("empty image", image(b""), f"{HERE}/images/train/a.jpg cannot be read", "replace or remove it"),
        (
            "pipe as an image",
            dataset(pipe("images/train/b.png")),
            f"{HERE}/images/train/b.png cannot be read",
            "replace",
        ),
        (
            "pipe as a label",
            dataset(pipe("labels/train/a.txt")),
            f"{HERE}/labels/train/a.txt cannot be used",
            "remove it",
        ),
        (
            "pipe as a data.yaml",
            pipe("data.yaml"),
            f"There is no data set '{HERE}/data.yaml'",
            "the path of a data.yaml",
        ),
        (
            "image of real numbers",
            dataset(real_numbers),
            f"{HERE}/images/train/b.tiff cannot be read",
            "save it with 8 bits",
        ),
        ("half an image", image(jpeg_start()), f"{HERE}/images/train/a.jpg cannot be read", "replace or remove it"),
    ):
        command = ("run", "yolo26n.yaml", "--data", f"{HERE}/data.yaml", "--level", "1", "--device", "cpu")
        yield BadInput(name=name, command=command, says=says, remedy=remedy, make=make)
    listed = "a name that `trimboard datasets` lists"
    for data in ("nowhere", "", "https://example.org/data.yaml"):
        yield BadInput(
            name=f"data set {data!r}",
            command=("run", "yolo26n.yaml", "--data", data, "--level", "1"),
            says=f"There is no data set {data!r}",
            remedy=listed,
        )
    yield BadInput(
        name="empty folder as a data set",
        command=("run", "yolo26n.yaml", "--data", f"{HERE}/empty", "--level", "1"),
        says=f"The folder {HERE}/empty holds no .yaml file",
        remedy="give the path of the one",
        make=lambda here: (here / "empty").mkdir(),
    )
    yield BadInput(
        name="more classes than the model",
        command=("evaluate", f"{HERE}/model.pt", "--data", f"{HERE}/data.yaml", "--imgsz", "64", "--device", "cpu"),
        says="'model.pt' predicts 3 classes and",
        remedy="evaluate it on the data it was trained for",
        make=both(bytes_file(small_checkpoint), dataset()),
    )
    yield BadInput(
        name="data set that nobody has, for a plan",
        command=("plan", "yolo26n.yaml", "--level", "1", "--data", "nowhere"),
        says="There is no data set 'nowhere'",
        remedy=listed,
    )
    yield BadInput(
        name="model of grey images",
        command=("run", f"{HERE}/model.yaml", "--data", f"{HERE}/data.yaml", "--level", "1"),
        says="'model' takes images of 1 channels and",
        remedy="`trimboard plan` and `prune` can cut it",
        make=both(architecture(channels=1), dataset()),
    )
    yield BadInput(
        name="classes that nobody has",
        command=("run", "yolo26n.yaml", "--data", f"{HERE}/data.yaml", "--level", "1", "--classes", "unicorn"),
        says="There is no class 'unicorn'",
        remedy="names or indices of the 2 classes",
        make=dataset(),
    )


def both(*makers: Maker) -> Maker:
    """Several makers, one after the other."""

    def make(here: Path) -> None:
        for each in makers:
            each(here)

    return make


# Numbers


def bad_numbers() -> Iterator[BadInput]:
    """Levels, targets and options that make no sense."""
    levels = "choose 1 to 5, or 0 for the original"
    for level in ("6", "-1", "2.5", "five", "nan", "1e9", " ", "99999999999999999999"):
        shown = level if level.lstrip("-").isdigit() else repr(level)
        yield BadInput(
            name=f"level {level!r}",
            command=("plan", "yolo26n.yaml", f"--level={level}"),
            says=f"Level {shown} does not exist",
            remedy=levels,
        )
    either, part = (
        "Give either --level, or what to keep: --keep-gflops or --keep-latency, --keep-params",
        "give a part from 0.2 to 1",
    )
    gflops, params = ("plan", "yolo26n.yaml", "--keep-gflops"), ("plan", "yolo26n.yaml", "--keep-params")
    small, plan = ("--imgsz", "64"), ("plan", "yolo26n.yaml", "--imgsz", "64", "--level", "1")
    stride = "is no multiple of this model's stride 32"
    for name, command, says, remedy in (
        ("no target", ("plan", "yolo26n.yaml"), either, ""),
        ("level and target", ("plan", "yolo26n.yaml", "--level", "1", "--keep-gflops", "0.5"), either, ""),
        ("too little to keep", (*gflops, "0.1"), "Keeping 0.1 of the GFLOPs is not possible", part),
        ("more than all to keep", (*gflops, "1.5"), "Keeping 1.5 of the GFLOPs is not possible", part),
        ("less than nothing to keep", (*params, "-1"), "Keeping -1 of the parameters is not possible", part),
        ("NaN to keep", (*params, "nan"), "Keeping nan of the parameters is not possible", part),
        ("word to keep", (*params, "half"), "invalid float value: 'half'", "see trimboard plan --help"),
        (
            "targets that contradict each other",
            (*gflops, "0.25", "--keep-params", "1", *small),
            "Keeping 0.25 of the GFLOPs and 1 of the parameters contradict each other",
            "of the parameters at the nearest",
        ),
        (
            "target out of reach",
            ("plan", f"{HERE}/model.yaml", "--keep-params", "0.2", *small),
            "Keeping 0.2 of the parameters is out of reach",
            "ask for more than that",
        ),
        ("unknown layer", (*plan, "--lock", "model.4.cv9"), "no layer 'model.4.cv9'", "or model.4.cv1"),
        ("layer without an amount", (*plan, "--layer", "model.4.cv1"), "--layer 'model.4.cv1'", "as in"),
        ("layer that keeps too little", (*plan, "--layer", "model.4.cv1=1%"), "cannot keep 1%", "it keeps 8 to 64"),
        (
            "layer locked and cut",
            (*plan, "--lock", "model.0", "--layer", "model.0=0.5"),
            "model.0 is to keep",
            "ask for",
        ),
        (
            "coupled layers cut differently",
            (*plan, "--lock", "model.23.cv2.0.0", "--layer", "model.23.cv2.0.1=50%,model.23.cv2.0.0=50%"),
            "model.23.cv2.0.0 is to keep all channels and 50%",
            "ask for one of both",
        ),
        (
            "layer of a head that must stay",
            (*plan, "--layer", "model.23.cv2.0.2=0.5"),
            "model.23.cv2.0.2 keeps all of its channels",
            "leave it out",
        ),
        (
            "lock and nothing to cut",
            ("plan", "yolo26n.yaml", "--lock", "model.0"),
            "With model.0 locked and nothing else asked for",
            "give --layer",
        ),
        (
            "wish about the original",
            ("plan", "yolo26n.yaml", "--level", "0", "--layer", "model.0=0.5"),
            "Level 0 is the original",
            "leave out that model.0",
        ),
        (
            "layer cut too deep for the target",
            ("plan", "yolo26n.yaml", "--keep-params", "0.99", "--layer", "model.22.m.0.1.ffn.0=0.2,model.8.cv2=0.2"),
            "Keeping 0.99 of the parameters is out of reach",
            "ask for less than that",
        ),
        ("image size 0", ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "0"), "'0' is no size", "as in 640"),
        ("width of 0", ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "640,0"), "'640,0' is no size", "as in 640"),
        (
            "image size 16",
            ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "16"),
            f"Image size 16 {stride}",
            "use 32",
        ),
        (
            "image size -64",
            ("plan", "yolo26n.yaml", "--level", "1", "--imgsz=-64"),
            "'-64' is no size",
            "give pixels as in 640",
        ),
        (
            "image size 100",
            ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "100"),
            f"Image size 100 {stride}",
            "use 96",
        ),
        (
            "image size 96 x 100",
            ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "96,100"),
            f"Image size 96 x 100 {stride}",
            "use 96 x 96",
        ),
        (
            "image size of a run that is no square",
            ("run", "yolo26n.yaml", "--data", "shapes", "--level", "1", "--imgsz", "384,640"),
            "'384,640' is no square",
            "give 640 here",
        ),
        (
            "word as an image size",
            ("plan", "yolo26n.yaml", "--level", "1", "--imgsz", "big"),
            "'big' is no size",
            "give pixels as in 640",
        ),
        (
            "steps of 3",
            ("plan", "yolo26n.yaml", "--level", "1", "--align", "3"),
            "Steps of 3 channels",
            "choose one of 1, 4",
        ),
        (
            "steps of a word",
            ("plan", "yolo26n.yaml", "--level", "1", "--align", "x"),
            "--align 'x'",
            "give one of 1, 4",
        ),
        (
            "unknown criterion",
            ("plan", "yolo26n.yaml", "--level", "1", "--criterion", "magic"),
            "no criterion 'magic'",
            "choose one of",
        ),
        (
            "criterion without images",
            ("plan", "yolo26n.yaml", "--level", "1", "--criterion", "obs"),
            "looks at training images",
            "name a data set",
        ),
        (
            "recovery without images",
            ("prune", "yolo26n.yaml", "--level", "1", "--out", "a.pt", "--recovery", "least_squares"),
            "looks at training images",
            "name a data set",
        ),
        (
            "all levels in one run",
            ("run", "yolo26n.yaml", "--data", "shapes", "--level", "all"),
            "--level all is for `trimboard plan`",
            "`trimboard sweep --levels 1-5`",
        ),
        (
            "all levels in one cut",
            ("prune", "yolo26n.yaml", "--level", "all", "--out", "a.pt"),
            "--level all is for `trimboard plan`",
            "choose one of 1 to 5",
        ),
        ("unknown option", ("plan", "yolo26n.yaml", "--depth", "3"), "unrecognized arguments: --depth 3", "--help"),
        ("unknown command", ("shrink", "yolo26n.yaml"), "invalid choice: 'shrink'", "--help"),
        (
            "sweep of level 6",
            ("sweep", "yolo26n.yaml", "--data", "shapes", "--levels", "1-6"),
            "Level 6 does not exist",
            levels,
        ),
        (
            "sweep of level five",
            ("sweep", "yolo26n.yaml", "--data", "shapes", "--levels", "five"),
            "'five' in --levels",
            "as in 0,2 or 1-5",
        ),
        (
            "random weights to evaluate",
            ("evaluate", "yolo26n.yaml", "--data", "shapes"),
            "random weights",
            "give a .pt",
        ),
        (
            "results that nobody has",
            ("compare", "--model", "unheard-of"),
            "Nothing is known of unheard-of",
            "lists all",
        ),
    ):
        # Nearly all of its channels are in a block that is not known.
        make = architecture(backbone=[[-1, 1, "Conv", [16, 3, 2]], [-1, 2, "BottleneckCSP", [256]]])
        yield BadInput(name=name, command=command, says=says, remedy=remedy, make=make)


# Places to write to


def bad_places() -> Iterator[BadInput]:
    """Files that cannot be written."""
    prune = ("prune", "yolo26n.yaml", "--level", "1", "--imgsz", "64", "--out")
    for name, command, says, remedy in (
        (
            "folder that is not there",
            (*prune, "no/such/file.pt"),
            "'no/such/file.pt' cannot be written",
            "in a folder that exists",
        ),
        ("folder in place of a file", (*prune, HERE), f"'{HERE}' cannot be written", "give a file name"),
        (
            "model that is cut",
            ("prune", f"{HERE}/model.pt", "--level", "1", "--imgsz", "64", "--out", f"{HERE}/./model.pt"),
            "is the model that is to be cut",
            "give another file name",
        ),
        ("other suffix", (*prune, "cut.onnx"), "'cut.onnx' does not end in .pt", "Ultralytics loads no other"),
        (
            "table in a folder that is not there",
            ("compare", "--csv", "no/such.csv"),
            "no/such.csv cannot be written",
            "name another file",
        ),
    ):
        yield BadInput(name=name, command=command, says=says, remedy=remedy, make=bytes_file(small_checkpoint))


BAD_INPUTS = (
    *bad_models(),
    *code_in_models(),
    *bad_architectures(),
    *places_without_a_model(),
    *bad_datasets(),
    *bad_numbers(),
    *bad_places(),
)
