"""Where Trimboard keeps what belongs to the user: results, runs, data sets, downloaded weights."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from compression.errors import HomeError


def home() -> Path:
    """The data folder, created on first use; the environment variable TRIMBOARD_HOME moves it.

    Raises:
        HomeError: it cannot be created.
    """
    moved = os.environ.get("TRIMBOARD_HOME")
    folder = Path(moved).expanduser().resolve() if moved else user_data_path("trimboard", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"The data folder {str(folder)!r} cannot be created ({error.strerror}); "
            f"set TRIMBOARD_HOME to a folder that is yours."
        ) from error
    return folder


def run_folder(key: str) -> Path:
    """The folder of one run, named by its spec's key; not created."""
    return home() / "runs" / key
