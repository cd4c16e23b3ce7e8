"""Every image and label of a data set, looked at before training: the first fault as a sentence, or the fingerprint."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from compression.catalog import TaskName
from compression.errors import DatasetError
from compression.models.tasks import TASKS

# Ultralytics accepts coordinates that leave the image by this part of its size.
TOLERANCE = 0.01
# Of these OpenCV, which reads what is trained on, decodes less than Pillow, which checks it.
_RARELY_DECODED = (".tif", ".tiff", ".dng", ".jp2")
# cv2.utils.logging.LOG_LEVEL_ERROR
_OPENCV_ERRORS = 2
_HEIF_MODULE = "pi_heif"
# Tasks whose labels are outlines, and what a line of them holds.
_OUTLINE: dict[TaskName, str] = {
    "segment": "polygons: class, x1, y1, x2, y2, x3, y3 and so on",
    "obb": "four corners: class, x1, y1, x2, y2, x3, y3, x4, y4",
}
OUTLINED = frozenset(_OUTLINE)
# Of files with a fault so many are named one by one.
MOST_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class CheckedSplits:
    """What is known of a data set without faults.

    Attributes:
        fingerprint: sha256 of class names and, of each split, image names, image sizes in bytes and label texts.
        n_images: images of each split by name.
    """

    fingerprint: str
    n_images: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """An image, its label file, and its name below the folder or list it was found by."""

    name: str
    image: str
    label: str


@dataclass(frozen=True, kw_only=True)
class _Finding:
    """One image and its label after the check.

    Attributes:
        pair: what was checked.
        n_boxes: objects of the label; 0 for a background image.
        identity: what the fingerprint takes from them.
        image_fault: why the image cannot be used; empty if it can.
        label_fault: why the label cannot be used; empty if it can.
    """

    pair: ImagePair
    n_boxes: int = 0
    identity: tuple[str, int, str] = ("", 0, "")
    image_fault: str = ""
    label_fault: str = ""


def check_splits(
    yaml_file: Path,
    splits: dict[str, list[str]],
    names: dict[int, str],
    kpt_shape: tuple[int, int] = (0, 0),
    task: TaskName = "detect",
) -> CheckedSplits:
    """Check that every image opens and every label fits, as Ultralytics will read them.

    Args:
        yaml_file: the data.yaml that a fault is blamed on.
        splits: for each split the folders of images or text files that list them, absolute.
        names: class names by index.
        kpt_shape: key points and values of each, where labels carry them behind the box.
        task: what the labels have to hold; boxes are read from all of them.

    Raises:
        DatasetError: a folder is missing or empty, no image has a label, or an image or label cannot be used.
    """
    pairs = {split: image_pairs(yaml_file, split, places) for split, places in splits.items()}
    findings = {split: _examine_all(found, len(names), kpt_shape, task) for split, found in pairs.items()}
    faults = [one for found in findings.values() for one in found if one.image_fault or one.label_fault]
    if faults:
        sentences = [_sentence(fault, yaml_file, len(names), kpt_shape, task) for fault in faults[:MOST_TOLD]]
        raise DatasetError(first_of(sentences, len(faults)), faults=told(sentences, len(faults)))
    for split, found in findings.items():
        if not any(one.n_boxes for one in found):
            raise DatasetError(
                f"None of the {len(found)} {split} images of {yaml_file} has a label; "
                f"the first one's is looked for at {found[0].pair.label}."
            )
    identities = {split: [one.identity for one in found] for split, found in findings.items()}
    return CheckedSplits(
        fingerprint=digest_of(names, identities), n_images={split: len(found) for split, found in findings.items()}
    )


def missing_images(yaml_file: Path, split: str, place: str) -> str:
    """The sentence for a split whose folder does not exist."""
    return (
        f"{yaml_file}: the {split} images are missing, there is no {place}; "
        f"correct `path` or `{split}`, or download the images first."
    )


def image_pairs(yaml_file: Path, split: str, places: list[str]) -> list[ImagePair]:
    """The images of a split with the places of their labels, by name.

    Args:
        yaml_file: of the data set, for the sentence of a fault.
        split: "train", "val" or "test".
        places: folders and lists that hold the images.

    Raises:
        DatasetError: there are no images, or a place is missing.
    """
    from ultralytics.data.utils import IMG_FORMATS, img2label_paths

    named = [
        (name, image)
        for place in places
        for name, image in _files(yaml_file, split, place)
        if image.rpartition(".")[-1].lower() in IMG_FORMATS
    ]
    if not named:
        raise DatasetError(f"{yaml_file}: there are no {split} images in {', '.join(places)}; correct `{split}`.")
    named.sort()
    labels = img2label_paths([image for _, image in named])
    return [ImagePair(name=name, image=image, label=label) for (name, image), label in zip(named, labels, strict=True)]


def _files(yaml_file: Path, split: str, place: str) -> Iterator[tuple[str, str]]:
    """Name and path of each file in a folder or text file, found as Ultralytics' data loader finds them."""
    if os.path.isdir(place):
        for file in glob.iglob(os.path.join(glob.escape(place), "**", "*.*"), recursive=True):
            yield _name_below(place, file), file
        return
    if not os.path.isfile(place):
        raise DatasetError(missing_images(yaml_file, split, place))
    try:
        lines = Path(place).read_text(encoding="utf-8-sig").strip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{yaml_file}: {place} is neither a folder nor a text file that lists images; correct `{split}`."
        ) from error
    parent = os.path.dirname(place)
    for line in lines:
        file = os.path.join(parent, line[2:]) if line.startswith("./") else line
        yield _name_below(parent, file), file


