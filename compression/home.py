"""Where Trimboard keeps what belongs to the user: results, runs, data sets, downloaded weights."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def home() -> Path:
    """The data folder, created on first use; the environment variable TRIMBOARD_HOME moves it."""
    moved = os.environ.get("TRIMBOARD_HOME")
    folder = Path(moved).expanduser().resolve() if moved else user_data_path("trimboard", appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_folder(key: str) -> Path:
    """The folder of one run, named by its spec's key; not created."""
    return home() / "runs" / key
