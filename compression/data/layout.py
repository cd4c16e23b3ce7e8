"""The data set within an unpacked zip: its data.yaml is found, and written anew so that it names nothing outside.

Exports of labelling programs name places as they were on another machine (`/content/cells/train/images`), beside their
file (`../train/images`), or in lists of images. Each is looked for in the folder by the end of its path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from compression.data.class_folders import is_class_folders
from compression.data.dataset import read_yaml
from compression.errors import DatasetError, naming_within

YAML_FILE = "data.yaml"
# A data.yaml of thousands of classes has a tenth of it.
MAX_YAML_BYTES = 1_000_000
_YAML_PATTERNS = ("*.yaml", "*.yml")
_SPLITS = ("train", "val", "test")
# What other programs leave in place of a data.yaml.
_SIGNS = {"classes.txt": "Label Studio", "obj.data": "CVAT's YOLO 1.1", "_annotations.coco.json": "COCO"}
_LAYOUT = (
    "a data.yaml with `train: images/train`, `val: images/val` and `names: [...]`, and beside it the folders images/ "
    "and labels/ with train/ and val/ in each"
)


def settle(folder: Path) -> Path:
    """Write the data.yaml of an unpacked data set, with places within its folder only.

    Args:
        folder: what was unpacked; a single folder within it may hold everything.

    Returns:
        The data.yaml; of class folders, which need none, the folder that holds train and val.

    Raises:
        DatasetError: there is none or more than one, or what it names is not there; `faults` has all that is wrong.
            Files are named by their place in the folder.
    """
    root = _top(folder.resolve())
    if is_class_folders(root) and not _yamls(root, recursive=True):
        return root
    found = _find_yaml(root)
    _check_text(found, root)
    with naming_within(root):
        names, content = read_yaml(found)
    faults: list[str] = []
    places: dict[str, list[str]] = {}
    for split in _SPLITS:
        # Ultralytics takes "validation" for "val".
        given = content.get(split) or (content.get("validation") if split == "val" else None)
        # Test images are named by many exports that have none, and no run needs them.
        missing: list[str] = []
        settled_places = list(_settled_places(root, found, content, split, given, missing)) if given else []
        if settled_places and (not missing or split != "test"):
            places[split] = settled_places
        if split != "test":
            faults += missing
    if not faults and places["train"] == places["val"] and content["train"] != content.get("val"):
        faults.append(
            f"{_name(found, root)}: `train` and `val` are different, but both are found at {places['val'][0]} only; "
            "pack the folders that it names."
        )
    if faults:
        raise DatasetError(faults[0], faults=faults)
    kept: dict[str, Any] = {key: content[key] for key in ("kpt_shape", "flip_idx", "kpt_oks_sigmas") if key in content}
    settled = root / YAML_FILE
    settled.write_text(yaml.safe_dump({**places, "names": names, **kept}, sort_keys=False), encoding="utf-8")
    return settled


def _top(folder: Path) -> Path:
    """The folder below which more than one thing lies."""
    children = list(folder.iterdir())
    return _top(children[0]) if len(children) == 1 and children[0].is_dir() else folder


def _find_yaml(root: Path) -> Path:
    """The data.yaml: the one at the top, else the only one anywhere."""
    at_top = _yamls(root, recursive=False)
    plain = [file for file in at_top if file.stem in ("data", "dataset")]
    found = plain or at_top or _yamls(root, recursive=True)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(_name(file, root) for file in found[:5])
        raise DatasetError(f"The zip holds {len(found)} files that may be its data.yaml: {names}; keep one.")
    signs = [f" It looks like an export for {what}." for name, what in _SIGNS.items() if any(root.rglob(name))]
    raise DatasetError(f"The zip holds no data.yaml.{''.join(signs[:1])} Pack {_LAYOUT}.")


def _yamls(root: Path, *, recursive: bool) -> list[Path]:
    find = root.rglob if recursive else root.glob
    return sorted(file for pattern in _YAML_PATTERNS for file in find(pattern) if file.is_file())


def _check_text(file: Path, root: Path) -> None:
    """Refuse a file that grows when it is read: by its size, or by names that stand for other parts of it."""
    name = _name(file, root)
    if file.stat().st_size > MAX_YAML_BYTES:
        raise DatasetError(f"{name} has more than {MAX_YAML_BYTES / 1e6:g} MB; a data.yaml lists train, val and names.")
    try:
        tokens = list(yaml.scan(file.read_text(encoding="utf-8-sig")))
    except (yaml.YAMLError, UnicodeDecodeError):
        # Reading it tells where it is wrong.
        return
    if any(isinstance(token, yaml.AliasToken) for token in tokens):
        raise DatasetError(f"{name} refers to parts of itself by `*`; write them out.")


def _settled_places(
    root: Path, yaml_file: Path, content: dict[str, Any], split: str, given: Any, faults: list[str]
) -> Iterator[str]:
    """Where a split's folders and lists of images are, below the root; lists are written anew there."""
    bases = [yaml_file.parent / str(content.get("path") or ""), yaml_file.parent, root]
    for number, text in enumerate(given if isinstance(given, list) else [given]):
        place = _find(root, bases, str(text))
        if place is None:
            faults.append(
                f"{_name(yaml_file, root)}: the {split} images are missing, the zip holds no {text}; pack that folder "
                f"too, or correct `{split}`."
            )
        elif place.is_dir():
            yield _name(place, root)
        else:
            # No name that a list of the zip may have, which is read after this one is written.
            name = f"{split}-images-{number}.txt"
            _settle_list(root, place, split, root / name, faults)
            yield name


def _settle_list(root: Path, given: Path, split: str, settled: Path, faults: list[str]) -> None:
    """Write a list of images with places that begin at its own folder, as Ultralytics reads them."""
    try:
        lines = given.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        faults.append(f"{_name(given, root)} is no list of images; correct `{split}` in the data.yaml.")
        return
    images = [line.strip() for line in lines if line.strip()]
    places = [_find(root, [given.parent, root], image) for image in images]
    missing = [image for image, place in zip(images, places, strict=True) if place is None or not place.is_file()]
    if missing or not images:
        what = f"{len(missing)} of its {len(images)} images, {missing[0]} first" if missing else "any image"
        faults.append(f"{_name(given, root)}: the zip does not hold {what}; pack them too, or correct the list.")
        return
    settled.write_text("".join(f"./{_name(place, root)}\n" for place in places if place), encoding="utf-8")


def _find(root: Path, bases: Sequence[Path], text: str) -> Path | None:
    """What a path stands for within the root: as it is written, else the longest end of it that is there."""
    if "\0" in text:
        return None
    parts = [part for part in PurePosixPath(text.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for base in bases:
        place = (base / text).resolve()
        if place.is_relative_to(root) and os.path.exists(place):
            return place
    # The last folder alone is often called "images", whatever split it is of.
    ends = [parts[first:] for first in range(len(parts)) if len(parts) - first > 1 or parts[first] != "images"]
    found = (base.joinpath(*end).resolve() for end in ends for base in (bases[-2], root))
    return next((place for place in found if place.is_relative_to(root) and os.path.exists(place)), None)


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
