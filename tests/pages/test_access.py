"""Who may do what on each page; no server is started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.record import Progress
from cache.store import Store, plan_key
from compression.deployment.exported import exports_folder, save_export
from compression.home import run_folder
from compression.jobs import local, worker
from compression.request import RunRequest
from pages.parts import access, results
from pages.parts.access import is_for_this_machine_only
from tests import factories
from tests.compression.deployment.test_exported import record_of

ROOT = Path(__file__).parents[2]
PAGES = ["explore", "device", "detections", "runs", "deploy", "bring"]
# What starts something, changes something, or names a place of the server.
ACTING = ["button", "file_uploader", "text_input", "number_input", "checkbox", "popover"]


@pytest.fixture(autouse=True)
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What would have been started; neither shipped results, nor the store of an earlier test."""
    noted: list[object] = []

    def note(*arguments: object) -> None:
        noted.append(arguments)
        raise OSError("no processes in this test")

    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    monkeypatch.setattr(local, "_start", note)
    monkeypatch.setattr(worker, "is_at_work", lambda: False)
    st.cache_resource.clear()
    yield noted
    st.cache_resource.clear()


@pytest.fixture
def much_to_do() -> Store:
    """Results with a checkpoint and an exported file, a level to measure, and runs in each state."""
    store = Store()
    for level in (0, 2):
        record = factories.with_checkpoint(factories.record(level), b"weights", sha256_of(level))
        store.save(record)
        place = run_folder(record.key) / "best.pt"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"weights")
    folder = exports_folder(sha256_of(2))
    folder.mkdir(parents=True)
    (folder / "best.onnx").write_bytes(b"a file")
    save_export(record_of(folder / "best.onnx"))
    for level, state in ((1, "running"), (3, "queued"), (4, "failed")):
        spec = factories.spec(level)
        store.queue.submit(spec, RunRequest(model=spec.model, data=spec.data, level=level), lanes="cpu")
        if state != "queued":
            store.queue.take(spec.key, pid=os.getpid())
        if state == "failed":
            store.queue.end(spec.key, "failed", "No space is left.")
    store.queue.tell(factories.spec(1).key, Progress(stage="fine-tuning"))
    return store


def sha256_of(level: int) -> str:
    """Of the checkpoint of a level; that of the original is what all others were cut from."""
    return "ab" * 32 if level == 0 else f"{level}f" * 32


