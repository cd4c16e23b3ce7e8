"""How fast the dashboard is with 10,000 results, as a real browser sees it.

    python -m benchmarks.dashboard                                  # all three, visitors for a minute
    python -m benchmarks.dashboard slider --moves 200
    python -m benchmarks.dashboard start --rounds 5
    python -m benchmarks.dashboard visitors --seconds 3600          # whether the server's memory grows

Prints one JSON object. Use a machine that does nothing else; server and browser share it, as on a developer's desk. The
results are those of `benchmarks.store`, in a SQLite database of their own: ten models on five data sets.

- slider: from the press of a key on the slider (the event's own time) to the cards of the new level, and to the last
  change of a plot, milliseconds of the browser's clock. The cards count once they hold the text of the new level, which
  was learned by going through the levels before; and that text has to hold the accuracy that the store has. A plot
  changes when Plotly draws it, or with the frame after a change of the page's style sheets, which mark the level in
  plots that stay as they are; the style sheets, too, have to become those of the new level.
- start: from starting the server to the full first paint of the page at its address, all plots drawn, in a browser that
  is open and has nothing cached; then reload. In turn with the same of a bare Streamlit page with one Plotly chart. The
  bytes are those that the browser receives, websocket included; what lies under /static/ is Streamlit's own.
- visitors: twenty that speak Streamlit's protocol, see `benchmarks.visitor`, each at a model and data set of its own,
  beside one real browser on which the latency is seen as under "slider". Their seconds last from a move to the end of
  what the server sends for it, and count once all have opened the page. Memory is the server's resident set: when all
  have, after half of the time, at most five minutes, and at the end. The default is a minute, which shows
  latency and errors; that memory does not grow, only an hour shows.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psutil
from playwright.sync_api import Browser, CDPSession, Page, ViewportSize, sync_playwright

from benchmarks.store import N_DATASETS, N_MODELS, N_RECORDS, fill
from benchmarks.visitor import SLIDER, Seen, visit_until
from cache.engine import ADDRESS_VARIABLE
from cache.series import series_of
from cache.store import Store
from compression.levels import LEVELS
from tests.browser.conftest import CHROMIUM, FLAGS, ROOT, started

WINDOW: ViewportSize = {"width": 1440, "height": 900}
# A page is done with a move when no plot was drawn for so long.
SETTLED_MS = 700
PATIENCE_MS = 120_000
N_VISITORS = 20
# Until then the server's memory may grow: whoever left is remembered for two minutes.
MOST_WARM_UP_S = 300.0
# The visitor with a browser, who is timed, looks at each level for so long.
PAUSE_S = 1.0

BARE_PAGE = """
import plotly.graph_objects as go
import streamlit as st

