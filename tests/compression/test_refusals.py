"""Inputs that cannot be used: exit code 2 and one sentence, nothing written, nothing run; and odd ones that work."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.utils import downloads

from compression.cli.main import main
from tests.compression.bad_inputs import BAD_INPUTS, HERE, MARKER, BadInput, Planted, code_that_marks, small_checkpoint
from tests.compression.cli.test_cli import trimboard
from tests.compression.small_models import build


def tree(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything under a folder with its size and time of change."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; whoever asks the network there fails."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(downloads, "safe_download", refuse)
    monkeypatch.setattr(downloads, "get_github_assets", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_corpus_is_large() -> None:
    assert len(BAD_INPUTS) >= 100
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS)


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_one_sentence_and_nothing_else(
    bad: BadInput, here: Path, own_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad.make(here)
    before = tree(here)
    with pytest.raises(SystemExit) as stopped:
        main([part.replace(HERE, str(here)) for part in bad.command])
    captured = capfd.readouterr()
    assert stopped.value.code == 2
    assert captured.out == ""
    check_sentence(captured.err, bad.says.replace(HERE, str(here)), bad.remedy)
    assert not (here / MARKER).exists()
    assert tree(here) == before
    # Results are looked up where they would be.
    assert {path.name.partition("-")[0] for path in tree(own_home)} <= {"trimboard.db"}


def check_sentence(stderr: str, says: str, remedy: str) -> None:
    """One line beside the progress, which is one sentence with all that it must say."""
    (line,) = [line for line in stderr.splitlines() if not line.startswith("[trimboard] ")]
    assert re.match(r"trimboard[ \w]*: ", line)
    assert says in line
    assert remedy in line
    assert line.endswith(".")


def test_the_planted_code_would_run(here: Path) -> None:
    # Loaded without restrictions: so that its absence means something.
    torch.save(Planted(here), here / "model.pt")
    torch.load(here / "model.pt", weights_only=False)
    assert (here / MARKER).is_dir()
    (here / MARKER).rmdir()
    build(activation=code_that_marks(here))
    assert (here / MARKER).is_dir()


@pytest.mark.parametrize("name", ["zip bomb", "code alone, zip", "data.yaml of a list"])
def test_as_a_user_types_it(name: str, here: Path) -> None:
    (bad,) = (bad for bad in BAD_INPUTS if bad.name == name)
    bad.make(here)
    before = tree(here)
    done = trimboard(*(part.replace(HERE, str(here)) for part in bad.command), cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    check_sentence(done.stderr, bad.says.replace(HERE, str(here)), bad.remedy)
    assert tree(here) == before


# The place


def test_no_space_left(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "model.pt").write_bytes(small_checkpoint())
    before, limits = tree(here), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(SystemExit) as stopped:
            main(["prune", "model.pt", "--level", "1", "--imgsz", "64", "--out", "cut.pt"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert stopped.value.code == 2
    check_sentence(capfd.readouterr().err, "File too large: 'cut.pt'", "check the place, its rights and the free space")
    assert tree(here) == before


@pytest.mark.parametrize("command", ["read", "write"])
def test_no_permission(command: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    (here / "model.pt").write_bytes(small_checkpoint())
    before, open_file = tree(here), Path.open

    def refuse(self: Path, mode: str = "r", *arguments: Any, **keys: Any) -> Any:
        # An administrator may read and write all that the rights of a file forbid.
        if self.parent == here and (command == "read" or "w" in mode):
            raise PermissionError(13, "Permission denied", str(self))
        return open_file(self, mode, *arguments, **keys)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SystemExit) as stopped:
        main(["prune", str(here / "model.pt"), "--level", "1", "--imgsz", "64", "--out", str(here / "cut.pt")])
    assert stopped.value.code == 2
    check_sentence(capfd.readouterr().err, "Permission denied", "check")
    assert tree(here) == before


# What is odd and works


@pytest.mark.parametrize(
    "name",
    [
        *("my model (2).pt", "Küche 模型 🙂.pt", "BEST.PT", "o'brien's.pt", 'said "so".pt', "a;b & $HOME.pt", " .pt"),
        *("yolov5s.pt", "rtdetr.pt", "100%.pt", "a\nb.pt", "-v.pt"),
    ],
)
def test_odd_names(name: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = here / "it's a folder, ü"
    folder.mkdir()
    (folder / name).write_bytes(small_checkpoint())
    main(["plan", str(folder / name), "--level", "1", "--imgsz", "64", "--json"])
    assert json.loads(capfd.readouterr().out)["nc"] == 3


def test_a_name_that_is_no_text(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"model\xff.pt")
    (here / name).write_bytes(small_checkpoint())
    main(["plan", name, "--level", "1", "--imgsz", "64"])
    assert capfd.readouterr().out.startswith("model\\udcff, level 1")
