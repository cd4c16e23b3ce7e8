"""Data sets: by name, by the path of a data.yaml, or by the folder that holds one; checked before anything is trained.

Importing this module imports no torch, so that pages can ask for names and labels in a moment; `open_dataset` does.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from compression.catalog import TaskName
from compression.data import shapes
from compression.data.class_folders import check_class_folders, folder_names, is_class_folders
from compression.data.dataset_check import check_splits, missing_images
from compression.errors import DatasetError
from compression.home import home
from compression.models.tasks import TASKS

SHAPES = "shapes"
# What drawing it leaves on the disk.
SHAPES_SIZE = "29 MB"
UNKNOWN = "unknown"

# File names that say nothing, so that the folder gives the data set its name.
_PLAIN_NAMES = ("data", "dataset")
_YAML_SUFFIXES = (".yaml", ".yml")
# Characters that aliases may add; a data.yaml of thousands of classes has a tenth of it.
MAX_GROWTH = 1_000_000
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set that was found whole and well formed.

    Attributes:
        name: label that results are grouped by.
        yaml_file: its data.yaml, as Ultralytics wants it; of a classifier's data set the folder.
        names: class names by index, from 0 without a gap.
        fingerprint: sha256 of class names, labels and images (names and sizes), wherever the folder lies.
        n_train: training images.
        n_val: validation images.
        task: what its labels were checked for.
        kpt_shape: key points and values of each; None where it has none.
    """

    name: str
    yaml_file: Path
    names: dict[int, str]
    fingerprint: str
    n_train: int
    n_val: int
    task: TaskName = "detect"
    kpt_shape: tuple[int, int] | None = None

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class KnownDataset:
    """A data set that can be asked for by name.

    Attributes:
        name: what to type.
        source: where its images come from.
        size: of the download or on the disk, with its unit, or "unknown".
        n_classes: number of classes.
        n_train: training images; None where its file does not say.
        n_val: validation images; None where its file does not say.
        task: what its labels are made for.
    """

    name: str
    source: str
    size: str
    n_classes: int
    n_train: int | None
    n_val: int | None
    task: TaskName = "detect"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Which file a name or path stands for, and who wrote it."""

    name: str
    yaml_file: Path
    origin: Literal["shapes", "catalog", "user", "folders"]


def known_datasets() -> list[KnownDataset]:
    """The built-in data set, then the data sets with labels that the installed Ultralytics can download."""
    drawn = KnownDataset(
        name=SHAPES,
        source="drawn on first use",
        size=SHAPES_SIZE,
        n_classes=len(shapes.CLASSES),
        n_train=shapes.SPLITS["train"],
        n_val=shapes.SPLITS["val"],
    )
    return [drawn, *(_described(name, file) for name, file in _catalog().items())]


def data_label(data: str) -> str:
    """The label that results on a data set are grouped by.

    Raises:
        DatasetError: there is no such data set.
    """
    return _locate(data).name


def is_known_by_name(data: str) -> bool:
    """Whether a data set needs no path on any machine: the built-in one, and those that Ultralytics can download."""
    return data == SHAPES or data.removesuffix(".yaml").removesuffix(".yml") in _catalog()


def class_names(data: str) -> dict[int, str]:
    """Class names by index, with no download and no drawing.

    Raises:
        DatasetError: there is no such data set, or its file does not name its classes.
    """
    source = _locate(data)
    if source.origin == "shapes":
        return dict(enumerate(shapes.CLASSES))
    if source.origin == "folders":
        return folder_names(source.yaml_file)
    return _names(source.yaml_file, _read(source.yaml_file))


def kpt_shape_in(data: str) -> tuple[int, int] | None:
    """Key points of a data set's labels, with no download and no drawing; None where its file names none that can be.

    Raises:
        DatasetError: there is no such data set.
    """
    source = _locate(data)
    if source.origin in ("shapes", "folders"):
        return None
    shape: Any = _read(source.yaml_file).get("kpt_shape")
    return (shape[0], shape[1]) if _is_possible(shape) else None


def natural_task(data: str) -> TaskName:
    """The task that a data set is for where nobody names a model: boxes can be read from every label file.

    Raises:
        DatasetError: there is no such data set.
    """
    return "classify" if _locate(data).origin == "folders" else "detect"


def at_hand(name: str, source: str) -> str | None:
    """The data set of an earlier run as `open_dataset` takes it; None where it might have to be downloaded first.

    Args:
        name: label that the run's results are grouped by.
        source: what the user typed; "" where that is not known.
    """
    if source == SHAPES or (not source and name == SHAPES):
        return SHAPES
    return source if source and os.path.exists(os.path.expanduser(source)) else None


def open_dataset(data: str, task: TaskName = "detect") -> Dataset:
    """Find a data set, draw or download it if need be, and check every image and label.

    A download happens only for the names of Ultralytics' catalog: the `download` entry of anybody's own file, which may
    hold a program, is not followed. As Ultralytics does before training, a JPEG with a damaged end is saved anew.

    Args:
        data: "shapes", a name from `known_datasets`, a data.yaml, or a folder that holds one; for a classifier a folder
            with train/CLASS and val/CLASS.
        task: what the labels have to be for.

    Raises:
        DatasetError: it cannot be found, read or trained on, or is for another task; the sentence names the file and
            the remedy.
    """
    source = _locate(data)
    _check_task(source, task)
    if source.origin == "folders":
        return _of_folders(source)
    if source.origin == "shapes":
        shapes.draw_dataset(source.yaml_file.parent)
    names, content = read_yaml(source.yaml_file)
    if task == "pose":
        _check_pose(source.yaml_file, content)
    resolved = _resolve(source)
    splits = {split: _places(resolved[split]) for split in ("train", "val")}
    kpt_shape = tuple(content.get("kpt_shape") or (0, 0))
    checked = check_splits(source.yaml_file, splits, names, kpt_shape, task)
    return Dataset(
        name=source.name,
        yaml_file=source.yaml_file,
        names=names,
        fingerprint=shapes.fingerprint()
        if source.origin == "shapes"
        else _with_points(checked.fingerprint, content, task),
        n_train=checked.n_images["train"],
        n_val=checked.n_images["val"],
        task=task,
        kpt_shape=kpt_shape if all(kpt_shape) else None,
    )


def _with_points(fingerprint: str, content: dict[str, Any], task: TaskName) -> str:
    """The fingerprint, with what a pose model learns and is measured by besides; where nothing is set it stays."""
    said = [content.get(key) for key in ("flip_idx", "kpt_oks_sigmas")]
    if task != "pose" or not any(said):
        return fingerprint
    return hashlib.sha256(json.dumps([fingerprint, *said]).encode()).hexdigest()


def _check_task(source: _Source, task: TaskName) -> None:
    """Refuse what is known to be labelled for other tasks before its images are looked at."""
    if (task == "classify") != (source.origin == "folders"):
        has = "a folder of images for each class" if source.origin == "folders" else "labels for objects within images"
        needs = "a classifier (-cls)" if source.origin == "folders" else "a model that detects, segments or finds poses"
        raise DatasetError(
            f"{source.name!r} has {has}, and a {TASKS[task].noun} does not learn from that; take {needs}, "
            f"or data with {TASKS[task].labels}."
        )
    if source.origin == "shapes" and task != "detect":
        raise DatasetError(
            f"{SHAPES!r} is labelled with boxes, and a {TASKS[task].noun} needs {TASKS[task].labels}; "
            f"give the data.yaml of such a data set, or take a model that detects."
        )


def _of_folders(source: _Source) -> Dataset:
    checked = check_class_folders(source.yaml_file)
    return Dataset(
        name=source.name,
        yaml_file=source.yaml_file,
        names=folder_names(source.yaml_file),
        fingerprint=checked.fingerprint,
        n_train=checked.n_images["train"],
        n_val=checked.n_images["val"],
        task="classify",
    )


def read_yaml(file: Path) -> tuple[dict[int, str], dict[str, Any]]:
    """Class names by index, and all that a data.yaml says; its places are not looked at.

    Raises:
        DatasetError: it cannot be read, or its names, train, val or other keys are missing or of the wrong kind.
    """
    content = _read(file)
    names = _names(file, content)
    _check_keys(file, content)
    return names, content


def find_content(data: str) -> tuple[Path, dict[str, Any]]:
    """The data.yaml of a data set and what it says, with absolute places; nothing is downloaded or checked.

    Args:
        data: as for `open_dataset`; "shapes" is drawn if need be.

    Raises:
        DatasetError: there is no such data set, its file cannot be used, or its images are not on this machine.
    """
    source = _locate(data)
    if source.origin == "folders":
        raise DatasetError(
            f"{source.name!r} has a class for each whole image and nothing within images to compare; "
            f"give a data set with boxes."
        )
    if source.origin == "shapes":
        shapes.draw_dataset(source.yaml_file.parent)
    return source.yaml_file, _resolve(replace(source, origin="user"))


def _locate(data: str) -> _Source:
    # A folder of its own for each version, so that a new one is drawn beside what older results were measured on.
    built_in = home() / "datasets" / f"{SHAPES}-{shapes.VERSION}" / "data.yaml"
    path = Path(os.path.abspath(os.path.expanduser(data)))
    if data == SHAPES or path in (built_in, built_in.parent):
        return _Source(name=SHAPES, yaml_file=built_in, origin="shapes")
    catalog = _catalog()
    if data in catalog:
        return _Source(name=data, yaml_file=catalog[data], origin="catalog")
    if data and os.path.isdir(path):
        if is_class_folders(path) and not _yamls_in(path):
            return _Source(name=path.name, yaml_file=path, origin="folders")
        path = _yaml_in(path)
    if os.path.isfile(path):
        plain = path.stem in _PLAIN_NAMES and path.suffix in _YAML_SUFFIXES
        return _Source(name=(path.parent.name if plain else "") or path.stem, yaml_file=path, origin="user")
    name = data.removesuffix(".yaml").removesuffix(".yml")
    if name != data and name in catalog:
        return _Source(name=name, yaml_file=catalog[name], origin="catalog")
    raise DatasetError(
        f"There is no data set {data!r}; give {SHAPES!r}, the path of a data.yaml, "
        "or a name that `trimboard datasets` lists."
    )


def _yamls_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in _YAML_SUFFIXES and file.is_file())


def _yaml_in(folder: Path) -> Path:
    found = _yamls_in(folder)
    plain = [file for file in found if file.stem in _PLAIN_NAMES]
    if len(plain or found) != 1:
        raise DatasetError(
            f"The folder {folder} holds {len(found) or 'no'} .yaml file{'s' if len(found) > 1 else ''}; "
            "give the path of the one that names train, val and classes."
        )
    return (plain or found)[0]


@functools.cache
def _catalog() -> dict[str, Path]:
    """The data sets with labels that Ultralytics ships a file for, by name; found without importing it."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "cfg" / "datasets"
    files = sorted(folder.glob("*.yaml"), key=lambda file: file.name.lower())
    return {file.stem: file for file in files if _catalog_task(file.read_text(encoding="utf-8"))}


