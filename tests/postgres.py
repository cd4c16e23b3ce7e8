"""A PostgreSQL server of our own, from Debian's packages, for as long as tests or a benchmark need it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

PASSWORD = "p@ss:wo/rd"
# The same as it stands in an address.
QUOTED_PASSWORD = "p%40ss%3Awo%2Frd"
USER = "trimboard"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`; None where they are not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name)
    on_path = shutil.which("initdb")
    folders = [*reversed(debian), *([Path(on_path).parent] if on_path else [])]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Server:
    """A server on a free port of this machine, with a user that has a password.

    Attributes:
        port: it listens on.
    """

    def __init__(self, folder: Path, port: int) -> None:
        found = programs()
        assert found is not None
        self.port, self._programs, self._folder = port, found, folder
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            # PostgreSQL does not run as root.
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        self._run("initdb", "-U", USER, "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8")

    def start(self) -> None:
        """Start it and wait until it answers. What is written is not made safe against a loss of power."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def address(self, database: str) -> str:
        """The address of a database, with user and password."""
        return f"postgresql+psycopg://{USER}:{QUOTED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """The address of an empty database, which is dropped afterwards."""
        name = f"test_{uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield self.address(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        as_other = "postgres" if os.geteuid() == 0 else None
        command = [str(self._programs / program), "-D", str(self._folder / "data"), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=os.environ | {"LC_ALL": "C"},
            check=False,
            user=as_other,
            group=as_other,
            extra_groups=[] if as_other else None,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running_server() -> Iterator[Server]:
    """A new server, gone with its data afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trimboard-postgres-"))
    try:
        server = Server(folder, _free_port())
        server.start()
        yield server
    finally:
        with suppress(AssertionError, UnboundLocalError):
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