def _name_below(folder: str, file: str) -> str:
    """The path below a folder, which a copy of the data set shares; for a file elsewhere its bare name."""
    prefix = os.path.join(folder, "")
    name = file.removeprefix(prefix) if file.startswith(prefix) else os.path.basename(file)
    return name.replace(os.sep, "/")


def _examine_all(pairs: list[ImagePair], nc: int, kpt_shape: tuple[int, int], task: TaskName) -> list[_Finding]:
    import cv2
    from ultralytics.utils import NUM_THREADS

    # What OpenCV does not decode becomes a sentence; its own warning would stand beside it.
    level = cv2.utils.logging.setLogLevel(_OPENCV_ERRORS)
    try:
        with ThreadPool(NUM_THREADS) as threads:
            return threads.map(lambda pair: _examine(pair, nc, kpt_shape, task), pairs)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _examine(pair: ImagePair, nc: int, kpt_shape: tuple[int, int], task: TaskName) -> _Finding:
    from ultralytics.data.utils import verify_image_label

    # A pipe would be waited for without end where it is an image, and passed over where it is a label.
    if reason := no_file(pair.image):
        return _Finding(pair=pair, image_fault=reason)
    if reason := no_file(pair.label):
        return _Finding(pair=pair, label_fault=reason)
    # The prefix of messages and whether the task is pose or has a single class come before and after the counts.
    result = verify_image_label((pair.image, pair.label, "", task == "pose", nc, *kpt_shape, False))
    boxes, segments, (_, has_label, _, is_corrupt, message) = result[1], result[3], result[5:]
    if is_corrupt:
        reason = message.rpartition("ignoring corrupt image/label: ")[2].strip().split("\n", 1)[0].rstrip(".")
        # The image is checked first, so a label that was found already means that the image is good.
        return _Finding(pair=pair, label_fault=reason) if has_label else _Finding(pair=pair, image_fault=reason)
    if reason := not_decoded(pair.image):
        return _Finding(pair=pair, image_fault=reason)
    if task in OUTLINED and len(boxes) and not segments:
        return _Finding(pair=pair, label_fault=f"it holds boxes and no {TASKS[task].labels}")
    text = Path(pair.label).read_bytes() if has_label else b""
    identity = (pair.name, os.path.getsize(pair.image), hashlib.sha256(text).hexdigest())
    return _Finding(pair=pair, n_boxes=len(boxes), identity=identity)


def digest_of(names: dict[int, str], identities: dict[str, list[tuple[str, int, str]]]) -> str:
    """The fingerprint of a data set.

    Args:
        names: class names by index.
        identities: of each split, of each image its name, its size in bytes, and the hash of its label.
    """
    digest = hashlib.sha256(json.dumps([names[index] for index in sorted(names)]).encode())
    for split in sorted(identities):
        digest.update(json.dumps([split, sorted(identities[split])]).encode())
    return digest.hexdigest()


