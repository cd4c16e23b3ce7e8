"""Models and data sets that a user brings: checked, named, and kept in the data folder under the hash of their file.

Importing this module imports no torch, so that pages can list what is there; `add` does, in a process of its own where
a page asks for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from filelock import FileLock

from cache.store import own_store
from compression.catalog import CATALOG
from compression.data.archive import unpack
from compression.data.dataset import data_label, is_known_by_name, known_datasets, natural_task, open_dataset
from compression.data.layout import settle
from compression.errors import DatasetError, ModelError, SpecError, TrimboardError, naming_within
from compression.home import home

Kind = Literal["model", "data"]
KINDS: tuple[Kind, Kind] = ("model", "data")

_FACTS = "brought.json"
_UPLOAD, _DRAFT, _GONE = ".upload-", ".draft-", ".gone-"
# What an ended process left of these is nobody's any more.
_STALE_S = 86_400.0
# Letters and digits of any alphabet; a name becomes part of paths, of the command line and of addresses.
_NAME = re.compile(r"\w[\w .+-]{0,59}")
_NO_NAME = re.compile(r"[^\w.+-]+")
# Labels and lists of images, and the data.yaml. Anything else that lies beside images, Ultralytics might open: its
# caches are pickles.
_TEXTS = ("txt", "yaml", "yml")


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A model or data set of the user's that passed its check.

    Attributes:
        kind: which of both.
        name: that its results are grouped by.
        path: the .pt or data.yaml, as the command line takes it.
        sha256: of the .pt; of the zip; of the path where the data set lies elsewhere.
        kept: whether the data folder has a copy, which is deleted with it.
        added: time in UTC, ISO 8601.
        size_bytes: of the .pt or of the zip; 0 where it lies elsewhere.
        classes: names, by index.
        architecture: of a model: its catalog name, or its name where unknown.
        imgsz: of a model: side of the images of its run here or its training, pixels; 0 where it does not say.
        n_train: of a data set: training images.
        n_val: of a data set: validation images.
    """

    kind: Kind
    name: str
    path: str
    sha256: str
    kept: bool
    added: str
    size_bytes: int = 0
    classes: tuple[str, ...] = ()
    architecture: str = ""
    imgsz: int = 0
    n_train: int = 0
    n_val: int = 0


def brought(kind: Kind) -> list[Brought]:
    """What the user brought, the newest first; what cannot be read any more is left out."""
    found = [_read(file) for file in _folder().glob(f"{kind}-*/{_FACTS}")]
    return sorted((one for one in found if one), key=lambda one: one.added, reverse=True)


def find_brought(kind: Kind, name: str) -> Brought | None:
    """A model or data set by its name, None if there is none."""
    return next((one for one in brought(kind) if one.name == name), None)


def keep_upload(file_name: str, content: bytes | memoryview) -> Path:
    """Write an uploaded file where `add` finds it, which deletes it afterwards.

    Raises:
        OSError: it cannot be written.
    """
    _folder().mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_UPLOAD, dir=_folder()))
    given = Path(file_name.replace("\\", "/"))
    file = folder / f"{_plain(given.stem)}{_NO_NAME.sub('', given.suffix.lower())}"
    file.write_bytes(content)
    return file


def add(file: str, *, name: str = "") -> Brought:
    """Check a model or a data set, and keep it; the same file twice is kept once.

    Args:
        file: a .pt, which is copied; a .zip with a YOLO data set, which is unpacked; a data.yaml or the folder of one,
            which stays where it is.
        name: that results shall be grouped by; else that of the file, with a number where that is taken. A data set
            that stays where it is has the name of its file or folder.

    Raises:
        SpecError: the name cannot be one.
        ModelError: the model cannot be used, or its name is taken.
        DatasetError: likewise; `faults` has all that is wrong.
    """
    place = Path(os.path.expanduser(file))
    _folder().mkdir(exist_ok=True)
    _clear_stale()
    try:
        if name and (not _NAME.fullmatch(name) or name != name.strip()):
            raise SpecError(f"{name!r} cannot be a name; use at most 60 letters, digits, spaces and `.+-_`.")
        if place.suffix.lower() == ".pt":
            return _add_model(place, name)
        if place.suffix.lower() == ".zip":
            return _add_zip(place, name)
        if place.suffix.lower() not in (".yaml", ".yml") and not place.is_dir():
            raise DatasetError(
                f"{place.name!r} is neither a model nor a data set; give a .pt that Ultralytics saved, a .zip with a "
                "data.yaml, images and labels, or the path of a data.yaml."
            )
        return _add_place(place)
    finally:
        if place.parent.name.startswith(_UPLOAD) and place.parent.parent == _folder():
            shutil.rmtree(place.parent, ignore_errors=True)


