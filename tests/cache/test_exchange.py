"""Results handed from one store to another, and files that are not what they say."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cache import exchange
from cache.exchange import ExchangeError, export_results, import_results
from cache.record import Artifact, RunRecord
from cache.shipped import load_shipped
from cache.store import Store
from tests.cache.samples import make_record, make_spec

# Whoever unpickles it ends the process.
CONTENT = b"cos\n_exit\n(I3\ntR."
ARTIFACT = Artifact(
    name="checkpoint", file="compressed.pt", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT)
)
FIRST = make_record(artifacts=(ARTIFACT,))
SECOND = make_record(make_spec(level=2, data="bccd", data_source="/home/me/bccd.yaml"), model="yolo26s", artifacts=())


def _write_file(home: Path, record: RunRecord = FIRST, content: bytes = CONTENT) -> Path:
    file = home / "runs" / record.key / "compressed.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.fixture
def file(tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export of two results, one of them with its checkpoint, of a store elsewhere."""
    exported, elsewhere = tmp_path / "results.zip", tmp_path / "elsewhere"
    with monkeypatch.context() as there:
        there.setenv("TRIMBOARD_HOME", str(elsewhere))
        there.delenv("TRIMBOARD_DB", raising=False)
        store = Store(shipped=shipped)
        for record in (FIRST, SECOND):
            store.save(record)
        _write_file(elsewhere)
        export_results(store, exported, checkpoints=True)
        store.close()
    return exported


@pytest.fixture
def plain_store(home: Path, shipped: Path) -> Iterator[Store]:
    """A store in a file: what is refused does not get as far as the database."""
    store = Store(shipped=shipped)
    yield store
    store.close()


def _states(store: Store, file: Path, **options: bool) -> dict[str, tuple[str, int]]:
    return {one.record.key: (one.state, one.n_files) for one in import_results(store, file, **options)}


def test_results_and_checkpoints_reach_another_store(store: Store, home: Path, file: Path) -> None:
    assert _states(store, file) == {FIRST.key: ("added", 1), SECOND.key: ("added", 0)}
    assert store.records() == [FIRST.without_places(), SECOND.without_places()]
    assert len(store.table()) == len(store.heads()) == 2
    checkpoint = store.artifact_path(FIRST)
    assert checkpoint == home / "runs" / FIRST.key / "compressed.pt"
    assert checkpoint.read_bytes() == CONTENT
    # Nothing is left of what was unpacked.
    assert not list(home.glob("import-*"))


def test_paths_of_the_exporting_machine_are_not_handed_on(store: Store, file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".json")]
    assert len(texts) == 3
    assert not any("/home/me" in text or "weights/" in text for text in texts)
    import_results(store, file)
    found = store.find(SECOND.key)
    assert found is not None
    assert found.spec is not None
    assert (found.spec.model, found.spec.data_source, found.spec.key) == ("my-yolo26n", "bccd", SECOND.key)


def test_what_is_the_same_is_skipped(store: Store, file: Path) -> None:
    store.save(SECOND)
    import_results(store, file)
    assert _states(store, file) == {FIRST.key: ("same", 0), SECOND.key: ("same", 0)}
    # The own one still knows where its data are.
    assert store.find(SECOND.key) == SECOND


def test_a_checkpoint_that_was_missing_is_taken(store: Store, file: Path) -> None:
    store.save(FIRST)
    assert _states(store, file)[FIRST.key] == ("same", 1)
    assert store.artifact_path(FIRST) is not None


def test_a_conflict_keeps_ones_own_unless_told_otherwise(store: Store, home: Path, file: Path) -> None:
    own_content = b"weights of my own, longer"
    own = replace(FIRST, warnings=("Mine.",), artifacts=(_artifact(own_content),))
    own_file = _write_file(home, own, own_content)
    store.save(own)
    assert _states(store, file) == {FIRST.key: ("conflict", 0), SECOND.key: ("added", 0)}
    assert store.find(FIRST.key) == own
    assert own_file.read_bytes() == own_content
    assert _states(store, file, replace=True) == {FIRST.key: ("replaced", 1), SECOND.key: ("same", 0)}
    assert store.find(FIRST.key) == FIRST.without_places()
    assert own_file.read_bytes() == CONTENT


