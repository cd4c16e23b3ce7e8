"""Start a process of Python that finds this program, and that outlives whoever started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

from compression import STATED_THREADS

Process = subprocess.Popen[bytes]

_ROOT = Path(__file__).parents[1]


def python_process(
    *arguments: str,
    input: int = subprocess.DEVNULL,
    output: BinaryIO | int,
    errors: BinaryIO | int = subprocess.STDOUT,
) -> Process:
    """Start Python in a session of its own, which no terminal, page or server takes along when it ends.

    Args:
        arguments: behind `python`.
        input: where stdin comes from.
        output: where stdout goes.
        errors: where stderr goes; to stdout's place unless told otherwise.

    Raises:
        OSError: the process cannot be started.
    """
    # The package must be found from whatever folder the server was started in.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if not STATED_THREADS:
        # Ultralytics may have set it here, and the new process would take that for the user's wish.
        environment.pop("OMP_NUM_THREADS", None)
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=input,
        stdout=output,
        stderr=errors,
        start_new_session=True,
        env=environment,
    )
