"""How much faster a sweep is on two Ray nodes than on one, each of one CPU.

    python -m benchmarks.cluster --runs 4 --epochs 50

Prints one JSON object. Use a machine with two cores at least that does nothing else. All nodes are on this machine, so
that they share its memory, its disk, and the cores that Ray's own processes need. What two cores can give at most, one
run on each without Ray, is measured alike: `ceiling`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from cache.store import own_store
from compression.data.shapes import draw_dataset
from compression.jobs.submit import submit
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES
from tests.ray_nodes import running_cluster

PATIENCE_S = 7200
LOOK_EVERY_S = 1.0
IMAGES = {"train": 48, "val": 16}
IMGSZ = 160
BATCH = 8


def seconds_of_sweep(folder: Path, n_nodes: int, *, n_runs: int, epochs: int) -> float:
    """From the command to the last result, on nodes that have started and done nothing yet.

    Args:
        folder: where the model and the data set lie; results go there, too.
        n_nodes: of one CPU each.
        n_runs: length of the sweep: seeds of one model at one level.
        epochs: of each run.
    """
    os.environ["TRIMBOARD_HOME"] = str(folder / f"home-{n_nodes}")
    requests = [_request(folder, seed, epochs) for seed in range(n_runs)]
    with running_cluster(*[1] * n_nodes) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        start = time.perf_counter()
        submit(requests, executor="ray")
        _await_results()
        return time.perf_counter() - start


def seconds_without_ray(folder: Path, n_at_once: int, *, epochs: int) -> float:
    """How long as many runs take with one thread each, all begun at once and not looked after.

    Args:
        folder: as above.
        n_at_once: number of runs.
        epochs: of each run.

    Raises:
        RuntimeError: one of them failed.
    """
    start = time.perf_counter()
    runs = []
    for seed in range(n_at_once):
        request = replace(_request(folder, seed, epochs), resources="")
        place = {"TRIMBOARD_HOME": str(folder / f"home-{n_at_once}-{seed}-alone"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "compression", "run", *request.arguments()]
        runs.append(subprocess.Popen(command, env=os.environ | place, stdout=subprocess.DEVNULL))
    exit_codes = [run.wait() for run in runs]
    if any(exit_codes):
        raise RuntimeError("a run without Ray failed")
    return time.perf_counter() - start


def _request(folder: Path, seed: int, epochs: int) -> RunRequest:
    return RunRequest(
        model=str(folder / "tiny.pt"),
        data=str(folder / "tiny" / "data.yaml"),
        level=3,
        seed=seed,
        epochs=epochs,
        patience=epochs,
        imgsz=IMGSZ,
        batch=BATCH,
        device="cpu",
        method=WITHOUT_IMAGES,
        resources="cpu=1",
    )


def _await_results() -> None:
    deadline = time.monotonic() + PATIENCE_S
    # Both nodes have a core each, so that looking takes from the runs.
    queue = own_store().queue
    while time.monotonic() < deadline:
        runs = queue.runs()
        states = {run.state for run in runs}
        if states == {"done"}:
            return
        if "failed" in states:
            raise RuntimeError([run.message for run in runs])
        time.sleep(LOOK_EVERY_S)
    raise RuntimeError("the sweep did not end in time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4, help="length of the sweep")
    parser.add_argument("--epochs", type=int, default=30, help="of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_dataset(folder / "tiny", IMAGES)
        write_checkpoint(open_detector("yolo26n.yaml", nc=10).module, folder / "tiny.pt", {})
        nodes = {n: seconds_of_sweep(folder, n, n_runs=arguments.runs, epochs=arguments.epochs) for n in (1, 2)}
        alone = {n: seconds_without_ray(folder, n, epochs=arguments.epochs) for n in (1, 2)}
    found = {
        **vars(arguments),
        "one_node_s": nodes[1],
        "two_nodes_s": nodes[2],
        "ratio": nodes[1] / nodes[2],
        "one_alone_s": alone[1],
        "two_alone_s": alone[2],
        "ceiling": 2 * alone[1] / alone[2],
    }
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