def _artifact(content: bytes) -> Artifact:
    return replace(ARTIFACT, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def test_a_shipped_result_is_no_new_one(home: Path, shipped: Path, file: Path) -> None:
    (shipped / "level5.json").write_text(json.dumps(FIRST.without_places().to_dict()))
    load_shipped.cache_clear()
    store = Store(shipped=shipped)
    assert _states(store, file)[FIRST.key][0] == "same"
    assert store.own_keys() == [SECOND.key]
    store.close()


@pytest.mark.parametrize(
    ("chosen", "keys"),
    [({"model": "yolo26s"}, {SECOND.key}), ({"data": "shapes"}, {FIRST.key}), ({}, {FIRST.key, SECOND.key})],
)
def test_some_can_be_exported(store: Store, tmp_path: Path, chosen: dict[str, Any], keys: set[str]) -> None:
    for record in (FIRST, SECOND):
        store.save(record)
    done = export_results(store, tmp_path / "some.zip", **chosen)
    assert {one.record.key for one in done} == keys
    assert {(one.state, one.n_files) for one in done} == {("exported", 0)}
    with zipfile.ZipFile(tmp_path / "some.zip") as archive:
        assert set(archive.namelist()) == {"manifest.json", *(f"records/{key}.json" for key in keys)}


def test_results_of_one_file_are_exported_once(store: Store, home: Path, tmp_path: Path) -> None:
    twin = make_record(make_spec(seed=5), artifacts=(ARTIFACT,))
    for record in (FIRST, twin):
        store.save(record)
        _write_file(home, record)
    done = export_results(store, tmp_path / "twins.zip", checkpoints=True)
    assert [one.n_files for one in done] == [1, 1]
    for record in (FIRST, twin):
        (home / "runs" / record.key / "compressed.pt").unlink()
    assert set(_states(store, tmp_path / "twins.zip").values()) == {("same", 1)}
    assert all(store.artifact_path(record) for record in (FIRST, twin))


def test_a_checkpoint_that_was_changed_since_is_not_handed_on(store: Store, home: Path, tmp_path: Path) -> None:
    store.save(FIRST)
    _write_file(home, content=b"X" * len(CONTENT))
    assert [one.n_files for one in export_results(store, tmp_path / "r.zip", checkpoints=True)] == [0]


def test_nothing_to_export_is_told_and_no_file_is_left(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="no results of your own of yolo99 on any data set to export"):
        export_results(store, tmp_path / "none.zip", model="yolo99")
    assert not list(tmp_path.glob("none.zip*"))


def test_a_file_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    store.save(FIRST)
    with pytest.raises(ExchangeError, match=r"nowhere/r\.zip' cannot be written \(No such file or directory\)"):
        export_results(store, tmp_path / "nowhere" / "r.zip")


Change = Callable[[dict[str, bytes]], None]


def _changed(file: Path, change: Change, compression: int = zipfile.ZIP_STORED) -> Path:
    """The file with other contents, whose manifest fits them unless `change` writes one."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    before = contents["manifest.json"]
    change(contents)
    if contents["manifest.json"] == before:
        contents["manifest.json"] = _manifest(contents)
    changed = file.with_name("changed.zip")
    with zipfile.ZipFile(changed, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return changed


def _manifest(contents: dict[str, bytes], **further: Any) -> bytes:
    files = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in contents.items()
        if name != "manifest.json"
    }
    return json.dumps({"format": "trimboard-results", "version": 1, "files": files, **further}).encode()


RECORD_NAME = f"records/{FIRST.key}.json"
FILE_NAME = f"artifacts/{ARTIFACT.sha256}/compressed.pt"


def _with_record(**fields: Any) -> Change:
    def change(contents: dict[str, bytes]) -> None:
        contents[RECORD_NAME] = json.dumps({**json.loads(contents[RECORD_NAME]), **fields}).encode()

    return change


def _with_file(name: str, content: bytes = b"x") -> Change:
    return lambda contents: contents.update({name: content})


def _without(name: str) -> Change:
    def change(contents: dict[str, bytes]) -> None:
        del contents[name]

    return change


def _unlisted(change: Change) -> Change:
    """Change the contents and leave the manifest as it was."""

    def both(contents: dict[str, bytes]) -> None:
        before = contents["manifest.json"]
        change(contents)
        contents["manifest.json"] = before + b" "

    return both


BROKEN: dict[str, tuple[Change, str]] = {
    "record changed": (_unlisted(_with_record(created="2020-01-01")), "is damaged: 'records/"),
    "checkpoint changed": (_unlisted(_with_file(FILE_NAME, b"X" * len(CONTENT))), "is damaged: 'artifacts/"),
    "checkpoint of another hash": (_with_file(FILE_NAME, b"X" * len(CONTENT)), "is damaged: 'artifacts/"),
    "checkpoint of another size": (_with_file(FILE_NAME, b"X"), "is damaged: 'records/"),
    "checkpoint of nobody": (_with_file(f"artifacts/{'0' * 64}/x.pt"), "is damaged: 'artifacts/"),
    "record missing": (_unlisted(_without(RECORD_NAME)), "is damaged: 'manifest.json'"),
    "file not listed": (_unlisted(_with_file(f"records/{'0' * 64}.json")), "is damaged: 'manifest.json'"),
    "manifest empty": (_with_file("manifest.json", b"{}"), "is damaged: 'manifest.json'"),
    "manifest no object": (_with_file("manifest.json", b"[1]"), "is damaged: 'manifest.json'"),
    "manifest nested": (_with_file("manifest.json", b"[" * 100_000), "is damaged: 'manifest.json'"),
    "other format": (
        _with_file("manifest.json", _manifest({}, format="other")),
        "has the form 'other' 1; this program",
    ),
    "other version": (_with_file("manifest.json", _manifest({}, version=2)), "has the form 'trimboard-results' 2;"),
    "leaves its folder": (_with_file("../../evil.sh"), "holds '../../evil.sh', which is no part of an export"),
    "leaves its folder later": (_with_file(f"artifacts/{'0' * 64}/.."), "which is no part of an export"),
    "absolute": (_with_file("/etc/cron.d/evil"), "holds '/etc/cron.d/evil', which is no part of an export"),
    "backslash": (_with_file(f"artifacts/{'0' * 64}/..\\evil"), "which is no part of an export"),
    "record of another version": (
        _with_record(version=2),
        "cannot be read: A result has version 2; this program reads",
    ),
    "spec of another version": (
        _with_record(spec={**FIRST.without_places().to_dict()["spec"], "version": 9}),
        "This run was specified as version 9",
    ),
    "record no JSON": (_with_file(RECORD_NAME, b"{half"), "cannot be read: Stored data are not JSON"),
    "record no text": (_with_file(RECORD_NAME, b"\xff\xfe"), "cannot be read: 'utf-8' codec"),
    "record nested": (_with_file(RECORD_NAME, b"[" * 100_000), "cannot be read: "),
    "text for a number": (
        _with_record(costs={**FIRST.to_dict()["costs"], "gflops": "2"}),
        "cannot be read: Its costs.gflops is of another kind.",
    ),
    "number too large": (
        _with_record(costs={**FIRST.to_dict()["costs"], "params": 10**30}),
        "cannot be put into a table",
    ),
    "no Unicode": (_with_record(source="\ud800"), "cannot be put into a table"),
    "no date": (_with_record(created="yesterday"), "cannot be read: Invalid isoformat string"),
    "other key": (_with_record(key="f" * 64), "is damaged: 'records/"),
    "other question": (
        _with_record(spec=SECOND.without_places().to_dict()["spec"]),
        "which answers another question; nothing is taken.",
    ),
    "published": (_with_record(provenance="published", spec=None), "which answers another question"),
    "file that leaves its folder": (
        _with_record(artifacts=[{**FIRST.to_dict()["artifacts"][0], "file": "../../evil.pt"}]),
        "is damaged: 'records/",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_not_whole_is_refused_as_a_whole(plain_store: Store, home: Path, file: Path, case: str) -> None:
    change, reason = BROKEN[case]
    _refused(plain_store, home, _changed(file, change), reason)


def _refused(store: Store, home: Path, file: Path, reason: str) -> None:
    with pytest.raises(ExchangeError) as caught:
        import_results(store, file)
    message = str(caught.value)
    assert reason in message
    assert message.startswith(f"{str(file)!r} ")
    assert message.endswith((".", "one."))
    assert store.own_keys() == []
    assert not (home / "runs").exists()
    assert not list(home.glob("import-*"))
    assert not (home.parent / "evil.sh").exists()


def test_a_file_cut_short_is_refused(plain_store: Store, home: Path, file: Path) -> None:
    cut = file.with_name("cut.zip")
    cut.write_bytes(file.read_bytes()[:-200])
    _refused(plain_store, home, cut, "is damaged, or no export of results: File is not a zip file.")


def test_a_flipped_byte_is_noticed_wherever_it_is(plain_store: Store, home: Path, file: Path) -> None:
    whole = file.read_bytes()
    flipped = file.with_name("flipped.zip")
    n_refused = 0
    for position in range(0, len(whole), 37):
        content = bytearray(whole)
        content[position] ^= 0xFF
        flipped.write_bytes(content)
        before = plain_store.own_keys()
        try:
            import_results(plain_store, flipped)
        except ExchangeError:
            n_refused += 1
            assert plain_store.own_keys() == before
        else:
            # A date or a mark of the zip, which nothing depends on.
            assert plain_store.records() == [FIRST.without_places(), SECOND.without_places()]
    assert n_refused > 0.5 * len(whole) / 37


def test_another_zip_and_a_missing_file_are_refused(plain_store: Store, home: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    _refused(
        plain_store, home, tmp_path / "other.zip", "is no export of results; `trimboard export-results` writes one."
    )
    _refused(plain_store, home, tmp_path / "none.zip", "cannot be read or written (No such file or directory).")


@pytest.mark.parametrize("name", [RECORD_NAME, "manifest.json"])
def test_a_bomb_is_not_unpacked(
    plain_store: Store, home: Path, file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = _changed(file, _with_file(name, b" " * 10_000_000), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    _refused(
        plain_store, home, bomb, f"holds {name!r}, which unpacks to more than 100 times its size; nothing is taken."
    )


def test_a_checkpoint_has_to_lie_there_uncompressed(plain_store: Store, home: Path, file: Path) -> None:
    _refused(plain_store, home, _changed(file, lambda contents: None, zipfile.ZIP_DEFLATED), "is damaged: 'artifacts/")


def test_a_result_larger_than_any_is_refused(
    plain_store: Store, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_RECORD_BYTES", 100)
    _refused(plain_store, home, file, "which is larger than any result; nothing is taken.")


def test_two_files_of_one_name_are_refused(plain_store: Store, home: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(RECORD_NAME, b"{}")
    _refused(plain_store, home, file, "is damaged: 'manifest.json'")


def test_a_disk_that_is_too_small_is_told_before_anything_is_unpacked(
    plain_store: Store, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1

    monkeypatch.setattr("shutil.disk_usage", lambda folder: Usage)
    with pytest.raises(ExchangeError, match=r"need 0\.0 GB, and '.*' has 0\.0 GB left; make room, or set"):
        import_results(plain_store, file)


@pytest.fixture
def failing_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose transaction fails in the last moment."""
    merge = store.merge

    def failing(records: Any, *, replace: bool, settle: Any) -> Any:
        def settle_and_fail(outcome: Any) -> None:
            settle(outcome)
            raise KeyboardInterrupt

        return merge(records, replace=replace, settle=settle_and_fail)

    monkeypatch.setattr(store, "merge", failing)
    return store


def test_nothing_is_half_imported(failing_store: Store, home: Path, file: Path) -> None:
    own_content = b"weights of my own, longer"
    own = replace(FIRST, warnings=("Mine.",), artifacts=(_artifact(own_content),))
    own_file = _write_file(home, own, own_content)
    failing_store.save(own)
    with pytest.raises(KeyboardInterrupt):
        import_results(failing_store, file, replace=True)
    assert failing_store.records() == [own]
    assert own_file.read_bytes() == own_content
    assert list(own_file.parent.iterdir()) == [own_file]
    assert not list(home.glob("import-*"))


def test_imported_files_are_shared_too(
    bucket: str, home: Path, shipped: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", bucket)
    home.mkdir()
    store = Store(shipped=shipped)
    import_results(store, file)
    (home / "runs" / FIRST.key / "compressed.pt").unlink()
    assert store.artifact_path(FIRST) is not None
    # And what is only shared is exported.
    (home / "runs" / FIRST.key / "compressed.pt").unlink()
    assert {one.n_files for one in export_results(store, file.with_name("again.zip"), checkpoints=True)} == {0, 1}
    store.close()
