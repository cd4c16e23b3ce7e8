"""The report as a document: what stands in it, that texts from outside are only texts, and that it asks no network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from cache.latency import LatencyRecord
from cache.record import EpochRow, RunRecord
from pages.report.findings import findings_of
from pages.report.page import file_stem, report_html
from tests import factories

ROOT = Path(__file__).parents[3]
MADE = datetime(2026, 6, 2, tzinfo=UTC)
EPOCHS = tuple(
    EpochRow(epoch=n, map50=0.5, map50_95=0.3, precision=0.6, recall=0.4, losses={"val/box": 1.0}, lr=0.1, seconds=1.0)
    for n in (1, 2)
)


class Document(HTMLParser):
    """Texts outside of scripts and styles, figures, and whatever a browser would fetch."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.figures: dict[str, dict[str, object]] = {}
        self.sources: list[str] = []
        self._within = ""
        self.feed(html.decode())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attributes)
        self.sources += [str(found[name]) for name in ("src", "href") if name in found]
        self._within = found.get("id") or tag if tag in ("script", "style") else self._within

    def handle_endtag(self, tag: str) -> None:
        self._within = "" if tag in ("script", "style") else self._within

    def handle_data(self, data: str) -> None:
        if self._within.startswith("figure-"):
            self.figures[self._within.removeprefix("figure-")] = json.loads(data)
        elif not self._within:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def _report(records: Sequence[RunRecord], *latencies: LatencyRecord, model: str = "yolo26n") -> Document:
    found = findings_of(records, latencies, model=model, data=records[0].data)
    return Document(report_html(found, made=MADE))


def _results() -> list[RunRecord]:
    """Levels 0, 3 and 5, the last with two seeds and a checkpoint, and a sibling."""
    levels = factories.series((0, 3, 5))
    levels[2] = factories.with_checkpoint(
        replace(levels[2], curve=EPOCHS, warnings=("The data set is small.",)), b"x", "ef" * 32
    )
    again = replace(factories.record(5, spec=factories.spec(5, seed=1)), curve=EPOCHS)
    return [*levels, again, factories.original("yolo26s", 4.0, 0.8)]


def test_it_tells_levels_seeds_times_verdicts_and_where_they_come_from() -> None:
    found = _report(_results(), factories.timed("ef" * 32, "ab" * 32, 0.8))
    text = found.text
    assert "yolo26n on shapes" in text
    assert "Level 5 has mAP50-95 0.620 (-13.9%) at 1.19 GFLOPs (-22.0%) and 1.93 M parameters (-25.0%)" in text
    assert "Level 5 mean of seeds 0, 1" in text
    assert "Level 1 not measured" in text
    assert "onnx 1.2, fp32, 1 thread 16 ms" in text
    assert "0.800 (0.790 to 0.810)" in text
    assert "Not timed: Original, Level 3." in text
    assert "Only pruning goes there:" in text
    assert "The data set is small." in text
    assert "trimboard run yolo26n.pt --data=shapes --level=5 --epochs=20 --imgsz=320 --seed=1 --head=e2e" in text
    for provenance in ("ab" * 32, "cd" * 32, "ef" * 32, "a processor, 2 cores", "0123456", "2 June 2026"):
        assert provenance in text
    assert "disc 0.720 0.684 -5.0%" in text
    assert set(found.figures) == {
        *("accuracy-gflops", "accuracy-params", "accuracy-time-1", "layers", "curve-accuracy", "curve-loss")
    }
    (line,) = [
        trace for trace in _traces(found, "accuracy-gflops") if trace["name"] == "Levels, measured (0 = original)"
    ]
    assert (line["x"], line["y"]) == ([1.52, 1.3194, 1.1856], [0.72, 0.684, 0.62])


def _traces(found: Document, name: str) -> list[dict[str, object]]:
    traces = found.figures[name]["data"]
    assert isinstance(traces, list)
    return traces


def test_what_was_not_measured_says_so() -> None:
    text = _report(factories.series((0, 5))).text
    assert "Not measured: no pass of these models was timed." in text
    assert "Accuracy against time is not drawn, because no time was measured in turn with the original" in text
    assert "No unpruned sibling of yolo26n is measured on shapes under these conditions" in text
    assert "no checkpoint was kept" in text


def test_published_figures_stand_apart() -> None:
    coco = {"data": "coco", "imgsz": 640, "data_fingerprint": "99" * 32, "model": "yolo26s.pt"}
    own = [
        replace(
            factories.record(level, scale=4.0, spec=factories.spec(level, **coco)),
            model="yolo26s",
            architecture="yolo26s",
        )
        for level in (0, 3)
    ]
    found = _report([*own, factories.published()], model="yolo26s")
    measured, _, published = found.text.partition("Published, not measured here")
    assert "Source: a publication" in published
    assert "a publication" not in measured
    names = [trace["name"] for trace in _traces(found, "accuracy-gflops")]
    assert names == ["Levels, measured (0 = original)", "Compressed, published"]


HOSTILE = "<img src=x onerror=alert(1)></script><b>&'\""


def test_texts_from_outside_are_escaped() -> None:
    records = [
        replace(
            record,
            model=HOSTILE,
            warnings=(f"warning {HOSTILE}",),
            metrics=replace(record.metrics, per_class={f"class {HOSTILE}": 0.5}),
            environment={"processor": HOSTILE},
            curve=EPOCHS,
        )
        for record in factories.series((0, 5), model=f"{HOSTILE}.pt")
    ]
    clean = _report([replace(record, curve=EPOCHS) for record in factories.series((0, 5))])
    found = _report(records, model=HOSTILE)
    # It brings not one element into the page.
    assert found.tags.count("img") == clean.tags.count("img")
    assert found.tags.count("script") == clean.tags.count("script")
    for text in (f"{HOSTILE} on shapes", f"warning {HOSTILE}", f"class {HOSTILE}"):
        assert text in found.text
    # Plotly reads a little HTML in what it shows under the mouse.
    (hover, *_) = [trace["hovertext"] for trace in _traces(found, "accuracy-gflops")]
    assert isinstance(hover, list)
    assert all("<img" not in text and "&lt;img" in text for text in hover)


def test_nothing_in_it_lies_elsewhere() -> None:
    found = _report(_results())
    assert all(source.startswith(("data:image/", "#")) for source in found.sources), found.sources


def test_names_of_files_hold_nothing_that_a_disk_refuses() -> None:
    assert file_stem("a/../b c", "coco [person, car]") == "trimboard-a-..-b-c-coco-person-car"


def test_a_report_needs_neither_torch_nor_streamlit() -> None:
    script = "import sys, pages.report.page; print(sorted({'torch', 'ultralytics', 'streamlit'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