def first_of(sentences: list[str], n_faults: int) -> str:
    """The first fault, and how many others there are."""
    return f"{sentences[0]} (and {_more(n_faults - 1)})." if n_faults > 1 else f"{sentences[0]}."


def told(sentences: list[str], n_faults: int) -> list[str]:
    """Each fault as a sentence, and how many others there are."""
    others = n_faults - len(sentences)
    return [f"{sentence}." for sentence in sentences] + ([f"There are {_more(others)}."] if others else [])


def _more(n_files: int) -> str:
    return f"{n_files} more file{'s' if n_files > 1 else ''} with a fault"


def no_file(place: str) -> str:
    """Why what is at a place cannot be read as a file; empty where it can, or where nothing is there."""
    return "it is no regular file" if os.path.exists(place) and not os.path.isfile(place) else ""


def not_decoded(image: str) -> str:
    """Why an image that Pillow opens cannot be trained on; empty where it can, or is of a kind that always can."""
    from ultralytics.utils.patches import imread

    if not image.lower().endswith(_RARELY_DECODED) or imread(image) is not None:
        return ""
    return "its kind of pixels is not decoded by OpenCV; save it with 8 bits a channel"


def unreadable_image(image: str, reason: str) -> str:
    """The sentence for an image that cannot be read, without its full stop."""
    # Ultralytics tries HEIF last for whatever Pillow does not know, and tells of that only.
    unknown = "it is no image, or of a format that is not installed"
    return f"The image {image} cannot be read ({unknown if _HEIF_MODULE in reason else reason}); replace or remove it"


def _sentence(fault: _Finding, yaml_file: Path, nc: int, kpt_shape: tuple[int, int], task: TaskName) -> str:
    if fault.image_fault:
        return unreadable_image(fault.pair.image, fault.image_fault)
    return _label_sentence(fault, yaml_file, nc, kpt_shape, task)


def _label_sentence(finding: _Finding, yaml_file: Path, nc: int, kpt_shape: tuple[int, int], task: TaskName) -> str:
    label = finding.pair.label
    pose = 5 + kpt_shape[0] * kpt_shape[1]
    widths = {pose} if task == "pose" else {5, pose}
    # Only the wording is worked out here; Ultralytics has decided that the file is at fault.
    text = Path(label).read_text(encoding="utf-8-sig", errors="replace") if _is_readable(label) else ""
    for number, line in enumerate(text.splitlines(), start=1):
        if fault := _line_fault(line.split(), nc, yaml_file, widths, task):
            return f"{label}, line {number}: {fault}"
    return f"The label file {label} cannot be used ({finding.label_fault}); correct or remove it"


def _is_readable(file: str) -> bool:
    return os.path.isfile(file) and os.access(file, os.R_OK)


def _line_fault(values: list[str], nc: int, yaml_file: Path, widths: set[int], task: TaskName) -> str:
    is_polygon = task != "pose" and len(values) > 6 and len(values) % 2 == 1
    if task == "pose" and values and len(values) not in widths:
        (width,) = widths
        needs = f"{width}: class, 4 of the box and {width - 5} of the key points"
        return f"{len(values)} values; with this `kpt_shape` a line needs {needs}"
    if task in OUTLINED and values and not is_polygon:
        return f"{len(values)} values; a {TASKS[task].noun} needs {_OUTLINE[task]}"
    if values and len(values) not in widths and not is_polygon:
        return f"{len(values)} values; a line needs 5: class, x_center, y_center, width, height"
    for position, value in enumerate(values):
        try:
            number = float(value)
        except ValueError:
            return f"{value!r} is not a number; a line needs class, x_center, y_center, width, height"
        if position == 0 and not (number.is_integer() and 0 <= number < nc):
            return f"class index {value} does not exist; {yaml_file} names {nc}, so use 0 to {nc - 1}"
        if 0 < position < 5 and (math.isnan(number) or not -TOLERANCE <= number <= 1 + TOLERANCE):
            return f"{value} lies outside of 0 to 1; give boxes as parts of the image's width and height"
    return ""
