"""A checkpoint that only the submitting machine has, on its way to the nodes of a cluster.

It is put into the place that all of them share, and the request names it by its content from then on.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cache.artifacts import PLACE_VARIABLE, SharedPlace, file_sha256
from cache.record import Artifact
from compression.errors import ModelError
from compression.home import home
from compression.request import RunRequest

_PREFIX = "shared:"


def share_model(request: RunRequest) -> RunRequest:
    """Put the request's model where other machines find it; one that is known by name stays as it is.

    Raises:
        StoreError: the shared place cannot be written.
    """
    file = Path(request.model).expanduser()
    if not file.is_file():
        return request
    model = Artifact(name="model", file=file.name, sha256=file_sha256(file), size_bytes=file.stat().st_size)
    _place().put(model, file)
    return replace(request, model=f"{_PREFIX}{model.sha256}/{model.size_bytes}/{model.file}")


def fetch_model(request: RunRequest) -> RunRequest:
    """The request with the path that its model has on this machine, which gets it where it has not.

    Raises:
        ModelError: the shared place does not have it any more.
        StoreError: the shared place cannot be read.
    """
    if not request.model.startswith(_PREFIX):
        return request
    sha256, size, name = request.model.removeprefix(_PREFIX).split("/", 2)
    file = home() / "models" / sha256 / Path(name).name
    model = Artifact(name="model", file=name, sha256=sha256, size_bytes=int(size))
    if not file.is_file() and not _place().fetch(model, file):
        raise ModelError(f"{name!r} is not in the shared place any more; queue the run anew where you have the file.")
    return replace(request, model=str(file))


def _place() -> SharedPlace:
    """Where TRIMBOARD_ARTIFACTS says; without it a folder of the data folder, which is shared then."""
    return SharedPlace(os.environ.get(PLACE_VARIABLE) or str(home() / "inputs"))