def _catalog_task(text: str) -> TaskName | None:
    """The task that a catalog file is documented under; None for others than those of labels on colour images."""
    said = re.search(r"docs\.ultralytics\.com/datasets/(\w+)/", text)
    name = said[1] if said else "detect" if "yolo train data=" in text else ""
    if re.search(r"^channels: (?!3\b)", text, re.MULTILINE):
        return None
    return next((task for task in TASKS if task == name and task != "classify"), None)


def _described(name: str, file: Path) -> KnownDataset:
    """What a catalog file says of itself, in its comments."""
    text = file.read_text(encoding="utf-8")
    size = re.search(r"downloads here \(([^)]+)\)", text)
    return KnownDataset(
        name=name,
        source="Ultralytics downloads it",
        size=size[1] if size else UNKNOWN,
        n_classes=len(_names(file, _read(file))),
        n_train=_n_images(text, "train"),
        n_val=_n_images(text, "val"),
        task=_catalog_task(text) or "detect",
    )


def _n_images(text: str, split: str) -> int | None:
    said = re.search(rf"^{split}:.*#.* (\d+) images", text, re.MULTILINE)
    return int(said[1]) if said else None


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        _check_growth(file, text)
        content = yaml.load(text, Loader=_YamlLoader)
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date or a number that is none
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise DatasetError(f"{file} is not YAML{line}; give a data.yaml with train, val and names.") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{file} holds no keys; give a data.yaml with train, val and names.")
    return content