st.plotly_chart(go.Figure(go.Scatter(x=[1, 2, 3], y=[1, 3, 2])), key="plot")
"""

# Notes when a key is pressed, when the cards hold what is waited for, and when a plot was changed.
WATCH = """
const cards = () => document.querySelector('.st-key-cards')?.textContent ?? '';
const marks = () => [...document.querySelectorAll('body style')].map(one => one.textContent).join('');
window.shown = () => ({cards: cards(), marks: marks()});
window.watch = {start: null, cards: null, plots: null, redrawn: 0, marks: null, wanted: {cards: null, marks: null}};
window.since = () => performance.now() - watch.start;
const redrawn = () => {
  if (watch.start === null) return;
  watch.plots = since();
  watch.redrawn += 1;
};
new MutationObserver(() => {
  for (const plot of document.querySelectorAll('.js-plotly-plot'))
    if (plot.on && !plot.isWatched) {
      plot.isWatched = true;
      plot.on('plotly_afterplot', redrawn);
      redrawn();
    }
  const sheets = marks();
  if (sheets !== watch.marks) {
    watch.marks = sheets;
    requestAnimationFrame(redrawn);
  }
  if (watch.start !== null && watch.cards === null && cards() === watch.wanted.cards) watch.cards = since();
}).observe(document, {childList: true, subtree: true, characterData: true});
addEventListener('keydown', event => { watch.start ??= event.timeStamp; }, {capture: true});
"""
# All that the script sends is there, and every plot is drawn.
PAINTED = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  const plots = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
  return app?.dataset.testScriptState === 'notRunning' && plots.length > 0
    && plots.every(plot => plot.querySelector('.main-svg')) && !document.querySelector('[data-testid=stSkeleton]')
    && performance.now();
}"""
SETTLED = f"""() => watch.cards !== null && watch.plots !== null && watch.marks === watch.wanted.marks
  && since() - Math.max(watch.cards, watch.plots) > {SETTLED_MS}
  && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"""


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a browser saw of a move of the slider, milliseconds.

    Attributes:
        cards_ms: to the cards of the new level.
        plots_ms: to the last change of a plot.
        n_redraws: how often a plot was drawn or marked.
    """

    cards_ms: float
    plots_ms: float
    n_redraws: int


class Slider:
    """The slider of Explore in a page that is open."""

    def __init__(self, page: Page, address: str, view: dict[str, str], store: Store) -> None:
        """Open the page, and learn the cards of each level.

        Raises:
            RuntimeError: they do not hold the accuracy that the store has.
        """
        self._page, self._level = page, LEVELS[0]
        page.add_init_script(WATCH)
        page.goto(f"{address}/explore?{urlencode({**view, 'level': self._level})}")
        painted(page)
        measured = series_of(store.heads(**view))[0].levels
        self._shown: dict[int, dict[str, str]] = {}
        for level in LEVELS:
            if level > self._level:
                page.get_by_role("slider", name=SLIDER).press("ArrowRight")
                self._level = level
            self._shown[level] = self._learn(f"{measured[level].metrics.map50_95:.3f}")
        if len({shown["cards"] for shown in self._shown.values()}) < len(LEVELS):
            raise RuntimeError("the cards of two levels are alike, so that none can be told from the other")

    def _learn(self, accuracy: str) -> dict[str, str]:
        """What cards and style sheets hold once nothing changes any more."""
        before: dict[str, str] = {}
        for _ in range(PATIENCE_MS // SETTLED_MS):
            shown: dict[str, str] = self._page.evaluate("shown()")
            if shown == before and accuracy in shown["cards"]:
                return shown
            before = shown
            self._page.wait_for_timeout(SETTLED_MS)
        raise RuntimeError(f"the cards of level {self._level} lack {accuracy}: {before['cards']!r}")

    def moves(self) -> Iterator[Move]:
        """Move down and up, for ever."""
        # The highest one was learned last.
        for level in itertools.cycle([*LEVELS[-2::-1], *LEVELS[1:]]):
            yield self._move_to(level)

    def _move_to(self, level: int) -> Move:
        key = "ArrowRight" if level > self._level else "ArrowLeft"
        self._page.evaluate(
            "wanted => Object.assign(watch, {start: null, cards: null, plots: null, redrawn: 0, wanted})",
            self._shown[level],
        )
        self._page.get_by_role("slider", name=SLIDER).press(key)
        self._page.wait_for_function(SETTLED, polling=100)
        self._level = level
        seen = self._page.evaluate("watch")
        return Move(cards_ms=seen["cards"], plots_ms=seen["plots"], n_redraws=seen["redrawn"])


def painted(page: Page) -> float:
    """Wait for all of a page to be drawn; gives the time since its navigation began, ms."""
    return float(page.wait_for_function(PAINTED).json_value())


@contextmanager
def new_page(browser: Browser) -> Iterator[Page]:
    """A page that shares nothing with others."""
    context = browser.new_context(viewport=WINDOW)
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield context.new_page()
    finally:
        context.close()


def time_slider(home: Path, browser: Browser, n_moves: int) -> dict[str, Any]:
    """Move the slider with nobody else there.

    Args:
        home: the data folder.
        browser: opens the page.
        n_moves: timed ones.
    """
    with started(home) as (address, _), new_page(browser) as page:
        slider = Slider(page, address, view_of(0), Store())
        return moves_in_short(list(itertools.islice(slider.moves(), n_moves)))


def moves_in_short(moves: Sequence[Move]) -> dict[str, Any]:
    """Median, 95th percentile and maximum of what was timed."""
    return {
        "cards_ms": in_short([move.cards_ms for move in moves]),
        "plots_ms": in_short([move.plots_ms for move in moves]),
        "redraws_per_move": statistics.mean(move.n_redraws for move in moves),
    }


def in_short(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile, maximum and number of values."""
    if len(values) < 2:
        return {"n": len(values)}
    percentiles = statistics.quantiles(values, n=20, method="inclusive")
    return {"median": statistics.median(values), "p95": percentiles[-1], "max": max(values), "n": len(values)}


def time_starts(home: Path, browser: Browser, n_rounds: int) -> dict[str, Any]:
    """Start the dashboard and a bare page in turn.

    Args:
        home: the data folder.
        browser: opens the pages, with nothing cached.
        n_rounds: of both.
    """
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE_PAGE, encoding="utf-8")
        apps = {"dashboard": ROOT / "app.py", "bare": bare}
        rounds = [{name: _start(home, browser, app) for name, app in apps.items()} for _ in range(n_rounds)]
    found: dict[str, Any] = {
        name: {figure: statistics.median(one[name][figure] for one in rounds) for figure in rounds[0][name]}
        for name in apps
    }
    ours, bares = found["dashboard"], found["bare"]
    found["cold_start_ratio"] = ours["cold_start_s"] / bares["cold_start_s"]
    found["reload_ratio"] = ours["reload_s"] / bares["reload_s"]
    found["added_kb"] = ours["received_kb"] - bares["received_kb"]
    found["added_without_streamlits_files_kb"] = found["added_kb"] - (ours["static_kb"] - bares["static_kb"])
    return found


