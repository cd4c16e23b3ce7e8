"""Where a figure was measured: versions, hardware and the commit of this program."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from ultralytics.utils.torch_utils import select_device

from compression import STATED_THREADS
from compression.errors import SpecError

PACKAGES = ("trimboard", "torch", "torchvision", "ultralytics", "torch-pruning", "numpy")
UNKNOWN = "unknown"


def describe_environment(device: str) -> dict[str, str]:
    """Versions, hardware and commit as short texts.

    Args:
        device: Ultralytics' device string that the work ran on.
    """
    on_gpu = torch.cuda.is_available() and device != "cpu"
    return {
        **{package: package_version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if on_gpu else "none",
        "commit": commit(),
    }


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have, before any work is done for it.

    Args:
        device: Ultralytics' device string.

    Raises:
        SpecError: there is no such device.
    """
    try:
        select_device(device, verbose=False)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise SpecError(f"Device {device!r} is not there; give cpu, 0 for the first GPU, or 0,1 for two.") from error


def lanes(device: str) -> str:
    """The devices that work takes for itself, by which runs are kept apart: "cpu", "0", "0,1", "mps".

    Args:
        device: Ultralytics' device string; with "" it chooses.
    """
    chosen = select_device(device, verbose=False)
    if chosen.type != "cuda":
        return str(chosen.type)
    named = [part.strip().removeprefix("cuda:") for part in device.split(",") if part.strip()]
    return ",".join(part for part in named if part.isdigit()) or str(chosen.index or 0)


def torch_device(device: str) -> torch.device:
    """The device that criteria and recovery run on: of several GPUs the first.

    Args:
        device: Ultralytics' device string, checked before.
    """
    chosen = select_device(device.split(",")[0], verbose=False)
    # Apple's GPUs have no double precision, which least squares needs.
    return torch.device("cpu") if chosen.type == "mps" else chosen


@contextmanager
def all_cores() -> Iterator[None]:
    """Let torch use every core, where Ultralytics lets it use one; not where OMP_NUM_THREADS was set to limit it."""
    before = torch.get_num_threads()
    if not STATED_THREADS:
        torch.set_num_threads(max(before, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def package_version(package: str) -> str:
    """The installed version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The CPU's model and number of cores; Linux tells the model in a file only."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or UNKNOWN}, {torch.multiprocessing.cpu_count()} cores"


@lru_cache(maxsize=1)
def commit() -> str:
    """Commit of the checkout this program was started from, marked where files had been changed since.

    Ask early: the answer is kept, and a later one would speak of files that this process has not read.
    """
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", str(folder))
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return f"{head} with changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
