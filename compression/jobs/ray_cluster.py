"""Runs on a Ray cluster: each is one job of Ray's job API. What it does there: `jobs.ray_driver` and `jobs.ray_task`.

Which node is free, what waits for it, and where a run goes on whose node died, is Ray's business. Here jobs are sent,
stopped and asked about. Ray is imported once a cluster is opened.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cache.engine import parse_address
from cache.queue import RunQueue
from cache.record import RunStatus
from compression.errors import SpecError, TrimboardError
from compression.home import home
from compression.jobs.resources import CPU, GPU, parse_resources, resources_text
from compression.jobs.shared_model import share_model
from compression.request import RunRequest

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS, DATABASE, ARTIFACTS, HOME = "RAY_ADDRESS", "TRIMBOARD_DB", "TRIMBOARD_ARTIFACTS", "TRIMBOARD_HOME"
# What a job gets of the submitting machine's environment. Credentials of a bucket belong to the nodes.
HANDED_ON = (DATABASE, ARTIFACTS, HOME, "YOLO_OFFLINE", "YOLO_AUTOINSTALL")

# Ports of Ray where an address names none: of its client server, and of the head.
_PORTS = {"http": 80, "https": 443, "ray": 10001}
_HEAD_PORT = 6379
# A head that does not take a connection for so long is away; Ray itself would try for most of a minute.
PATIENCE_S = 5.0
# More nodes than anybody has; Ray's state API gives 100 unless told.
_ALL_NODES = 10_000

# Colours, and what clears a terminal's line.
_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ROOT = Path(__file__).parents[2]
# The packages that a node runs are the submitting machine's, so that all nodes run the same program.
_PACKAGES = ("cache", "compression")


class ClusterError(TrimboardError):
    """A Ray cluster that is not there, or cannot do what is asked."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster.

    Attributes:
        ip: its address.
        resources: what it has, by Ray's names.
    """

    ip: str
    resources: dict[str, float]


def open_cluster() -> RayCluster:
    """The cluster that RAY_ADDRESS names.

    Raises:
        ClusterError: Ray is not installed, RAY_ADDRESS is missing, or no cluster answers there.
    """
    address = os.environ.get(ADDRESS)
    if not address:
        raise ClusterError(
            f"{ADDRESS} says nothing of a Ray cluster; set it to the dashboard of its head, as in http://head:8265."
        )
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise ClusterError("Ray is not installed; run: pip install 'trimboard[cluster]'") from None
    # Ray tells of every upload.
    for handler in logging.getLogger("ray").handlers:
        handler.setLevel(logging.WARNING)
    with _answering(address):
        _knock(address)
        client = JobSubmissionClient(address)
        return RayCluster(address, client, _nodes(client))


def submission_id(status: RunStatus) -> str:
    """The name of a run's job; each time that it is queued is a job of its own."""
    return f"trimboard-{status.key[:16]}-{re.sub(r'[^0-9]', '', status.queued)}"


def settle(queue: RunQueue) -> None:
    """Note queued runs as failed whose job ended before they began, for instance because nodes lack the program.

    Where the cluster does not answer nothing is known, and nothing changed.
    """
    waiting = [run for run in queue.runs() if run.executor == "ray" and run.state == "queued"]
    if not waiting:
        return
    with suppress(ClusterError):
        endings = open_cluster().endings(waiting)
        for key, ending in endings.items():
            if queue.take(key, pid=os.getpid()):
                queue.end(key, "failed", ending)


