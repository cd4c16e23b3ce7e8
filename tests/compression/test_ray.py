"""Runs on a Ray cluster: what is sent there, and a real cluster of two nodes on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cache.artifacts import file_sha256
from cache.queue import INTERRUPTED_ON_CLUSTER, RunQueue, UnknownRunError
from cache.record import RunState, RunStatus
from cache.store import Store, own_store
from compression.errors import ModelError, SpecError
from compression.jobs import ray_cluster
from compression.jobs.control import cancel, resume
from compression.jobs.logs import log_tail
from compression.jobs.ray_cluster import ClusterError, Node, RayCluster, open_cluster, settle, submission_id
from compression.jobs.ray_task import _await_turn
from compression.jobs.resources import parse_resources, resources_text
from compression.jobs.shared_model import fetch_model, share_model
from compression.jobs.submit import submit
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pipeline import compress
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES
from tests import factories
from tests.ray_nodes import Cluster, is_installed, running_cluster

PATIENCE_S = 180
ADDRESS = "http://head:8265"
HERE = "127.0.0.1"
# An address of a network that documentation is written with; no machine has it.
ELSEWHERE = "203.0.113.7"
TWO_CPUS = {"CPU": 2.0, "memory": 1e9, "node:127.0.0.1": 1.0}
POSTGRESQL = "postgresql+psycopg://user:secret@server/trimboard"


# What a run asks for


@pytest.mark.parametrize(
    ("text", "resources"),
    [("", {}), ("gpu=2, cpu=8", {"GPU": 2, "CPU": 8}), ("GPU=0.5,A100=1", {"GPU": 0.5, "A100": 1})],
)
def test_resources_are_read_and_written(text: str, resources: dict[str, float]) -> None:
    assert parse_resources(text) == resources
    assert parse_resources(resources_text(resources)) == resources


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpu", "'gpu' in --resources is not understood"),
        ("cpu=none", "'cpu=none' in --resources is not understood"),
        ("cpu=0", "'cpu=0' in --resources is not understood"),
        ("cpu=inf", "'cpu=inf' in --resources is not understood"),
        ("=1", "'=1' in --resources is not understood"),
        ("memory=16", "'memory=16' in --resources is not understood"),
        ("gpu=1.5", "1.5 GPUs cannot be set aside"),
    ],
)
def test_resources_that_make_no_sense(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        parse_resources(text)


def cluster_of(*resources: dict[str, float], ip: str = HERE) -> RayCluster:
    return RayCluster(ADDRESS, None, [Node(ip=ip, resources=each) for each in resources])


def request_for(**changes: Any) -> RunRequest:
    return RunRequest(**{"model": "yolo26n.yaml", "data": "shapes", "level": 1, **changes})


def test_without_a_wish_a_run_gets_a_gpu_or_the_cores_of_a_node() -> None:
    eight = {"CPU": 8.0, "GPU": 2.0}
    assert cluster_of(TWO_CPUS, eight).resources_of(request_for()) == {"CPU": 1, "GPU": 1}
    assert cluster_of(TWO_CPUS, eight).resources_of(request_for(device="cpu")) == {"CPU": 2}
    # A head that takes no work has no CPU.
    assert cluster_of({"memory": 1e9}, {"CPU": 4.0}, {"CPU": 16.0}).resources_of(request_for()) == {"CPU": 4}
    assert cluster_of(eight).resources_of(request_for(resources="gpu=2")) == {"CPU": 1, "GPU": 2}


def test_what_no_node_has_is_refused() -> None:
    wanted = request_for(resources="cpu=2,gpu=1")
    # Each has a part of it only.
    cluster = cluster_of(TWO_CPUS, {"CPU": 1.0, "GPU": 1.0})
    with pytest.raises(ClusterError) as error:
        cluster.check(wanted)
    assert "No node of the Ray cluster at http://head:8265 has cpu=2,gpu=1, so the run would wait" in str(error.value)
    assert "the nodes have cpu=2; cpu=1,gpu=1." in str(error.value)
    with pytest.raises(ClusterError, match="the nodes have nothing"):
        cluster_of().check(request_for())


def test_a_device_cannot_be_chosen() -> None:
    with pytest.raises(SpecError, match="Device '0,1' cannot be chosen on a cluster"):
        cluster_of(TWO_CPUS).check(request_for(device="0,1"))


# Where results go


@pytest.mark.parametrize(
    "database", ["", "sqlite:////shared/trimboard.db", "postgresql+psycopg://user@localhost/trimboard", "nonsense"]
)
def test_other_machines_need_a_database_that_they_reach(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMBOARD_DB", database)
    with pytest.raises(ClusterError, match="set TRIMBOARD_DB to a PostgreSQL server that all of them reach"):
        cluster_of(TWO_CPUS, ip=ELSEWHERE).check(request_for())
    cluster_of(TWO_CPUS, ip=HERE).check(request_for())


def test_other_machines_need_a_place_for_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMBOARD_DB", POSTGRESQL)
    cluster = cluster_of(TWO_CPUS, ip=ELSEWHERE)
    cluster.check(request_for())
    monkeypatch.delenv("TRIMBOARD_HOME")
    with pytest.raises(ClusterError, match="Checkpoints would stay on the nodes"):
        cluster.check(request_for())
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", "s3://bucket/trimboard")
    cluster.check(request_for())


def test_places_go_to_the_nodes_with_their_full_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A job's processes stand in a folder of their own, and none of these places was made yet.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIMBOARD_DB", "sqlite:///results.db")
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", "files")
    given = cluster_of(TWO_CPUS)._variables()
    assert given["TRIMBOARD_DB"] == f"sqlite:///{tmp_path / 'results.db'}"
    assert given["TRIMBOARD_ARTIFACTS"] == str(tmp_path / "files")
    monkeypatch.setenv("TRIMBOARD_DB", POSTGRESQL)
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", "s3://bucket/trimboard")
    given = cluster_of(TWO_CPUS)._variables()
    assert (given["TRIMBOARD_DB"], given["TRIMBOARD_ARTIFACTS"]) == (POSTGRESQL, "s3://bucket/trimboard")


def test_a_model_of_this_machine_is_shared_by_its_content(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"weights")
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", str(tmp_path / "shared"))
    shared = share_model(request_for(model=str(file)))
    assert shared.model == f"shared:{file_sha256(file)}/7/best.pt"
    file.unlink()
    fetched = fetch_model(shared)
    assert Path(fetched.model).read_bytes() == b"weights"
    assert Path(fetched.model).name == "best.pt"
    assert Path(fetched.model).is_relative_to(own_home)
    assert replace(fetched, model="") == replace(shared, model="")
    with pytest.raises(ModelError, match=r"'best.pt' is not in the shared place any more"):
        fetch_model(replace(shared, model=shared.model.replace("/7/", "/8/").replace("shared:", "shared:0")))


def test_models_go_by_path_where_the_nodes_are_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_shapes: Path
) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(tiny_shapes, tmp_path)
    prepared = cluster_of(TWO_CPUS).prepared(request_for(model="best.pt", data=relative))
    assert (prepared.model, prepared.data) == (str(tmp_path / "best.pt"), str(tiny_shapes))
    by_name = request_for()
    assert cluster_of(TWO_CPUS).prepared(by_name) == by_name
    assert cluster_of(TWO_CPUS, ip=ELSEWHERE).prepared(by_name) == by_name


# A cluster that is not there


def test_faults_of_the_address_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match="RAY_ADDRESS says nothing of a Ray cluster; set it to the dashboard"):
        open_cluster()
    monkeypatch.setenv("RAY_ADDRESS", ADDRESS)
    for module in ("ray", "ray.job_submission"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ClusterError, match=r"Ray is not installed; run: pip install 'trimboard\[cluster\]'"):
        open_cluster()


@pytest.fixture(scope="module")
def ray_is_installed() -> None:
    if is_installed():
        return
    reason = "Ray is not installed: pip install 'trimboard[cluster]'"
    if os.environ.get("TRIMBOARD_REQUIRE_RAY") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.mark.usefixtures("ray_is_installed")
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", "ray://127.0.0.1:9", "http://127.0.0.1:x"])
def test_a_cluster_that_is_away_is_told_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    start = time.monotonic()
    with pytest.raises(ClusterError) as error:
        open_cluster()
    assert time.monotonic() - start < 15
    assert f"The Ray cluster at {address} cannot be used: " in str(error.value)
    assert "\n" not in str(error.value)


def status_on_ray(queue: RunQueue) -> RunStatus:
    spec = factories.spec(1)
    queue.submit(spec, request_for(), lanes="cpu=1", executor="ray")
    return queue.find(spec.key)


def test_without_the_cluster_a_run_is_cancelled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    queue = Store().queue
    status = status_on_ray(queue)
    settle(queue)
    assert queue.find(status.key).state == "queued"
    cancel(queue, status.key)
    assert queue.find(status.key).state == "cancelled"
    assert log_tail(status)[0].startswith("RAY_ADDRESS says nothing")
    with pytest.raises(ClusterError):
        resume(queue, status.key)
    assert queue.find(status.key).state == "cancelled"


# A run whose node died


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_is_taken_over_from_a_dead_process_only() -> None:
    queue = Store().queue
    key = status_on_ray(queue).key
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert queue.take(key, pid=alive.pid)
        assert not queue.take(key, pid=os.getpid())
        assert queue.find(key).pid == alive.pid
    finally:
        alive.kill()
        alive.wait()
    status = queue.find(key)
    assert (status.state, status.message) == ("interrupted", INTERRUPTED_ON_CLUSTER)
    assert queue.take(key, pid=os.getpid())
    assert (queue.find(key).state, queue.find(key).pid) == ("running", os.getpid())


def test_a_run_that_waits_for_another_node_can_be_cancelled() -> None:
    queue = Store().queue
    key = status_on_ray(queue).key
    queue.take(key, pid=ended_process())
    assert queue.find(key).state == "interrupted"
    queue.cancel(key)
    assert queue.find(key).state == "cancelled"
    assert not queue.take(key, pid=os.getpid())


def test_a_lost_node_that_still_works_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Store().queue
    key = status_on_ray(queue).key
    alive = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])
    queue.take(key, pid=alive.pid)
    start = time.monotonic()
    _await_turn(queue, key)
    assert alive.poll() is not None or psutil.Process(alive.pid).status() == psutil.STATUS_ZOMBIE
    assert time.monotonic() - start >= 1
    alive.wait()
    # Whoever does not end is left its run.
    queue.take(key, pid=os.getpid())
    monkeypatch.setattr("compression.jobs.ray_task.PATIENCE_S", 0.5)
    _await_turn(queue, key)
    assert queue.find(key).state == "running"
    _await_turn(queue, "unknown")


def test_a_run_of_a_cluster_has_no_place_in_the_queue() -> None:
    queue = Store().queue
    key = status_on_ray(queue).key
    with pytest.raises(UnknownRunError, match="is not queued on a machine"):
        queue.move(key, -1)


def test_each_time_that_a_run_is_queued_is_a_job_of_its_own() -> None:
    queue = Store().queue
    first = status_on_ray(queue)
    queue.cancel(first.key)
    time.sleep(0.002)
    queue.resume(first.key)
    second = queue.find(first.key)
    assert submission_id(first) != submission_id(second)
    assert submission_id(second) == submission_id(queue.find(first.key))
    assert submission_id(first).startswith(f"trimboard-{first.key[:16]}-20")


# Two nodes on this machine


@pytest.fixture(scope="module")
def cluster(ray_is_installed: None) -> Iterator[Cluster]:
    with running_cluster(2, 2) as started:
        yield started
    assert not [process for node in (0, 1) for process in started.processes(node)]


@pytest.fixture
def at_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows as many classes as the small data set has."""
    file = tmp_path_factory.mktemp("models") / "mine.pt"
    write_checkpoint(open_detector("yolo26n.yaml", nc=10, seed=3).module, file, {})
    return file


