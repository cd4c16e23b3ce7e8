"""How fast the queue is: from a free device to the next run, what a run's reports cost it, and when a page shows them.

    python -m benchmarks.runs --runs 5

Prints one JSON object. Use a machine that does nothing else. The page is opened in a Chromium, where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import sync_playwright

from cache.record import Progress, RunStatus
from cache.store import Store
from compression.data.shapes import draw_dataset
from compression.jobs.submit import submit
from compression.jobs.worker import ensure_worker
from compression.life import EVERY_S, SIGNS_PER_MEMORY, memory_mb
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES
from compression.training.finetune import TELL_EVERY
from tests.browser.conftest import CHROMIUM, FLAGS, serving

REPETITIONS = 200
N_REPORTS = 30
PATIENCE_S = 1800


def seconds_from_free_to_start(folder: Path, n_runs: int) -> list[float]:
    """For each run of a queue but the first: from the end of the one before to its start.

    Args:
        folder: for a model and a data set of a few seconds.
        n_runs: length of the queue.
    """
    model, data = folder / "tiny.pt", draw_dataset(folder / "tiny", {"train": 8, "val": 4})
    write_checkpoint(open_detector("yolo26n.yaml", nc=10).module, model, {})
    submit(
        [
            RunRequest(
                model=str(model),
                data=str(data),
                level=1,
                seed=seed,
                epochs=1,
                imgsz=64,
                batch=4,
                device="cpu",
                method=WITHOUT_IMAGES,
            )
            for seed in range(n_runs)
        ]
    )
    ensure_worker()
    runs = _all_done(PATIENCE_S)
    times = sorted((_seconds(run.started), _seconds(run.updated)) for run in runs)
    return [start - end for (_, end), (start, _) in pairwise(times)]


def _all_done(patience: float) -> list[RunStatus]:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        runs = Store().queue.runs()
        if all(run.state == "done" for run in runs):
            return runs
        time.sleep(0.5)
    raise RuntimeError("the queue did not become empty in time")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def share_of_reports() -> dict[str, float]:
    """What a run at work spends on telling its progress and on signs of life, as parts of its time."""
    queue = Store().queue
    key = queue.runs()[0].key
    spec = queue.runs()[0].spec
    queue.begin(spec, lanes="cpu", pid=os.getpid(), log_file="")
    progress = Progress(stage="fine-tuning", epoch=3, epochs=100, eta_seconds=10, map50=0.5, map50_95=0.4)
    tell = _median_seconds(lambda: queue.tell(key, progress))
    sign = _median_seconds(lambda: queue.give_sign_of_life(key, pid=os.getpid(), memory_mb=1.0))
    memory = _median_seconds(lambda: memory_mb("cpu"))
    share = tell / TELL_EVERY + (sign + memory / SIGNS_PER_MEMORY) / EVERY_S
    return {"tell_s": tell, "sign_of_life_s": sign, "memory_s": memory, "share_of_run": share}


def seconds_to_page(folder: Path) -> list[float]:
    """From the moment that a run tells its progress to that at which an open page Runs shows it.

    Args:
        folder: the data folder, with a run that is over.
    """
    queue, run = Store().queue, Store().queue.runs()[0]
    queue.begin(run.spec, lanes="cpu", pid=os.getpid(), log_file="")
    times = []
    with serving(folder) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{server}/runs")
        for epoch in range(N_REPORTS):
            # The page looks at even intervals, runs tell at any time.
            time.sleep(random.uniform(1, 2))
            start = time.perf_counter()
            queue.tell(run.key, Progress(stage="fine-tuning", epoch=epoch, epochs=N_REPORTS))
            page.get_by_text(f"Fine-tuning · epoch {epoch} of {N_REPORTS}").wait_for()
            times.append(time.perf_counter() - start)
        browser.close()
    # The first one waits for the page itself.
    return times[1:]


def _median_seconds(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="length of the queue")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIMBOARD_HOME"] = folder
        gaps = seconds_from_free_to_start(Path(folder), arguments.runs)
        found = {"free_to_start_s": gaps, "median_s": statistics.median(gaps), **share_of_reports()}
        if CHROMIUM:
            shown = seconds_to_page(Path(folder))
            found |= {"told_to_shown_median_s": statistics.median(shown), "told_to_shown_max_s": max(shown)}
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
