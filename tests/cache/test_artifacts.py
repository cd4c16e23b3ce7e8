"""Files of results in a place that several machines share: a folder, and a bucket of a server that speaks S3."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from cache.artifacts import SharedPlace, shared_place, shown
from cache.engine import StoreError
from cache.record import Artifact, RunRecord
from cache.store import Store
from tests.cache.samples import make_record

CONTENT = b"weights of a model" * 1000


@pytest.fixture(params=["folder", "file url", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty shared place, which stores use."""
    folder = tmp_path / "shared"
    places = {"folder": lambda: str(folder), "file url": lambda: f"file://{folder}", "s3": lambda: _prefix(request)}
    url = places[request.param]()
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", url)
    return url


def _prefix(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue('bucket')}/team/results"


@pytest.fixture
def record() -> RunRecord:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    artifact = Artifact(name="checkpoint", file="compressed.pt", sha256=sha256, size_bytes=len(CONTENT))
    return make_record(artifacts=(artifact,))


def _write_file(home: Path, record: RunRecord, content: bytes = CONTENT) -> Path:
    file = home / "runs" / record.key / "compressed.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def _paths(place: str) -> list[str]:
    files, root = fsspec.url_to_fs(place)
    files.invalidate_cache()
    return sorted(str(path).removeprefix(root) for path in files.find(root))


def _spoil(place: str, record: RunRecord, content: bytes) -> None:
    with fsspec.open(f"{place}/{record.artifacts[0].sha256}/compressed.pt", "wb") as stream:
        stream.write(content)


def test_a_file_reaches_another_machine(place: str, home: Path, shipped: Path, record: RunRecord) -> None:
    file = _write_file(home, record)
    store = Store(shipped=shipped)
    store.save(record)
    assert _paths(place) == [f"/{record.artifacts[0].sha256}/compressed.pt"]
    shutil.rmtree(file.parent)
    assert store.artifact_path(record, fetch=False) is None
    assert store.artifact_path(record) == file
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir()] == ["compressed.pt"]
    # It is here now.
    assert store.artifact_path(record, fetch=False) == file
    store.close()


def test_the_file_is_there_before_the_result_is(place: str, home: Path, shipped: Path, record: RunRecord) -> None:
    _write_file(home, record)
    store = Store(shipped=shipped)
    seen = []

    class Watched(SharedPlace):
        def put(self, artifact: Artifact, file: Path) -> None:
            seen.append(store.find(record.key))
            super().put(artifact, file)

    store._place = Watched(place)
    store.save(record)
    assert seen == [None]
    assert store.find(record.key) == record
    store.close()


@pytest.mark.parametrize("content", [b"short", b"W" + CONTENT[1:], b""])
def test_a_damaged_file_is_not_taken(place: str, home: Path, shipped: Path, record: RunRecord, content: bytes) -> None:
    file = _write_file(home, record)
    store = Store(shipped=shipped)
    store.save(record)
    file.unlink()
    _spoil(place, record, content)
    assert store.artifact_path(record) is None
    assert list(file.parent.iterdir()) == []
    # To save it again repairs it.
    _write_file(home, record)
    store.save(record)
    file.unlink()
    assert store.artifact_path(record) == file
    store.close()


def test_a_file_that_nobody_has_is_none(place: str, home: Path, shipped: Path, record: RunRecord) -> None:
    store = Store(shipped=shipped)
    store.save(record)
    assert store.artifact_path(record) is None
    assert _paths(place) == []
    store.close()


def test_a_later_result_takes_no_file_away(place: str, home: Path, shipped: Path, record: RunRecord) -> None:
    store = Store(shipped=shipped)
    file = _write_file(home, record)
    store.save(record)
    other = b"other weights"
    sha256 = hashlib.sha256(other).hexdigest()
    later = replace(record, artifacts=(replace(record.artifacts[0], sha256=sha256, size_bytes=len(other)),))
    _write_file(home, record, other)
    store.save(later)
    file.unlink()
    assert store.artifact_path(record) == file
    assert file.read_bytes() == CONTENT
    store.close()


def test_a_name_cannot_point_out_of_the_place(place: str, home: Path, shipped: Path, record: RunRecord) -> None:
    outside = replace(record, artifacts=(replace(record.artifacts[0], file="../../out.pt"),))
    file = _write_file(home, record).rename(home / "runs" / record.key / "out.pt")
    store = Store(shipped=shipped)
    store.save(outside)
    file.unlink()
    assert _paths(place) == [f"/{record.artifacts[0].sha256}/out.pt"]
    assert store.artifact_path(outside) == file
    store.close()


def test_without_a_shared_place_files_stay_where_they_are(home: Path, shipped: Path, record: RunRecord) -> None:
    assert shared_place() is None
    file = _write_file(home, record)
    store = Store(shipped=shipped)
    store.save(record)
    assert store.artifact_path(record) == file
    store.close()


def test_a_bucket_that_is_not_there_is_told_and_not_made(
    bucket: str, home: Path, shipped: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", f"{bucket}-typo/x")
    _write_file(home, record)
    store = Store(shipped=shipped)
    with pytest.raises(StoreError) as caught:
        store.save(record)
    assert f"The shared files in {bucket}-typo/x cannot be used: " in str(caught.value)
    assert "secret-of-tester" not in str(caught.value)
    # A result whose file nobody else can get is not shown to anybody.
    assert store.find(record.key) is None
    assert not fsspec.filesystem("s3").exists(f"{bucket}-typo")
    store.close()


def test_a_server_that_is_away_is_told(
    bucket: str, home: Path, shipped: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", bucket)
    fsspec.filesystem("s3").clear_instance_cache()
    store = Store(shipped=shipped)
    with pytest.raises(StoreError, match=r"The shared files in s3://test-\w+ cannot be used: .*Check that"):
        store.artifact_path(record)
    fsspec.filesystem("s3").clear_instance_cache()
    store.close()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, record: RunRecord) -> None:
    (tmp_path / "file").write_text("in the way")
    place = SharedPlace(str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"cannot be used: .*Check that TRIMBOARD_ARTIFACTS is right"):
        place.put(record.artifacts[0], Path(__file__))


def test_an_unknown_kind_of_place_is_told() -> None:
    with pytest.raises(StoreError) as caught:
        SharedPlace("magic://me:my-secret@host/folder")
    assert str(caught.value) == (
        "The shared files in magic://host/folder cannot be used: Protocol not known: magic. "
        "Check that TRIMBOARD_ARTIFACTS is right, and that you may read and write there."
    )


def test_a_missing_package_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(StoreError) as caught:
        SharedPlace("s3://my-key:my-secret@bucket/folder")
    assert str(caught.value) == (
        "The package for s3://bucket/folder is not installed; run: pip install 'trimboard[cluster]'"
    )


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("ftp://me:p@ss/w@host/folder", "ftp://host/folder"),
        ("https://host/folder?token=abc", "https://host/folder"),
        ("/mnt/team results", "/mnt/team results"),
    ],
)
def test_a_place_is_shown_without_secrets(url: str, text: str) -> None:
    assert shown(url) == text