def remove(one: Brought) -> None:
    """Forget a model or data set, and delete the copy of it in the data folder; results on it stay.

    Raises:
        TrimboardError: runs need it.
    """
    requests = [run.request for run in own_store().queue.runs() if run.state in ("queued", "running")]
    n_runs = sum(one.path in (request.model, request.data) for request in requests if request)
    if n_runs:
        who, them = ("1 run that waits or is", "it") if n_runs == 1 else (f"{n_runs} runs that wait or are", "them")
        raise _error(one.kind, f"{one.name!r} is needed by {who} at work; cancel {them} first.")
    gone = Path(tempfile.mkdtemp(prefix=_GONE, dir=_folder()))
    _entry(one.kind, one.sha256).rename(gone / "it")
    shutil.rmtree(gone, ignore_errors=True)


def _add_model(file: Path, name: str) -> Brought:
    from compression.graph.trace import trace
    from compression.models.detector import architecture_of, file_sha256, read_checkpoint

    if not file.is_file():
        raise ModelError(f"There is no file {str(file)!r}; give the path of a .pt checkpoint.")
    with _draft() as draft:
        copy = draft / f"{_plain(file.stem)}.pt"
        shutil.copyfile(file, copy)
        # Of the copy, because a training may write the file anew meanwhile.
        sha256, n_bytes = file_sha256(copy), copy.stat().st_size
        if earlier := _read(_entry("model", sha256) / _FACTS):
            return earlier
        with naming_within(draft):
            module, info = read_checkpoint(copy)
            # What cannot be traced cannot be pruned.
            trace(module)
        with _naming():
            label = _free_name("model", name, file.stem, sha256)
            copy.rename(draft / f"{label}.pt")
            return _settle(
                draft,
                Brought(
                    kind="model",
                    name=label,
                    path=str(_entry("model", sha256) / f"{label}.pt"),
                    sha256=sha256,
                    kept=True,
                    added=_now(),
                    size_bytes=n_bytes,
                    classes=_class_names(module.names),
                    architecture=architecture_of(module) or label,
                    imgsz=_image_size(info.get("imgsz", module.args.get("imgsz"))),
                ),
            )


def _add_zip(file: Path, name: str) -> Brought:
    from ultralytics.data.utils import IMG_FORMATS

    from compression.models.detector import file_sha256

    if not file.is_file():
        raise DatasetError(f"There is no file {str(file)!r}; give the path of a .zip.")
    sha256 = file_sha256(file)
    if earlier := _read(_entry("data", sha256) / _FACTS):
        return earlier
    with _draft() as draft:
        unpacked = draft / ".unpacked"
        unpacked.mkdir()
        unpack(file, unpacked, {*IMG_FORMATS, *_TEXTS})
        place = settle(unpacked)
        folder, below = (place, "") if place.is_dir() else (place.parent, place.name)
        with naming_within(folder):
            dataset = open_dataset(str(place), natural_task(str(place)))
        with _naming():
            label = _free_name("data", name, file.stem, dataset.fingerprint)
            folder.rename(draft / label)
            shutil.rmtree(unpacked, ignore_errors=True)
            return _settle(
                draft,
                Brought(
                    kind="data",
                    name=label,
                    path=str(_entry("data", sha256) / label / below),
                    sha256=sha256,
                    kept=True,
                    added=_now(),
                    size_bytes=file.stat().st_size,
                    classes=tuple(dataset.names.values()),
                    n_train=dataset.n_train,
                    n_val=dataset.n_val,
                ),
            )


