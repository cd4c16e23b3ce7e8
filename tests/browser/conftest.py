"""What the tests in a real browser share: a fresh server, a Chromium that asks the network for nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The browser itself shall ask the network for nothing.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Bounds a failure only: a machine that trains beside the test draws a page in minutes instead of seconds.
PATIENCE_MS = 300_000

# Shipped results whose figures stand in tests: those of before the present defaults, which stay as they are.
OF_BEFORE = urlencode({"conditions": "criterion l2, allocation uniform, recovery none, recipe standard"})

# Remembers whatever shows for a moment only: a menu of Streamlit's own, or an exception.
WATCH = """
window.seen = [];
new MutationObserver(() => {
  for (const id of ['stSidebarNav', 'stException'])
    if (document.querySelector(`[data-testid=${id}]`)) window.seen.push(id);
  for (const title of document.querySelectorAll('h1')) window.seen.push(title.innerText);
}).observe(document, {childList: true, subtree: true});
"""

IN_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None and os.environ.get("TRIMBOARD_REQUIRE_BROWSER") != "1",
        reason="no Chromium found; install one, e.g. `apt install chromium`",
    ),
]


@contextmanager
def serving(home: Path, *further: str) -> Iterator[str]:
    """A fresh server; gives its address.

    Args:
        home: its data folder.
        further: options of Streamlit's.
    """
    with started(home, *further) as (address, _):
        yield address


@contextmanager
def started(home: Path, *further: str, app: Path = ROOT / "app.py") -> Iterator[tuple[str, int]]:
    """A fresh server; gives its address and its process id.

    Args:
        home: its data folder.
        further: options of Streamlit's.
        app: what it serves.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--server.port", str(port), "--server.headless", "true", "--server.fileWatcherType", "none", *further]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", app.name, *options],
        cwd=app.parent,
        env=os.environ | {"TRIMBOARD_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/_stcore/health")
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(address: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page.add_init_script(WATCH)
    yield page
    page.close()
