"""Data sets of a classifier: train/CLASS/IMAGE and val/CLASS/IMAGE, looked at before training like label files.

Importing this module imports no torch.
"""

from __future__ import annotations

import glob
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path

from compression.data.dataset_check import (
    MOST_TOLD,
    CheckedSplits,
    digest_of,
    first_of,
    no_file,
    told,
    unreadable_image,
)
from compression.errors import DatasetError

TRAIN = "train"
# Where Ultralytics looks for what a classifier is measured on; test images are taken where there is nothing else.
VALIDATION = ("val", "validation", "valid", "test")


def is_class_folders(folder: Path) -> bool:
    """Whether a folder holds a folder of training images for each class."""
    classes = _classes(folder / TRAIN)
    # That is how data sets with label files are often exported.
    return bool(classes) and not {"images", "labels"} <= set(classes)


def folder_names(folder: Path) -> dict[int, str]:
    """Class names by index: the folders' names in their order, as Ultralytics numbers them."""
    return dict(enumerate(_classes(folder / TRAIN)))


def validation_files(folder: Path) -> dict[str, Path]:
    """The images that a classifier is measured on, by their paths below the split: the class, then the image.

    Args:
        folder: of the data set.

    Raises:
        DatasetError: there are none.
    """
    place = _validation_folder(folder)
    files = {path: place / path for path in _images(place)}
    if not files:
        raise DatasetError(f"{place} holds no images; put some of each class there.")
    return files


def check_class_folders(folder: Path) -> CheckedSplits:
    """Check that every image opens and every class has some.

    Args:
        folder: of the data set.

    Raises:
        DatasetError: there is nothing to validate on, a class has no images, or an image cannot be read.
    """
    names = folder_names(folder)
    places = {TRAIN: folder / TRAIN, "val": _validation_folder(folder)}
    further = sorted(set(_classes(places["val"])) - set(names.values()))
    if further:
        raise DatasetError(
            f"{places['val'] / further[0]} is a class that the training images do not have; "
            f"rename the folder or remove it."
        )
    images = {TRAIN: _images(places[TRAIN])}
    for name in names.values():
        if not any(path.startswith(f"{name}/") for path in images[TRAIN]):
            raise DatasetError(f"{folder / TRAIN / name} holds no images; put some there or remove the folder.")
    images["val"] = list(validation_files(folder))
    files = [places[split] / path for split, found in images.items() for path in found]
    faults = _faults(files)
    if faults:
        sentences = [unreadable_image(str(file), reason) for file, reason in faults[:MOST_TOLD]]
        raise DatasetError(first_of(sentences, len(faults)), faults=told(sentences, len(faults)))
    identities = {
        split: [(path, os.path.getsize(places[split] / path), "") for path in found] for split, found in images.items()
    }
    return CheckedSplits(
        fingerprint=digest_of(names, identities), n_images={split: len(found) for split, found in images.items()}
    )


def _validation_folder(folder: Path) -> Path:
    found = next((folder / each for each in VALIDATION if (folder / each).is_dir()), None)
    if found is None:
        raise DatasetError(
            f"{folder} has training images and none to measure on; put some of each class into {folder / 'val'}."
        )
    return found


def _classes(split: Path) -> list[str]:
    return sorted(each.name for each in split.iterdir() if each.is_dir()) if split.is_dir() else []


def _images(split: Path) -> list[str]:
    """The images of a split by their paths below it."""
    from ultralytics.data.utils import IMG_FORMATS

    found = glob.iglob(os.path.join(glob.escape(str(split)), "*", "**", "*.*"), recursive=True)
    return sorted(
        os.path.relpath(file, split).replace(os.sep, "/")
        for file in found
        if file.rpartition(".")[-1].lower() in IMG_FORMATS
    )


def _faults(files: list[Path]) -> list[tuple[Path, str]]:
    """Images that cannot be read, each with the reason."""
    from ultralytics.data.utils import verify_image
    from ultralytics.utils import NUM_THREADS

    # A pipe would be waited for without end.
    if pipes := [(file, reason) for file in files if (reason := no_file(str(file)))]:
        return pipes
    with ThreadPool(NUM_THREADS) as threads:
        results = threads.map(lambda file: verify_image(((str(file), 0), "")), files)
    return [
        (file, message.rpartition("ignoring corrupt image/label: ")[2].strip().split("\n", 1)[0].rstrip("."))
        for file, (_, _, corrupt, message) in zip(files, results, strict=True)
        if corrupt
    ]