def _check_growth(file: Path, text: str) -> None:
    """Refuse a file whose aliases stand for more than anybody writes by hand.

    Each alias within a part that has another name multiplies it: a few hundred bytes make billions.

    Raises:
        DatasetError: they do.
        yaml.YAMLError: it is no YAML.
    """
    # Of each named part the characters of its values with all that aliases in it stand for; of open ones the start.
    sizes: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []
    total = grown = 0
    for event in yaml.parse(text, Loader=_YamlLoader) if "*" in text else ():
        anchor, start = getattr(event, "anchor", None), total
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor, 1)
            grown += total - start
            if grown > MAX_GROWTH:
                raise DatasetError(
                    f"{file} refers to parts of itself by `*` until it says more than {MAX_GROWTH:,} characters more; "
                    f"write out what it says."
                )
        elif isinstance(event, yaml.ScalarEvent):
            total += 1 + len(event.value)
            sizes[anchor] = total - start
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((anchor, start))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = opened.pop()
            sizes[anchor] = total - start


def _names(file: Path, content: dict[str, Any]) -> dict[int, str]:
    names = content.get("names")
    if not names or not isinstance(names, list | dict):
        raise DatasetError(f"{file} names no classes; list them under `names`.")
    pairs = enumerate(names) if isinstance(names, list) else names.items()
    try:
        by_index = {int(index): str(name) for index, name in pairs}
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{file}: the keys of `names` must be class indices ({error}).") from error
    if sorted(by_index) != list(range(len(names))):
        raise DatasetError(
            f"{file}: `names` has {len(names)} classes, so their indices must be 0 to {len(names) - 1}, "
            f"not {', '.join(map(str, sorted(by_index)))}."
        )
    nc = content.get("nc", len(names))
    if str(nc) != str(len(names)):
        raise DatasetError(f"{file}: `nc` is {nc!r}, but `names` has {len(names)} classes; remove `nc` or correct it.")
    return dict(sorted(by_index.items()))


