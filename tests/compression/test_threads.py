"""How many cores a cut uses: all of them, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ALL_CORES = """
import sys
import torch
from compression.environment import all_cores
from compression.process import python_process

with all_cores():
    print(torch.get_num_threads(), flush=True)
python_process("-c", "import os; print(os.environ.get('OMP_NUM_THREADS'))", output=sys.stdout.buffer).wait()
"""


@pytest.mark.parametrize(("stated", "expected"), [(None, [str(os.cpu_count()), "None"]), ("1", ["1", "1"])])
def test_ultralytics_own_limit_is_not_taken_for_the_users(stated: str | None, expected: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if stated is not None:
        environment["OMP_NUM_THREADS"] = stated
    done = subprocess.run(
        [sys.executable, "-c", ALL_CORES], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected
