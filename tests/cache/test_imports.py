from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_looking_at_results_imports_neither_torch_nor_ultralytics_nor_streamlit() -> None:
    script = (
        "import sys, cache, cache.store, cache.comparison, compression.spec;"
        "print(sorted({'torch', 'ultralytics', 'streamlit'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