class RayCluster:
    """A cluster that answered.

    Args:
        address: as the user gave it.
        client: of its job API.
        nodes: those that live.

    All methods raise a ClusterError where the cluster does not answer any more.
    """

    def __init__(self, address: str, client: JobSubmissionClient, nodes: list[Node]) -> None:
        self._address, self._client, self._nodes = address, client, nodes

    def check(self, request: RunRequest) -> None:
        """Refuse a run that cannot be done here, before its model and data are opened.

        Raises:
            ClusterError: no node has what it asks for, or its result would not come back from there.
            SpecError: its resources or its device are not understood.
        """
        self.resources_of(request)
        self._check_places()

    def prepared(self, request: RunRequest) -> RunRequest:
        """The request as the nodes can open it.

        Raises:
            StoreError: the model cannot be put where the nodes find it.
        """
        request = replace(request, data=_absolute(request.data))
        return share_model(request) if self._is_elsewhere else replace(request, model=_absolute(request.model))

    def resources_of(self, request: RunRequest) -> dict[str, float]:
        """What is set aside for a run: as stated, else one GPU, else as many cores as the smallest node has.

        Raises:
            ClusterError: no node has as much, so that the run would wait for ever.
            SpecError: resources or device are not understood.
        """
        if request.device not in ("", "cpu"):
            raise SpecError(
                f"Device {request.device!r} cannot be chosen on a cluster, which gives a run what is free; "
                f"leave --device out and state --resources gpu=2, or give --device cpu."
            )
        wanted = parse_resources(request.resources) or self._usual(on_cpu=request.device == "cpu")
        wanted = {CPU: 1.0, **wanted}
        if not any(all(node.resources.get(name, 0) >= wanted[name] for name in wanted) for node in self._nodes):
            raise ClusterError(
                f"No node of the Ray cluster at {self._address} has {resources_text(wanted)}, so the run would wait "
                f"for ever; the nodes have {self._described()}. State other --resources, or start such a node first."
            )
        return wanted

    def start(self, status: RunStatus) -> None:
        """Send a queued run.

        Raises:
            ClusterError: the cluster refuses it.
        """
        assert status.request is not None
        resources = resources_text(self.resources_of(status.request))
        with _answering(self._address):
            self._client.submit_job(
                # Not from the folder where the head was started, which may hold another version.
                entrypoint=f"python -P -m compression.jobs.ray_driver {status.key} {shlex.quote(resources)}",
                submission_id=submission_id(status),
                runtime_env={
                    "py_modules": [str(_ROOT / package) for package in _PACKAGES],
                    "env_vars": self._variables(),
                },
                metadata={"run": status.key},
            )

    def stop(self, status: RunStatus) -> None:
        """End a run's job with all its processes; one that is over, or unknown here, is left alone."""
        # Ray answers with a RuntimeError for a job that it does not know.
        with _answering(self._address), suppress(RuntimeError):
            self._client.stop_job(submission_id(status))

    def endings(self, runs: list[RunStatus]) -> dict[str, str]:
        """Why those of the runs whose job is over ended, a sentence by key.

        Args:
            runs: whose jobs are looked for; one that another cluster has is left out.
        """
        with _answering(self._address):
            jobs = {job.submission_id: job for job in self._client.list_jobs()}
        found = {run.key: jobs.get(submission_id(run)) for run in runs}
        return {
            key: f"Its Ray job {job.status.lower()} before the run began: {_last_line(job.message)}"
            for key, job in found.items()
            if job is not None and job.status.is_terminal()
        }

    def log_tail(self, status: RunStatus, n_lines: int) -> list[str]:
        """The last lines of a run's log, which Ray keeps on the head as long as it lives."""
        name = submission_id(status)
        with _answering(self._address):
            try:
                job = self._client.get_job_info(name)
            except RuntimeError:
                return [
                    f"The Ray cluster at {self._address} does not know the job {name}; it may have been started anew."
                ]
            if job.driver_node_id is None:
                return [job.message or job.status]
            # The job API gives only whole logs, which are long after some days; this is what Ray's `get_log` asks for.
            log = {"node_id": job.driver_node_id, "filename": f"job-driver-{name}.log", "lines": n_lines}
            answer = self._client._do_request("GET", f"/api/v0/logs/file?{urlencode(log)}")
        if answer.status_code != HTTPStatus.OK:
            return [f"The Ray cluster at {self._address} has lost the log of job {name}."]
        text = answer.content.decode(errors="replace").rstrip()
        # Of a progress bar only the last state counts.
        return [_CODES.sub("", line).rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")][-n_lines:]

    @property
    def _is_elsewhere(self) -> bool:
        """Whether a node is another machine than this one."""
        own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
        return any(node.ip not in own for node in self._nodes)

    def _usual(self, *, on_cpu: bool) -> dict[str, float]:
        if not on_cpu and any(node.resources.get(GPU, 0) >= 1 for node in self._nodes):
            return {GPU: 1.0}
        return {CPU: min((node.resources[CPU] for node in self._nodes if node.resources.get(CPU)), default=1.0)}

    def _described(self) -> str:
        """What each kind of node has, of the resources that can be asked for."""
        kinds = (
            {name: amount for name, amount in node.resources.items() if name in (CPU, GPU) or _is_custom(name)}
            for node in self._nodes
        )
        return "; ".join(dict.fromkeys(resources_text(kind) or "nothing" for kind in kinds)) or "nothing"

    def _check_places(self) -> None:
        """Refuse a cluster whose nodes could not note their results, or would keep them for themselves."""
        if not self._is_elsewhere:
            return
        if not _is_postgresql_elsewhere(os.environ.get(DATABASE, "")):
            raise ClusterError(
                f"The nodes of the Ray cluster at {self._address} are other machines, which cannot reach this one's "
                f"database; set {DATABASE} to a PostgreSQL server that all of them reach, as in "
                f"postgresql+psycopg://user:password@host/database."
            )
        if not (os.environ.get(ARTIFACTS) or os.environ.get(HOME)):
            raise ClusterError(
                f"Checkpoints would stay on the nodes of the Ray cluster at {self._address}; set {ARTIFACTS} to a "
                f"bucket, as in s3://bucket/trimboard, or {HOME} to a folder that all machines share."
            )

    def _variables(self) -> dict[str, str]:
        given = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
        if not self._is_elsewhere:
            given[HOME] = str(home())
        # A job's processes stand in folders of their own.
        for place in {HOME, ARTIFACTS} & given.keys():
            given[place] = _place_here(given[place])
        if DATABASE in given:
            given[DATABASE] = _database_here(given[DATABASE])
        # The log is read as text, and each of its lines counts.
        return {**given, "RAY_COLOR_PREFIX": "0", "RAY_DEDUP_LOGS": "0"}


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """Tell in a sentence why the cluster did not do what it was asked."""
    try:
        yield
    except TrimboardError:
        raise
    # Ray, gRPC, requests and the socket have their own errors each.
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ClusterError(
            f"The Ray cluster at {address} cannot be used: {reason}. Check that its head runs and that {ADDRESS} is "
            f"its dashboard, as in http://head:8265."
        ) from error


def _knock(address: str) -> None:
    """Try to connect, unless Ray is to look for a cluster on this machine ("auto")."""
    if address == "auto":
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    port = parts.port or _PORTS.get(parts.scheme, _HEAD_PORT)
    with socket.create_connection((parts.hostname, port), timeout=PATIENCE_S):
        pass


def _nodes(client: JobSubmissionClient) -> list[Node]:
    from ray.util.state import list_nodes

    found = list_nodes(address=client.get_address(), limit=_ALL_NODES, raise_on_missing_output=False)
    return [Node(ip=node.node_ip, resources=node.resources_total or {}) for node in found if node.state == "ALIVE"]


def _is_custom(resource: str) -> bool:
    return not resource.startswith("node:") and "memory" not in resource


def _is_postgresql_elsewhere(address: str) -> bool:
    """Whether a database is a server that other machines may reach under the same address."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return False
    return url.drivername.startswith("postgres") and url.host not in (None, "", "localhost", "127.0.0.1", "::1")


def _absolute(name: str) -> str:
    """The full path of what lies on this machine; a name or URL stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def _place_here(place: str) -> str:
    """The full path of a folder on this machine, which may be made later; a URL stays as it is."""
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _database_here(address: str) -> str:
    """The address of a database with the full path of its file; that of a server stays as it is."""
    url = parse_address(address)
    if url.get_backend_name() != "sqlite" or not url.database:
        return address
    return url.set(database=str(Path(url.database).resolve())).render_as_string(hide_password=False)


def _last_line(message: str | None) -> str:
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    return lines[-1] if lines else "Ray does not say why."
