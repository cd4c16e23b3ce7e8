"""Addresses that are wrong, servers that are away: one sentence each, and no password in it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from cache import engine
from cache.database import Database
from cache.engine import StoreError, parse_address
from cache.store import Store
from tests.cache.samples import make_record
from tests.postgres import PASSWORD, QUOTED_PASSWORD, USER, Server, running_server

SECRET = "my-secret"


def _message(address: str) -> str:
    with pytest.raises(StoreError) as caught:
        Database(address).close()
    message = str(caught.value)
    assert "\n" not in message
    for secret in (SECRET, PASSWORD, QUOTED_PASSWORD):
        assert secret not in message
        # What a traceback would show.
        assert secret not in repr(caught.value.__cause__)
    return message


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("results", "TRIMBOARD_DB is no address of a database; give postgresql+psycopg://user:password@host/database"),
        (f"postgresql+psycopg://me:a:b@host:{SECRET}/db", "TRIMBOARD_DB is no address of a database"),
        (f"postgresql+psycopg://me:x@{SECRET}@host/db", "more than one @; write one within a password as %40"),
        (f"mysql://me:{SECRET}@host/db", "speaks of 'mysql', which is not supported; give postgresql"),
        (f"postgresql+asyncpg://me:{SECRET}@host/db", "speaks of 'postgresql+asyncpg', which is not supported"),
    ],
)
def test_a_wrong_address_is_told_without_its_password(address: str, reason: str) -> None:
    assert reason in _message(address)


def test_a_postgresql_address_needs_no_driver_in_it() -> None:
    assert str(parse_address("postgres://host/db")) == str(parse_address("postgresql://host/db"))
    assert parse_address("postgresql://host/db").drivername == "postgresql+psycopg"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "trimboard.db").write_bytes(b"This is no database." * 100)
    message = _message(f"sqlite:///{tmp_path / 'trimboard.db'}")
    assert f"{tmp_path / 'trimboard.db'} cannot be used: file is not a database. Check that" in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere/t.db cannot be used: unable to open" in _message(f"sqlite:///{tmp_path}/nowhere/t.db")


def test_a_server_that_is_away_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    message = _message(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{port}/results")
    assert message.startswith(f"The results database results on 127.0.0.1:{port} cannot be used: connection ")
    assert "refused" in message
    assert message.endswith("Check that its server runs and that TRIMBOARD_DB is right.")


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        message = _message(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/results")
        assert time.monotonic() - start < 10
    assert "timeout" in message


def test_a_wrong_password_is_told_and_not_shown(postgresql: Server) -> None:
    message = _message(f"postgresql+psycopg://{USER}:{SECRET}@127.0.0.1:{postgresql.port}/postgres")
    assert 'password authentication failed for user "trimboard"' in message


def test_a_database_that_is_not_there_is_told(postgresql: Server) -> None:
    assert 'database "nowhere" does not exist' in _message(postgresql.address("nowhere"))


def test_a_missing_driver_is_told_with_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from cache.database import Database\n"
        f"try: Database('postgresql+psycopg://me:{SECRET}@host/db')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == (
        "StoreError TRIMBOARD_DB speaks of PostgreSQL, whose driver is not installed; "
        "run: pip install 'trimboard[cluster]'\n"
    )


def test_a_server_that_comes_back_is_used_again(postgresql: Server, shipped: Path) -> None:
    with running_server() as server, server.new_database() as address:
        store = Store(address, shipped=shipped)
        store.save(make_record())
        server.stop()
        with pytest.raises(StoreError, match=r"cannot be used: .*Check that its server runs"):
            store.records()
        server.start()
        assert store.records() == [make_record()]
        # And where nobody noticed that it was away.
        server.stop()
        server.start()
        store.save(make_record(warnings=("Again.",)))
        assert [record.warnings for record in store.records()] == [("Again.",)]
        store.close()


def test_whoever_waits_too_long_for_another_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 1)
    holder, other = Database(address), Database(address)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.writing():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    with pytest.raises(StoreError, match=r"locked|lock timeout"), other.writing():
        pass
    done.set()
    thread.join()
    with other.writing() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    holder.close()
    other.close()


def test_a_postgresql_session_that_falls_silent_loses_its_transaction(
    postgresql_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SILENT_TIMEOUT_S", 1)
    silent, other = Database(postgresql_address), Database(postgresql_address)

    def fall_silent() -> None:
        with silent.writing() as connection:
            connection.execute(text("INSERT INTO plans VALUES ('half', '{}')"))
            with other.writing() as further:
                assert further.scalar(text("SELECT count(*) FROM plans")) == 0
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreError, match="idle-in-transaction timeout"):
        fall_silent()
    silent.close()
    other.close()


def test_reading_cannot_write(postgresql_address: str) -> None:
    database = Database(postgresql_address)
    with pytest.raises(StoreError, match="read-only transaction"), database.reading() as connection:
        connection.execute(text("INSERT INTO plans VALUES ('k', '{}')"))
    database.close()