def _add_place(place: Path) -> Brought:
    """A data set that stays where it is."""
    dataset = open_dataset(str(place), natural_task(str(place)))
    path = str(dataset.yaml_file)
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    name = data_label(path)
    if is_known_by_name(name):
        raise DatasetError(
            f"{name!r} is the name of a data set that comes with Trimboard or Ultralytics, and names tell "
            f"results apart; rename the folder or the file of {path}."
        )
    one = Brought(
        kind="data",
        name=name,
        path=path,
        sha256=sha256,
        kept=False,
        added=_now(),
        classes=tuple(dataset.names.values()),
        n_train=dataset.n_train,
        n_val=dataset.n_val,
    )
    with _naming(), _draft() as draft:
        other = find_brought("data", one.name)
        if other and other.sha256 != sha256:
            raise DatasetError(
                f"The data set {one.name!r} at {other.path} is here already, and names tell results apart; rename the "
                f"folder or the file of {path}."
            )
        shutil.rmtree(_entry("data", sha256), ignore_errors=True)
        return _settle(draft, one)


def _free_name(kind: Kind, asked: str, stem: str, content: str) -> str:
    """The name that was asked for, else that of the file, with a number where that is taken.

    Args:
        kind: of what is named.
        asked: by the user; "" if he does not mind.
        stem: name of the file.
        content: hash of the weights, or fingerprint of the data set, as results have it.
    """
    taken = _taken(kind, content)
    if not asked:
        first = _plain(stem)
        numbered = (f"{first}-{number}" for number in range(2, len(taken) + 3))
        return next(name for name in (first, *numbered) if name not in taken)
    if asked in taken:
        raise _error(
            kind, f"The name {asked!r} is taken by something else, and names tell results apart; give another."
        )
    return asked


def _taken(kind: Kind, content: str) -> set[str]:
    """Names that stand for something else."""
    here = {one.name for one in brought(kind)}
    if kind == "model":
        known = set(CATALOG)
        measured = {one.model for one in own_store().heads() if one.spec and one.spec.weights_sha256 != content}
    else:
        # A folder called "images" has its labels looked for elsewhere, and the last is a file beside it.
        known = {one.name for one in known_datasets()} | {"images", _FACTS}
        measured = {one.data for one in own_store().heads() if one.spec and one.spec.data_fingerprint != content}
    return here | known | measured


def _plain(stem: str) -> str:
    """A file's name as far as it can be a name here."""
    return _NO_NAME.sub("-", stem)[:60].strip(" .+-") or "mine"


def _settle(draft: Path, one: Brought) -> Brought:
    """Put a draft in its place, unless the same was brought in the meantime."""
    entry = _entry(one.kind, one.sha256)
    if earlier := _read(entry / _FACTS):
        return earlier
    shutil.rmtree(entry, ignore_errors=True)
    # A place within the entry is kept as such, so that the data folder can be moved.
    place = Path(one.path).relative_to(entry) if one.kept else one.path
    (draft / _FACTS).write_text(json.dumps({**asdict(one), "path": str(place)}, indent=1), encoding="utf-8")
    draft.rename(entry)
    return one


@contextmanager
def _draft() -> Iterator[Path]:
    """A folder that is gone afterwards, unless it was renamed."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=_folder()))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _naming() -> FileLock:
    """Held while a name is chosen and given."""
    return FileLock(_folder() / ".lock")


def _error(kind: Kind, text: str) -> TrimboardError:
    return ModelError(text) if kind == "model" else DatasetError(text)


def _folder() -> Path:
    return home().resolve() / "brought"


def _entry(kind: Kind, sha256: str) -> Path:
    return _folder() / f"{kind}-{sha256[:16]}"


def _read(file: Path) -> Brought | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        one = Brought(**{**values, "path": str(file.parent / values["path"]), "classes": tuple(values["classes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return one if Path(one.path).exists() else None


def _class_names(names: object) -> tuple[str, ...]:
    """Ultralytics keeps them by index; older versions in a list."""
    by_index = [name for _, name in sorted(names.items())] if isinstance(names, dict) else names
    return tuple(map(str, by_index)) if isinstance(by_index, list | tuple) else ()


def _image_size(trained_at: object) -> int:
    """Ultralytics keeps a number, or height and width."""
    largest = max(trained_at) if isinstance(trained_at, list | tuple) and trained_at else trained_at
    return largest if isinstance(largest, int) and 32 <= largest <= 4096 else 0


def _clear_stale() -> None:
    for prefix in (_UPLOAD, _DRAFT, _GONE):
        for folder in _folder().glob(f"{prefix}*"):
            try:
                age = time.time() - folder.stat().st_mtime
            except FileNotFoundError:  # another process is done with it
                continue
            if age > _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