def open_page(name: str, user: dict[str, Any] | None = None, **query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    page.secrets = {"auth": {"google": {"client_id": "an id"}}}
    page.user = user or {}
    page.query_params.update(query)
    page = page.switch_page(f"pages/{name}.py").run()
    assert not page.exception
    return page


def acting(page: AppTest) -> list[str]:
    found = [f"{kind} {getattr(each, 'label', '')}" for kind in ACTING for each in page.get(kind)]
    # A budget only asks which level is shown.
    return [one for one in found if not one.startswith("number_input At most")]


@pytest.mark.parametrize("name", PAGES)
def test_a_server_open_to_a_network_shows_results_only(
    much_to_do: Store, monkeypatch: pytest.MonkeyPatch, started: list[object], name: str
) -> None:
    assert acting(open_page(name, level="3"))
    started.clear()
    monkeypatch.setattr(access, "is_for_this_machine_only", lambda *arguments: False)
    # A level that was measured, and one that was not.
    for level in ("2", "3") if name == "explore" else ("2",):
        page = open_page(name, level=level)
        assert acting(page) == []
        assert page.caption[0].value.startswith(":material/lock: This server can be reached from a network")
        shown = [button.key for button in page.get("download_button")]
        assert shown == (["csv", "json", "report"] if name == "explore" else [])
    assert started == []


def test_results_are_still_there(much_to_do: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(access.ACCESS, access.RESULTS)
    assert open_page("explore", level="2").metric[0].value == "0.704"
    for level in (3, 4):
        much_to_do.save_plan(plan_key("", sha256_of(0), 10, 320, level), factories.plan(level))
    assert "1.32" in [metric.value for metric in open_page("explore", level="3").metric]
    assert "In the queue (1)" in [each.value for each in open_page("runs").header]
    assert "**ONNX**" in "".join(each.value for each in open_page("deploy").markdown)


@pytest.mark.parametrize(
    ("address", "allowed_hosts", "headers", "expected"),
    [
        ("127.0.0.1", ["127.0.0.1", "localhost"], {}, True),
        ("::1", [], {"Host": "[::1]:8501", "Origin": "http://[::1]:8501"}, True),
        ("localhost", ["localhost"], {"Host": "localhost:8501", "Origin": "http://localhost:8501"}, True),
        (None, ["127.0.0.1"], {"Host": "127.0.0.1:8501"}, False),
        ("0.0.0.0", [], {"Host": "127.0.0.1:8501"}, False),
        # Behind a proxy on the same machine.
        ("127.0.0.1", ["127.0.0.1", "yolo.example.com"], {}, False),
        ("127.0.0.1", [], {"Host": "yolo.example.com"}, False),
        ("127.0.0.1", ["127.0.0.1"], {"Host": "127.0.0.1:8501", "Origin": "https://yolo.example.com"}, False),
        ("127.0.0.1", ["127.0.0.1"], {"Host": "127.0.0.1:8501", "X-Forwarded-For": "192.0.2.1"}, False),
        ("127.0.0.1", [], {"Host": ""}, False),
        ("unix:///run/trimboard.sock", [], {}, False),
    ],
)
def test_what_counts_as_this_machine_only(
    address: str | None, allowed_hosts: list[str], headers: dict[str, str], expected: bool
) -> None:
    assert is_for_this_machine_only(address, allowed_hosts, headers) is expected


def test_an_open_server_is_for_all(much_to_do: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "is_for_this_machine_only", lambda *arguments: False)
    monkeypatch.setenv(access.ACCESS, access.OPEN)
    assert "button Cancel" in acting(open_page("runs"))


def test_a_setting_that_is_mistyped_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(access.ACCESS, "opne")
    page = open_page("explore")
    assert [each.value for each in page.error] == [
        "TRIMBOARD_ACCESS is 'opne'; set it to open or results, or to nothing."
    ]
    assert not page.metric


def test_what_a_page_has_drawn_before_does_nothing_any_more(
    much_to_do: Store, monkeypatch: pytest.MonkeyPatch, started: list[object]
) -> None:
    runs, explore = open_page("runs"), open_page("explore", level="3")
    started.clear()
    monkeypatch.setenv(access.ACCESS, access.RESULTS)
    before = much_to_do.queue.runs()
    for label in ("Cancel", "Remove", "Resume"):
        next(each for each in runs.button if each.label == label).click()
    assert not runs.run().exception
    assert much_to_do.queue.runs() == before
    assert not next(each for each in explore.button if "Measure level" in each.label).click().run().exception
    assert started == []


class TestWithALogin:
    """With an [auth] section in the secrets, which st.user tells by `is_logged_in`."""

    NOBODY: ClassVar[dict[str, Any]] = {"is_logged_in": False}
    ANN: ClassVar[dict[str, Any]] = {"is_logged_in": True, "email": "Ann@example.com", "email_verified": True}

    @pytest.fixture(autouse=True)
    def authlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: True)))

    @pytest.mark.parametrize("name", PAGES)
    def test_nothing_is_seen_before_it(self, much_to_do: Store, name: str) -> None:
        page = open_page(name, self.NOBODY)
        assert [each.value for each in page.title] == ["Trimboard"]
        assert [each.label for each in page.button] == ["Log in with Google"]
        assert not page.get("page_link")

    def test_the_button_begins_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str | None] = []
        monkeypatch.setattr(st, "login", asked.append)
        open_page("explore", self.NOBODY).button[0].click().run()
        assert asked == ["google"]

    def test_what_it_needs_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
        page = open_page("explore", self.NOBODY)
        assert "pip install 'trimboard[login]'" in page.error[0].value
        assert not page.button

    def test_who_logs_in_may_act(self, much_to_do: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access, "is_for_this_machine_only", lambda *arguments: False)
        found = acting(open_page("runs", self.ANN))
        assert "button Log out" in found
        assert "button Cancel" in found

    def test_results_may_be_seen_by_all(self, much_to_do: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(access.ACCESS, access.RESULTS)
        page = open_page("runs", self.NOBODY)
        assert acting(page) == ["button Log in with Google"]
        assert page.header[0].value == "At work"
        assert "button Cancel" in acting(open_page("runs", self.ANN))

    @pytest.mark.parametrize("asked", ["", access.RESULTS])
    def test_being_on_this_machine_does_not_stand_for_it(self, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(access.ACCESS, asked)
        assert "button Check and add" not in acting(open_page("bring", self.NOBODY))

    @pytest.mark.parametrize(
        ("users", "changes", "expected"),
        [
            ("", {}, True),
            ("ann@EXAMPLE.com, bob@example.org", {}, True),
            ("@example.com", {}, True),
            ("bob@example.org,@example.org", {}, False),
            # Another domain that ends alike.
            ("@example.com", {"email": "ann@evil-example.com"}, False),
            ("@example.com", {"email": "ann@example.com@evil.org"}, False),
            ("@example.com", {"email_verified": False}, False),
            ("@example.com", {"email": None}, False),
        ],
    )
    def test_only_those_who_are_named_are_let_in(
        self, monkeypatch: pytest.MonkeyPatch, users: str, changes: dict[str, Any], expected: bool
    ) -> None:
        monkeypatch.setenv(access.USERS, users)
        page = open_page("runs", self.ANN | changes)
        assert bool(page.error) is not expected
        assert [each.label for each in page.button] == ["Log out"]
        assert page.title[0].value == ("Runs" if expected else "Trimboard")