def _check_keys(file: Path, content: dict[str, Any]) -> None:
    # Ultralytics takes "validation" for "val".
    for key, value in (("train", content.get("train")), ("val", content.get("val") or content.get("validation"))):
        if not value:
            raise DatasetError(f"{file} has no `{key}`; name the folder of its {key} images there.")
        if not all(isinstance(place, str) for place in _places(value)):
            raise DatasetError(f"{file}: `{key}` is {value!r}, but must be a path or a list of paths.")
    if not isinstance(content.get("path") or "", str):
        raise DatasetError(f"{file}: `path` is {content['path']!r}, but must be a path.")
    kpt_shape = content.get("kpt_shape") or [0, 0]
    if not isinstance(kpt_shape, list) or [type(number) for number in kpt_shape] != [int, int]:
        raise DatasetError(
            f"{file}: `kpt_shape` is {kpt_shape!r}, but must be two whole numbers; detection needs none."
        )
    flipped = content.get("flip_idx")
    if flipped is not None and kpt_shape[0] and not _is_order(flipped, kpt_shape[0]):
        raise DatasetError(
            f"{file}: `flip_idx` is {flipped!r}, but must list the {kpt_shape[0]} key points, 0 to {kpt_shape[0] - 1}, "
            f"in the order that they have in a mirrored image."
        )
    if (channels := content.get("channels", 3)) != 3:
        raise DatasetError(f"{file}: `channels` is {channels!r}; only images of 3 channels are supported.")


def _check_pose(file: Path, content: dict[str, Any]) -> None:
    """Refuse key points that no pose model can learn; other models do not look at them."""
    kpt_shape, sigmas = content.get("kpt_shape"), content.get("kpt_oks_sigmas")
    if not kpt_shape:
        raise DatasetError(
            f"{file} has no `kpt_shape`, which a pose model needs: [number of key points, 2 or 3 values]; "
            f"add it, or take a model that detects."
        )
    if not _is_possible(kpt_shape):
        raise DatasetError(
            f"{file}: `kpt_shape` is {kpt_shape!r}, but must be the number of key points, from 1 up, and 2 values of "
            f"each (x, y) or 3 (with visibility)."
        )
    if sigmas is not None and not _are_sigmas(sigmas, kpt_shape[0]):
        raise DatasetError(
            f"{file}: `kpt_oks_sigmas` is {sigmas!r}, but must list a number above 0 for each of the {kpt_shape[0]} "
            f"key points; leave it out for Ultralytics' own."
        )


def _is_possible(kpt_shape: Any) -> bool:
    whole = isinstance(kpt_shape, list) and [type(number) for number in kpt_shape] == [int, int]
    return whole and kpt_shape[0] > 0 and kpt_shape[1] in (2, 3)


def _are_sigmas(sigmas: Any, count: int) -> bool:
    numbers = isinstance(sigmas, list) and all(type(sigma) in (int, float) for sigma in sigmas)
    return numbers and len(sigmas) == count and all(0 < sigma < math.inf for sigma in sigmas)


def _is_order(indices: Any, count: int) -> bool:
    whole = isinstance(indices, list) and all(type(index) is int for index in indices)
    return whole and sorted(indices) == list(range(count))


def _places(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _resolve(source: _Source) -> dict[str, Any]:
    """The file's content with absolute paths, by Ultralytics' rules; images of the catalog are downloaded."""
    from ultralytics.data.utils import check_det_dataset

    try:
        return check_det_dataset(str(source.yaml_file), autodownload=source.origin == "catalog")
    except Exception as error:  # a download script of Ultralytics may raise anything
        reason = str(error).replace("❌", "").strip().split("\n", 1)[0].rstrip(".")
        if source.origin == "catalog":
            raise DatasetError(
                f"Ultralytics could not download {source.name!r} ({reason}); check the network and the free space."
            ) from error
        missing = re.search(r"missing path '(.+)'", reason)
        if missing:
            raise DatasetError(missing_images(source.yaml_file, "val", missing[1])) from error
        raise DatasetError(f"{source.yaml_file} cannot be used: {reason}.") from error
