"""A run on some of a data set's classes: which are meant, a view of the data with only them, a head with only them.

Importing this module imports no torch, so that pages can check what was typed in a moment; `keep_classes` does.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from compression.data.dataset import Dataset
from compression.data.dataset_check import ImagePair, image_pairs
from compression.errors import DatasetError, SpecError
from compression.home import home

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

# A view's name spells its classes out up to so many characters, and counts them beyond.
MAX_SPELT_OUT = 40
# A sentence lists all classes of a data set up to so many.
MAX_LISTED = 20

_INDEX = re.compile(r"[+-]?\d{1,9}")
# Training and validation need objects, and the fingerprint covers them; nothing in a run reads the others.
_NEEDED = ("train", "val")


def parse_classes(text: str, names: Mapping[int, str]) -> tuple[int, ...]:
    """The classes that a user lists, by name or by index.

    A name that matches exactly wins over an index, so that classes called "0" or "10" can be named. Names may hold
    commas themselves: of several readings the longest name wins.

    Args:
        text: "person,car", "0,2" or both mixed; blanks around the commas and empty places mean nothing.
        names: class names by index, from 0 without a gap.

    Returns:
        Indices, ascending, each once.

    Raises:
        SpecError: nothing is listed, or a name or index is not the data set's.
    """
    by_parts: dict[tuple[str, ...], set[int]] = {}
    for index, name in names.items():
        by_parts.setdefault(_parts(name), set()).add(index)
    left = _parts(text)
    if not left:
        raise SpecError(f"{text!r} names no class; give {_offer(names)}.")
    chosen: set[int] = set()
    while left:
        lengths = range(min(len(left), max(map(len, by_parts))), 0, -1)
        length = next((length for length in lengths if left[:length] in by_parts), 0)
        chosen |= by_parts[left[:length]] if length else {_index(left[0], names)}
        left = left[length or 1 :]
    return tuple(sorted(chosen))


def parse_subset(text: str, names: Mapping[int, str]) -> tuple[int, ...]:
    """The classes to keep as `parse_classes` reads them; empty for all, whether none or each was listed."""
    kept = parse_classes(text, names) if text else ()
    return () if len(kept) == len(names) else kept


def class_subset(dataset: Dataset, classes: tuple[int, ...]) -> Dataset:
    """A view of a data set with only some of its classes, numbered anew in their order.

    It lies in the data folder and is written once: links to the images, and label files with the rows of those
    classes. Images that show none of them stay as background, so that a detection there counts as a wrong one. A test
    split is taken along where all of its images are there.

    Args:
        dataset: as `compression.data.dataset.open_dataset` found it.
        classes: indices as of `parse_classes`; with all of them the data set itself is given back.

    Raises:
        DatasetError: no training or no validation image shows one of the classes, or a test label cannot be read.
    """
    assert classes == tuple(sorted(set(classes) & dataset.names.keys()))
    assert classes
    if len(classes) == dataset.nc:
        return dataset
    if dataset.task == "classify":
        raise SpecError(
            f"The classes of {dataset.name!r} are folders of whole images; to keep only "
            f"{', '.join(dataset.names[index] for index in classes)} give a folder that holds those alone."
        )
    fingerprint = hashlib.sha256(json.dumps([dataset.fingerprint, classes]).encode()).hexdigest()
    names = {new: dataset.names[old] for new, old in enumerate(classes)}
    content, splits = _content(dataset)
    folder = _folder(fingerprint, splits)
    if not _is_whole(folder, splits):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            draft = Path(place) / "view"
            _write_view(draft, dataset, classes, splits, content | {"names": names})
            _put_in_place(draft, folder, splits)
    return replace(
        dataset,
        name=_view_name(dataset, names, fingerprint),
        yaml_file=folder / "data.yaml",
        names=names,
        fingerprint=fingerprint,
    )


def keep_classes(module: DetectionModel, classes: tuple[int, ...]) -> DetectionModel:
    """A copy of a detector that predicts some of its classes only, numbered anew in their order.

    The last convolution of each class branch loses the other outputs; those that stay compute what they did. All that
    Ultralytics reads of classes (head, names, yaml, class weights) agrees with them.

    Args:
        module: a detector, pruned or not; not modified.
        classes: indices as of `parse_classes`.
    """
    import torch_pruning as tp
    from ultralytics.nn.modules import Classify
    from ultralytics.nn.modules.head import Segment26

    from compression.graph.blocks import head_branches

    assert classes == tuple(sorted(set(classes) & module.names.keys()))
    assert classes
    kept = copy.deepcopy(module)
    head = kept.model[-1]
    others = [index for index in range(len(module.names)) if index not in classes]
    for branches in head_branches(head)[1::2]:  # boxes and classes alternate
        for branch in branches:
            tp.prune_conv_out_channels([*branch.children()][-1], others)
    if isinstance(head, Classify):
        tp.prune_linear_out_channels(head.linear, others)
    elif isinstance(head, Segment26):
        # The semantic branch of the loss has one output a class too.
        tp.prune_conv_out_channels(head.proto.semseg[-1], others)
    head.nc = kept.nc = kept.yaml["nc"] = len(classes)
    if not isinstance(head, Classify):
        head.no = head.nc + 4 * head.reg_max
    kept.names = {new: module.names[old] for new, old in enumerate(classes)}
    # A loss that a training left behind was made for all classes.
    kept.criterion = None
    if getattr(kept, "class_weights", None) is not None:
        weights = kept.class_weights[list(classes)]
        # As `DetectionTrainer.set_class_weights` does, so that classes and boxes keep their balance.
        kept.class_weights = weights / weights.mean()
    return kept


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _index(part: str, names: Mapping[int, str]) -> int:
    if _INDEX.fullmatch(part):
        if int(part) in names:
            return int(part)
        raise SpecError(f"There is no class {int(part)}; give {_offer(names)}.")
    by_folded = {name.casefold(): name for name in names.values()}
    near = difflib.get_close_matches(part.casefold(), by_folded, n=1)
    hint = f" (did you mean {by_folded[near[0]]!r}?)" if near else ""
    raise SpecError(f"There is no class {part!r}{hint}; give {_offer(names)}.")


def _offer(names: Mapping[int, str]) -> str:
    listed = [f"{index} {names[index]}" for index in sorted(names)]
    if len(listed) > MAX_LISTED:
        listed[3:-1] = ["..."]
    return f"names or indices of the {len(names)} classes: {', '.join(listed)}"


def _view_name(dataset: Dataset, names: dict[int, str], fingerprint: str) -> str:
    inside = ", ".join(names.values())
    if len(inside) > MAX_SPELT_OUT:
        # Results are grouped by the name, so other classes of the same number need another one.
        inside = f"{len(names)} of {dataset.nc} classes, {fingerprint[:6]}"
    return f"{dataset.name} [{inside}]"


def _content(dataset: Dataset) -> tuple[dict[str, Any], dict[str, list[ImagePair]]]:
    """What a view's data.yaml shares with the original's, and the images of each split."""
    from ultralytics.data.utils import check_det_dataset

    resolved = check_det_dataset(str(dataset.yaml_file), autodownload=False)
    places = {
        split: value if isinstance(value, list) else [value]
        for split in (*_NEEDED, "test")
        if (value := resolved.get(split))
    }
    splits = {split: image_pairs(dataset.yaml_file, split, places[split]) for split in _NEEDED}
    # Many data sets name test images that nobody has; with part of them a view would claim to be the test split.
    with suppress(DatasetError):
        test = image_pairs(dataset.yaml_file, "test", places.get("test", []))
        if all(os.path.isfile(pair.image) for pair in test):
            splits["test"] = test
    # How many values of a label row are key points, and what training and validation know of them.
    return {key: resolved[key] for key in ("kpt_shape", "flip_idx", "kpt_oks_sigmas") if key in resolved}, splits


def _folder(fingerprint: str, splits: dict[str, list[ImagePair]]) -> Path:
    """Where a view lies; what the fingerprint does not cover, the test labels, stands in the name too.

    The data set's name does not: "lvis" or "coco" in a path changes how Ultralytics validates.
    """
    digest = hashlib.sha256(fingerprint.encode())
    for pair in splits.get("test", []):
        label = Path(pair.label).read_bytes() if os.path.isfile(pair.label) else None
        digest.update(repr((pair.name, label)).encode())
    return home() / "datasets" / f"subset-{digest.hexdigest()[:16]}"


def _file_name(number: int, image: str) -> str:
    # Numbered, since images of different folders may have equal names.
    return f"{number:06d}.{image.rpartition('.')[-1]}"


def _is_whole(folder: Path, splits: dict[str, list[ImagePair]]) -> bool:
    """Whether a view is there with every label file, and its links lead to images."""
    try:
        return (folder / "data.yaml").is_file() and all(
            _shows(folder, split, number, pair) for split, pairs in splits.items() for number, pair in enumerate(pairs)
        )
    except OSError:
        return False


def _shows(folder: Path, split: str, number: int, pair: ImagePair) -> bool:
    link = folder / "images" / split / _file_name(number, pair.image)
    label = folder / "labels" / split / f"{link.stem}.txt"
    # The size is what the fingerprint knows of an image too.
    same_image = os.path.getsize(link) == os.path.getsize(pair.image)
    return same_image and os.path.isfile(label) == os.path.isfile(pair.label)


def _write_view(
    folder: Path,
    dataset: Dataset,
    classes: tuple[int, ...],
    splits: dict[str, list[ImagePair]],
    content: dict[str, Any],
) -> None:
    for split, pairs in splits.items():
        n_rows = _write_split(folder, split, pairs, classes)
        if split in _NEEDED and not n_rows:
            raise DatasetError(
                f"None of the {len(pairs)} {split} images of {dataset.yaml_file} shows "
                f"{' or '.join(dataset.names[index] for index in classes)}; choose other classes, or label them there."
            )
    # Without `path`, Ultralytics looks for the splits beside the file.
    places = {split: f"images/{split}" for split in splits}
    text = yaml.safe_dump(places | content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _write_split(folder: Path, split: str, pairs: list[ImagePair], classes: tuple[int, ...]) -> int:
    """Link the images of a split and write their labels; returns the number of label rows."""
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    n_rows = 0
    for number, pair in enumerate(pairs):
        link = images / _file_name(number, pair.image)
        _link(os.path.abspath(pair.image), link)
        if os.path.isfile(pair.label):
            rows = _kept_rows(pair.label, classes)
            (labels / f"{link.stem}.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
            n_rows += len(rows)
    return n_rows


def _link(image: str, link: Path) -> None:
    """A symbolic link, a hard link or a copy: the first that the file system admits."""
    for make in (os.symlink, os.link):
        with suppress(OSError):
            make(image, link)
            return
    shutil.copyfile(image, link)


def _kept_rows(label: str, classes: tuple[int, ...]) -> list[str]:
    """The rows of those classes with their new index; boxes, polygons and key points behind it as they stood."""
    # Ultralytics reads the index as a number: 2.0 is class 2.
    new_index = {float(old): new for new, old in enumerate(classes)}
    rows = []
    try:
        for line in Path(label).read_text(encoding="utf-8-sig").splitlines():
            values = line.split()
            if values and (index := new_index.get(float(values[0]))) is not None:
                rows.append(" ".join([str(index), *values[1:]]))
    except (OSError, ValueError) as error:
        raise DatasetError(f"The label file {label} cannot be used ({error}); correct or remove it.") from error
    return rows


def _put_in_place(draft: Path, folder: Path, splits: dict[str, list[ImagePair]]) -> None:
    """Rename a finished view to where it belongs, in place of one whose images went away."""
    try:
        os.rename(draft, folder)
    except OSError:
        # Another process may have been faster.
        if not _is_whole(folder, splits):
            os.rename(folder, draft.with_name("stale"))
            os.rename(draft, folder)
