"""What every test shares: no network, a data folder of its own, and a small drawn data set."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Ultralytics reads these when it is imported, so they are set before any test module is.
_CONFIG = Path(tempfile.mkdtemp(prefix="trimboard-tests-"))
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = str(_CONFIG)
# One thread is enough for models this small; several spin for each other where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _place_font() -> None:
    """Give Ultralytics a font under the name it would otherwise download."""
    from matplotlib import get_data_path

    folder = _CONFIG / "Ultralytics"
    folder.mkdir()
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        shutil.copy(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", folder / name)


def pytest_sessionstart(session: pytest.Session) -> None:
    _place_font()


def pytest_sessionfinish(session: pytest.Session) -> None:
    shutil.rmtree(_CONFIG, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test keeps its results, runs and data sets in a folder of its own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TRIMBOARD_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of 12 training and 6 validation images of `shapes`; not to be changed."""
    from compression.shapes import draw_dataset

    return draw_dataset(tmp_path_factory.mktemp("tiny") / "tiny-shapes", {"train": 12, "val": 6})
