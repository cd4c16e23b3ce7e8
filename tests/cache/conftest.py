from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cache.store import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of its own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("TRIMBOARD_HOME", str(folder))
    return folder


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """An empty folder of shipped results."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    return folder


@pytest.fixture
def store(home: Path, shipped: Path) -> Iterator[Store]:
    store = Store(shipped=shipped)
    yield store
    store.close()
