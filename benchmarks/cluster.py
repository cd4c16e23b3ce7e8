"""How much faster a sweep is on two Ray nodes than on one, each of one CPU.

    python -m benchmarks.cluster --runs 4 --epochs 30

Prints one JSON object. Use a machine with two cores at least that does nothing else. All nodes are on this machine, so
their disk is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from cache.store import own_store
from compression.checkpoint import write_checkpoint
from compression.detector import open_detector
from compression.jobs.submit import submit
from compression.request import RunRequest
from compression.shapes import draw_dataset
from compression.spec import WITHOUT_IMAGES
from tests.ray_nodes import running_cluster

PATIENCE_S = 7200
LOOK_EVERY_S = 0.5
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
    requests = [
        RunRequest(
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
        for seed in range(n_runs)
    ]
    with running_cluster(*[1] * n_nodes) as cluster:
        os.environ["RAY_ADDRESS"] = cluster.address
        start = time.perf_counter()
        submit(requests, executor="ray")
        _await_results()
        return time.perf_counter() - start


def _await_results() -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        states = {run.state for run in own_store().queue.runs()}
        if states == {"done"}:
            return
        if "failed" in states:
            raise RuntimeError([run.message for run in own_store().queue.runs()])
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
        one, two = (
            seconds_of_sweep(folder, n_nodes, n_runs=arguments.runs, epochs=arguments.epochs) for n_nodes in (1, 2)
        )
    found = {**vars(arguments), "load": os.getloadavg()[0], "one_node_s": one, "two_nodes_s": two, "ratio": one / two}
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