def _start(home: Path, browser: Browser, app: Path) -> dict[str, float]:
    start = time.perf_counter()
    with started(home, app=app) as (address, _), new_page(browser) as page:
        served = time.perf_counter() - start
        received = _count_bytes(page.context.new_cdp_session(page))
        page.goto(address, wait_until="commit")
        painted(page)
        cold = time.perf_counter() - start
        # What is fetched once all is drawn counts as well.
        page.wait_for_timeout(1000)
        n_bytes, n_static = received(False), received(True)
        page.reload(wait_until="commit")
        reload_s = painted(page) / 1e3
    return {
        "served_s": served,
        "cold_start_s": cold,
        "reload_s": reload_s,
        "received_kb": n_bytes / 1e3,
        "static_kb": n_static / 1e3,
    }


def _count_bytes(session: CDPSession) -> Callable[[bool], int]:
    """Count what a page receives from now on; gives what tells it, of all or of Streamlit's own files only."""
    of_path: dict[str, str] = {}
    n_bytes: dict[str, int] = {}

    def note_response(event: dict[str, Any]) -> None:
        of_path[event["requestId"]] = urlsplit(event["response"]["url"]).path

    def note_end(event: dict[str, Any]) -> None:
        n_bytes[event["requestId"]] = event["encodedDataLength"]

    def note_frame(event: dict[str, Any]) -> None:
        # Binary frames come as base64.
        payload = event["response"]["payloadData"]
        n_bytes["websocket"] = n_bytes.get("websocket", 0) + len(payload) * 3 // 4

    session.on("Network.responseReceived", note_response)
    session.on("Network.loadingFinished", note_end)
    session.on("Network.webSocketFrameReceived", note_frame)
    session.send("Network.enable")

    def told(only_static: bool) -> int:
        return sum(n for one, n in n_bytes.items() if not only_static or of_path.get(one, "").startswith("/static/"))

    return told


def time_visitors(home: Path, browser: Browser, seconds: float) -> dict[str, Any]:
    """Let visitors drag for a while, and watch one browser and the server's memory.

    Args:
        home: the data folder.
        browser: of the one who is timed.
        seconds: how long, from when all of them have opened the page.

    Raises:
        RuntimeError: a visitor could not open the page.
    """
    seen, moves, over = Seen(), [], threading.Event()
    views = [view_of(1 + number) for number in range(N_VISITORS)]
    with started(home) as (address, pid), new_page(browser) as page:
        slider = Slider(page, address, view_of(0), Store()).moves()
        crowd = threading.Thread(target=lambda: asyncio.run(visit_until(over, address, views, seen)))
        crowd.start()
        try:
            while len(seen.opened_s) < N_VISITORS:
                if seen.errors:
                    raise RuntimeError(f"a visitor could not open the page: {seen.errors[0]}")
                page.wait_for_timeout(100)
            n_early, memory = len(seen.moved_s), [_memory_mb(pid)]
            start = time.monotonic()
            while (passed := time.monotonic() - start) < seconds:
                moves.append(next(slider))
                page.wait_for_timeout(1e3 * PAUSE_S)
                if passed >= min(MOST_WARM_UP_S, seconds / 2):
                    memory.append(_memory_mb(pid))
            # Until the last visitor has left, further moves come in, which belong to no second that was waited.
            timed = seen.moved_s[n_early:]
        finally:
            over.set()
            crowd.join()
        n_exceptions = page.get_by_test_id("stException").count()
    first, warm, end = memory[0], memory[min(1, len(memory) - 1)], memory[-1]
    return {
        "visitors": N_VISITORS,
        "seconds": seconds,
        "browser": moves_in_short(moves),
        "answer_s": in_short(timed),
        "open_s": in_short(seen.opened_s),
        "moves_per_s": len(timed) / passed,
        "answer_kb": statistics.mean(seen.sent_bytes) / 1e3,
        "errors": len(seen.errors) + n_exceptions,
        "first_errors": seen.errors[:3],
        "memory_mb": {"first": first, "warm": warm, "end": end, "growth_pct": 100 * (end / warm - 1)},
    }


def _memory_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


def view_of(number: int) -> dict[str, str]:
    """The query parameters of a model on a data set."""
    return {"model": f"model-{number % N_MODELS}", "data": f"data-{number // N_MODELS % N_DATASETS}"}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["slider", "start", "visitors", []], help="all where none is named")
    parser.add_argument("--moves", type=int, default=100, help="of the slider")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each page")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the visitors drag")
    parser.add_argument("--home", type=Path, help="data folder to use again; filled where it has no database")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        parser.error("no Chromium found; install one, e.g. `apt install chromium`")
    os.environ.pop(ADDRESS_VARIABLE, None)
    found: dict[str, Any] = {"records": N_RECORDS}
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = (arguments.home or Path(temporary)).resolve()
        os.environ["TRIMBOARD_HOME"] = str(home)
        if not (home / "trimboard.db").exists():
            home.mkdir(parents=True, exist_ok=True)
            fill(f"sqlite:///{home / 'trimboard.db'}")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        found["browser"] = browser.version
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "slider": lambda: time_slider(home, browser, arguments.moves),
            "start": lambda: time_starts(home, browser, arguments.rounds),
            "visitors": lambda: time_visitors(home, browser, arguments.seconds),
        }
        for name, measure in parts.items():
            if name in (arguments.what or parts):
                found[name] = measure()
        browser.close()
    json.dump(_rounded(found), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
