"""Zips that are unpacked, and those that are refused with nothing written."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from compression.data.archive import Limits, unpack
from compression.errors import DatasetError
from tests.compression.zips import DEVICE, LINK, write_zip

SUFFIXES = ("png", "txt", "yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "unpacked"
    place.mkdir()
    return place


def files(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_what_is_wanted_is_unpacked(tmp_path: Path, folder: Path) -> None:
    file = write_zip(
        tmp_path / "a.zip",
        {
            "top/data.yaml": "names: [a]",
            "top\\images\\1.PNG": b"an image",
            "top/labels/1.txt": "",
            "top/labels.cache": b"a pickle",
            "top/run.py": "print()",
            "__MACOSX/top/images/._1.png": b"",
            "top/.hidden/1.png": b"",
        },
    )
    unpack(file, folder, SUFFIXES)
    assert files(folder) == {"top/data.yaml", "top/images/1.PNG", "top/labels/1.txt"}
    assert (folder / "top/images/1.PNG").read_bytes() == b"an image"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "a/../../evil.txt",
        "/tmp/evil.txt",
        "..\\evil.txt",
        "C:\\evil.txt",
        "C:evil.txt",
        "a/..",
        "\\\\h\\s\\e.txt",
    ],
)
def test_nothing_leaves_the_folder(tmp_path: Path, folder: Path, name: str) -> None:
    file = write_zip(tmp_path / "a.zip", {"good.txt": "", name: "evil"})
    with pytest.raises(DatasetError, match=r"'a\.zip' holds .*, which would leave its folder; pack the folder itself"):
        unpack(file, folder, SUFFIXES)
    assert files(tmp_path) == {"a.zip"}


def test_a_name_that_no_disk_takes_is_told(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "long.zip", {f"images/{'a' * 300}.png": b"x"})
    with pytest.raises(DatasetError, match=r"'long\.zip' holds a name of more than 255 bytes .* a shorter one"):
        unpack(file, folder, SUFFIXES)
    assert files(folder) == set()


@pytest.mark.parametrize("mode", [LINK, DEVICE])
def test_links_and_devices_are_refused(tmp_path: Path, folder: Path, mode: int) -> None:
    # Also where its kind of file would not be unpacked.
    for name in ("link.txt", "link.so"):
        file = write_zip(tmp_path / "a.zip", {"good.txt": "", name: "/etc/passwd"}, modes={name: mode})
        with pytest.raises(DatasetError, match=f"holds '{name}', a link or device"):
            unpack(file, folder, SUFFIXES)
    assert files(folder) == set()


def test_limits_are_told_with_what_helps(tmp_path: Path, folder: Path) -> None:
    many = write_zip(tmp_path / "many.zip", {f"{number}.txt": "a" for number in range(11)})
    with pytest.raises(DatasetError, match=r"holds 11 files; at most 10 are unpacked\. Unpack it yourself"):
        unpack(many, folder, SUFFIXES, Limits(n_files=10))
    large = write_zip(tmp_path / "large.zip", {"large.txt": bytes(range(256)) * 5000})
    with pytest.raises(DatasetError, match=r"would unpack to 1\.3 MB; at most 1 MB"):
        unpack(large, folder, SUFFIXES, Limits(n_bytes=1_000_000, ratio=10_000))
    bomb = write_zip(tmp_path / "bomb.zip", {"bomb.txt": b"\0" * 10_000_000})
    with pytest.raises(DatasetError, match=r"would unpack to 10\.0 MB; .* 100 times its size"):
        unpack(bomb, folder, SUFFIXES)
    assert files(folder) == set()


def test_a_size_that_is_not_true_is_found_out(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "a.zip", {"a.txt": b"\0" * 1_000_000})
    size, false = (1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    content = file.read_bytes()
    assert content.count(size) == 2
    file.write_bytes(content.replace(size, false))
    with pytest.raises(DatasetError, match=r"'a\.zip' cannot be unpacked"):
        unpack(file, folder, SUFFIXES)
    assert sum(each.stat().st_size for each in folder.rglob("*.txt")) <= 10


def test_damaged_files_are_told_in_a_sentence(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "a.zip", {"a.txt": bytes(range(256)) * 100})
    whole = file.read_bytes()
    middle = len(whole) // 2
    for content in (b"", b"no zip", whole[:middle], whole[:60] + b"\xff" * 20 + whole[80:]):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"'a\.zip' cannot be unpacked: it is no zip, or damaged, cut short"):
            unpack(file, folder, SUFFIXES)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("b.txt", "b")
    with pytest.raises(DatasetError, match="compression type 14"):
        unpack(file, folder, SUFFIXES)


def test_a_password_is_told(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "a.zip", {"a.txt": "a"})
    content = bytearray(file.read_bytes())
    # The flags of the entry, in its own header and in the list of all.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"'a\.zip' has a password"):
        unpack(file, folder, SUFFIXES)


def test_a_file_in_place_of_a_folder_is_told(tmp_path: Path, folder: Path) -> None:
    file = write_zip(tmp_path / "a.zip", {"a.txt": "", "a.txt/b.txt": ""})
    with pytest.raises(DatasetError, match="a file and a folder of the same name"):
        unpack(file, folder, SUFFIXES)
