"""A Ray cluster of several nodes on this machine, for as long as tests or a benchmark need it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

# All processes of a node inherit it, so that they are known from those of others.
MARK = "TRIMBOARD_RAY_NODE"
START_S = 180
# Ray wants at least 75 MB; what goes through it here is a key.
OBJECT_STORE_BYTES = 80_000_000


def is_installed() -> bool:
    """Whether Ray is there, with what `ray start` needs."""
    return importlib.util.find_spec("ray") is not None and _program().exists()


class Cluster:
    """A head and further nodes, none of which sends anything to the network.

    Attributes:
        address: of the head's dashboard, which is that of the job API.
    """

    def __init__(self, n_cpus: int) -> None:
        # Ray's sockets lie here, and the path of a socket must be short.
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._port, dashboard = _free_ports(2)
        self._n_nodes = 0
        self.address = f"http://127.0.0.1:{dashboard}"
        (client,) = _free_ports(1)
        head = ("--head", f"--port={self._port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1")
        self._start(*head, f"--ray-client-server-port={client}", f"--temp-dir={self._folder}", n_cpus=n_cpus)

    def add_node(self, n_cpus: int) -> int:
        """Start a further node; gives its number, the head's is 0."""
        return self._start(f"--address=127.0.0.1:{self._port}", n_cpus=n_cpus)

    def processes(self, node: int) -> list[psutil.Process]:
        """All processes of a node, also those that do not show their environment any more."""
        found: dict[int, psutil.Process] = {}
        # A parent comes before its children, whose numbers are higher until they begin anew.
        for process in sorted(psutil.process_iter(), key=lambda each: each.pid):
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and (
                    process.ppid() in found or process.environ().get(MARK) == self._mark(node)
                ):
                    found[process.pid] = process
        return list(found.values())

    def node_of(self, pid: int) -> int:
        """The number of the node that a process belongs to."""
        marks = {self._mark(node): node for node in range(self._n_nodes)}
        process = psutil.Process(pid)
        return next(
            marks[mark] for each in (process, *process.parents()) if (mark := each.environ().get(MARK)) is not None
        )

    def home(self, node: int) -> Path:
        """The data folder of a node that shares none with others."""
        return self._folder / f"home-{node}"

    def kill(self, node: int) -> None:
        """End a node as a loss of power does: all its processes at once, by force."""
        for process in self.processes(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def close(self) -> None:
        """End all nodes, and see that nothing is left of them."""
        for node in range(self._n_nodes):
            while self.processes(node):
                self.kill(node)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *arguments: str, n_cpus: int) -> int:
        node = self._n_nodes
        self._n_nodes += 1
        agent, metrics, runtime = _free_ports(3)
        subprocess.run(
            [
                *(str(_program()), "start", *arguments, f"--num-cpus={n_cpus}", "--num-gpus=0"),
                *(f"--object-store-memory={OBJECT_STORE_BYTES}", "--disable-usage-stats"),
                *(f"--dashboard-agent-listen-port={agent}", f"--metrics-export-port={metrics}"),
                *(f"--runtime-env-agent-port={runtime}", "--min-worker-port=0", "--max-worker-port=0"),
            ],
            env=os.environ | self._environment(node),
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=START_S,
        )
        return node

    def _environment(self, node: int) -> dict[str, str]:
        return {
            MARK: self._mark(node),
            # Where a job does not say otherwise, as on a machine of its own.
            "TRIMBOARD_HOME": str(self.home(node)),
            # The job API starts "python", which has to be the one that has Ray.
            "PATH": os.pathsep.join((str(_program().parent), os.environ["PATH"])),
            "OMP_NUM_THREADS": "1",
            # Memory that others of this machine use up is no reason to end runs.
            "RAY_memory_monitor_refresh_ms": "0",
        }

    def _mark(self, node: int) -> str:
        return f"{self._folder.name}-{node}"


@contextmanager
def running_cluster(*n_cpus: int) -> Iterator[Cluster]:
    """A cluster with a node for each number of CPUs, the head first."""
    cluster = Cluster(n_cpus[0])
    try:
        for each in n_cpus[1:]:
            cluster.add_node(each)
        yield cluster
    finally:
        cluster.close()


def _program() -> Path:
    return Path(sys.executable).with_name("ray")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
