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


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of each kind, which is the one that stores are opened on."""
    home.mkdir()
    if request.param == "sqlite":
        return f"sqlite:///{home / 'trimboard.db'}"
    found: str = request.getfixturevalue("postgresql_address")
    monkeypatch.setenv("TRIMBOARD_DB", found)
    return found


@pytest.fixture
def store(address: str, shipped: Path) -> Iterator[Store]:
    store = Store(shipped=shipped)
    yield store
    store.close()
