"""The rooms of the engine stand one above the other: no module imports one of a room above its own, see docs/code.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "compression"
# From the ground up. What lies beside the rooms is either what all of them stand on, or what puts them together.
ROOMS = ("", "graph", "models", "data", "accuracy", "deployment", "pruning", "training", "the run", "jobs", "cli")
OF_THE_RUN = ("brought", "life", "rounds", "pipeline")
MODULES = sorted(file for file in ENGINE.rglob("*.py") if file.name != "__init__.py")


def room_of(module: str) -> str:
    """The room of a module by its dotted name."""
    _, first, *rest = module.split(".")
    if first == "__main__":
        return "cli"
    return first if rest or first in ROOMS else "the run" if first in OF_THE_RUN else ""


def imported(file: Path) -> Iterator[str]:
    """Modules of the engine that a module imports, also where only a function needs them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "compression":
            assert node.module
            inner = ENGINE.joinpath(*node.module.split(".")[1:])
            yield from (f"{node.module}.{name.name}" for name in node.names) if inner.is_dir() else (node.module,)


def test_each_room_stands_on_those_below() -> None:
    above = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in MODULES
        for module in imported(file)
        if ROOMS.index(room_of(module)) > ROOMS.index(room_of(".".join(file.relative_to(ROOT).with_suffix("").parts)))
    ]
    assert above == []


def test_every_room_is_one_of_these() -> None:
    folders = {file.parent.name for file in MODULES} - {"compression"}
    assert folders == {room for room in ROOMS if room not in ("", "the run")}


@pytest.mark.parametrize("package", ["compression", "cache", "pages"])
def test_nothing_imports_the_pages_but_the_report(package: str) -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / package).rglob("*.py")
        if package != "pages" and re.search(r"^\s*(from|import) pages\b", file.read_text(encoding="utf-8"), re.M)
    }
    assert found <= {"compression/cli/report.py"}


def test_the_layout_is_written_down() -> None:
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `compression/(\w+)/`", text, re.M)
    assert written == [room for room in ROOMS if room not in ("", "the run")]
    assert all(file.stem in text for file in ENGINE.glob("*.py") if not file.stem.startswith("__"))