@pytest.fixture
def request_of(model: Path, tiny_shapes: Path) -> Callable[..., RunRequest]:
    def build(level: int, **changes: Any) -> RunRequest:
        options = {"epochs": 3, "imgsz": 64, "batch": 4, "device": "cpu", "method": WITHOUT_IMAGES}
        places = {"model": str(model), "data": str(tiny_shapes), "resources": "cpu=1"}
        return RunRequest(level=level, **{**options, **places, **changes})

    return build


def await_that(what: str, condition: Callable[[], bool], patience: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            runs = own_store().queue.runs()
            told = [(run.spec.level, run.state, run.progress.stage, run.message, log_tail(run, 15)) for run in runs]
            raise AssertionError(f"{what} does not come: {told}")
        time.sleep(0.25)


def states() -> dict[int | None, RunState]:
    return {run.spec.level: run.state for run in own_store().queue.runs()}


def epochs_done(key: str) -> int:
    return own_store().queue.find(key).progress.epoch


def job_status(status: RunStatus) -> str:
    from ray.job_submission import JobSubmissionClient

    return str(JobSubmissionClient(os.environ["RAY_ADDRESS"]).get_job_status(submission_id(status)).value)


def test_a_cancelled_run_leaves_nothing_and_is_resumed_by_a_new_job(
    at_cluster: Cluster, request_of: Callable[..., RunRequest]
) -> None:
    # The second one waits for a free node.
    long, waiting = submit(
        [request_of(1, epochs=400, resources="cpu=2"), request_of(2, resources="cpu=2")], executor="ray"
    )
    assert (long.state, waiting.state) == ("queued", "queued")
    queue = own_store().queue
    await_that("an epoch", lambda: epochs_done(long.key) >= 1)
    at_work = queue.find(long.key)
    assert any("[trimboard] fine-tuning" in line for line in log_tail(at_work))
    assert any("[trimboard] Ray node " in line for line in log_tail(at_work, 1000))
    (process,) = [psutil.Process(at_work.pid)]
    cancel(queue, long.key)
    await_that("the end of its process", lambda: not process.is_running(), 5)
    await_that("the end of its job", lambda: job_status(at_work) == "STOPPED", 10)
    before = epochs_done(long.key)
    resume(queue, long.key)
    await_that("the resumed run's next epoch", lambda: epochs_done(long.key) > before)
    cancel(queue, long.key)
    cancel(queue, waiting.key) if states()[2] in ("queued", "running") else None
    assert states()[1] == "cancelled"


def test_a_job_that_cannot_begin_is_told(
    at_cluster: Cluster, request_of: Callable[..., RunRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayCluster, "_variables", lambda self: {"TRIMBOARD_DB": "oracle://server/trimboard"})
    (sent,) = submit([request_of(1)], executor="ray")
    queue = own_store().queue

    def told() -> bool:
        settle(queue)
        return queue.find(sent.key).state == "failed"

    await_that("its failure", told)
    assert queue.find(sent.key).message.startswith("Its Ray job failed before the run began: ")
    assert "speaks of 'oracle', which is not supported" in queue.find(sent.key).message


def test_what_no_node_has_is_refused_on_the_command_line(
    at_cluster: Cluster, request_of: Callable[..., RunRequest]
) -> None:
    request = request_of(1)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "compression", "sweep", request.model, "--data", request.data),
            *("--executor", "ray", "--resources", "gpu=4"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "has cpu=1,gpu=4, so the run would wait for ever; the nodes have cpu=2." in done.stderr
    assert "Traceback" not in done.stderr
    assert states() == {}


def test_nodes_that_share_no_folder_get_the_model_and_give_the_result(
    at_cluster: Cluster,
    request_of: Callable[..., RunRequest],
    model: Path,
    own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As with other machines: a database and a place of files that all reach, and nothing else.
    monkeypatch.setattr(RayCluster, "_is_elsewhere", True)
    monkeypatch.setattr(ray_cluster, "_is_postgresql_elsewhere", lambda address: True)
    monkeypatch.setattr(ray_cluster, "HANDED_ON", ("TRIMBOARD_DB", "TRIMBOARD_ARTIFACTS"))
    monkeypatch.setenv("TRIMBOARD_DB", f"sqlite:///{tmp_path / 'shared.db'}")
    monkeypatch.setenv("TRIMBOARD_ARTIFACTS", str(tmp_path / "files"))
    only_here = tmp_path / "only_here.pt"
    shutil.copy(model, only_here)
    (sent,) = submit([request_of(1, model=str(only_here), epochs=1)], executor="ray")
    only_here.unlink()
    await_that("its result", lambda: states() == {1: "done"})
    record = own_store().find(sent.key)
    assert record is not None
    assert record.model == "only_here"
    assert not (own_home / "runs" / sent.key).exists()
    checkpoint = own_store().artifact_path(record)
    assert checkpoint is not None
    assert file_sha256(checkpoint) == record.artifacts[0].sha256
    assert any((at_cluster.home(node) / "runs" / sent.key).exists() for node in (0, 1))


def weights(checkpoint: Path | None) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    return read_checkpoint(checkpoint)[0].state_dict()


def test_four_runs_end_as_on_this_machine_though_a_node_dies(
    at_cluster: Cluster,
    request_of: Callable[..., RunRequest],
    own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [request_of(level) for level in (1, 2, 3, 4)]
    sent = submit(requests, executor="ray")
    queue = own_store().queue
    nodes: dict[str, int] = {}

    def all_train() -> bool:
        for run in queue.runs():
            if run.key not in nodes and run.state == "running":
                nodes[run.key] = at_cluster.node_of(run.pid)
        doomed = [key for key, node in nodes.items() if node == 1]
        return len(nodes) == 4 and all(epochs_done(key) >= 1 for key in doomed)

    await_that("an epoch of each", all_train)
    assert sorted(nodes.values()) == [0, 0, 1, 1]
    lost = [run for run in queue.runs() if nodes[run.key] == 1]
    at_cluster.kill(1)
    assert [run.state for run in lost] == ["running", "running"]
    await_that("all four results", lambda: set(states().values()) == {"done"})
    for run in lost:
        assert "retr" in "".join(log_tail(run, 1000))
        assert at_cluster.processes(1) == []
    on_cluster = {each.key: own_store().find(each.key) for each in sent}
    checkpoints = {key: own_store().artifact_path(record) for key, record in on_cluster.items() if record}

    monkeypatch.setenv("TRIMBOARD_HOME", str(tmp_path / "alone"))
    # As many threads as the nodes were given.
    monkeypatch.setattr("ultralytics.utils.torch_utils.NUM_THREADS", 1)
    for request, each in zip(requests, sent, strict=True):
        values = {name: getattr(request, name) for name in RunRequest.__dataclass_fields__ if name != "resources"}
        here = compress(**values)
        there = on_cluster[each.key]
        assert there is not None
        assert [row.losses for row in there.curve] == [row.losses for row in here.record.curve]
        assert len(there.curve) == 3
        assert there.metrics == here.record.metrics
        ours, theirs = weights(here.checkpoint), weights(checkpoints[each.key])
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
