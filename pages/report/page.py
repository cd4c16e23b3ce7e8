"""A report as one HTML file that opens offline: nothing in it asks a network, which its security policy enforces."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Hashable, Sequence
from datetime import datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cache.comparison import published_table
from cache.record import RunRecord
from cache.series import capitalized
from cache.verdict import Verdict
from compression.models.tasks import TASKS, head_in_words
from pages.parts import formats
from pages.parts.methods import made_by
from pages.report import TEMPLATE
from pages.report.figures import curve_plots, layer_plot, tradeoff_plots
from pages.report.findings import Findings
from pages.report.levels import (
    Cell,
    Level,
    class_cells,
    class_names,
    comparison_cells,
    lead,
    levels_of,
    sibling_cells,
    steps_cells,
    time_cells,
    time_note,
)
from pages.report.provenance import hardware_of, measured_between, provenance_of

ICON = Path(__file__).parents[1] / "parts" / "icon.png"

_HEADS = {"e2e": "end-to-end head (e2e)", "nms": "one-to-many head with NMS (nms)"}


def report_html(findings: Findings, *, made: datetime) -> bytes:
    """The report as UTF-8.

    Args:
        findings: what it tells. Where their specs name places, the report does; see `RunSpec.without_places`.
        made: when it is made, with its time zone.
    """
    levels = levels_of(findings)
    text = (
        _templates()
        .get_template("report.html")
        .render(
            findings=findings,
            file=file_stem(findings.model, findings.data),
            made=made,
            trimboard=_version(),
            facts=_facts(findings),
            lead=lead(levels, findings.task),
            accuracy=TASKS[findings.task].main,
            how=made_by(findings.series.any_record).rpartition(", seed")[0],
            original=levels[0],
            levels=levels,
            comparison=[(level, comparison_cells(level, levels[0], findings.task)) for level in levels],
            steps={level.name: steps_cells(level) for level in levels if _has_steps(level)},
            times={level.name: rows for level in levels if (rows := time_cells(level, findings))},
            time_note=time_note(levels, findings),
            classes=_classes(levels),
            tradeoffs=tradeoff_plots(findings),
            layers=layer_plot(findings),
            curves=curve_plots(levels, TASKS[findings.task].main),
            siblings=_siblings(findings.neighbours.siblings),
            siblings_published=_siblings(findings.neighbours.siblings_published),
            published=[(_published_name(record), record, _rows(record)) for record in findings.neighbours.published],
            provenance=provenance_of(levels),
        )
    )
    return text.encode()


def file_stem(model: str, data: str) -> str:
    """The name, without suffix, of a file on a model on a data set; no character in it that a file system refuses."""
    return re.sub(r"[^\w.-]+", "-", f"trimboard-{model}-{data}").strip("-.")


def _facts(findings: Findings) -> dict[str, str]:
    """What the head of the report says of the figures."""
    record, records = findings.series.any_record, findings.records
    assert record.spec is not None, "a measured record without a spec"
    seeds = [str(one.seed) for one in findings.seeds]
    return {
        "Model": record.model if record.model == record.architecture else f"{record.model} ({record.architecture})",
        "Data set": findings.data,
        "Conditions": findings.series.label,
        "Seeds" if len(seeds) > 1 else "Seed": ", ".join(seeds),
        "Image size": f"{record.imgsz} px",
        "Accuracy of": head_in_words(record.task, record.head) if record.task == "classify" else _HEADS[record.head],
        "Measured": measured_between(records),
        "On": hardware_of(records),
    }


def _has_steps(level: Level) -> bool:
    """Whether anything is known of the way to a result, or beside it."""
    return any(record.metrics_pruned or record.metrics_recovered or record.metrics_test for record in level.records)


def _classes(levels: Sequence[Level]) -> list[tuple[str, list[Any]]]:
    measured = [level for level in levels if level.metrics]
    return [(name, class_cells(name, measured)) for name in class_names(measured)]


def _siblings(records: Sequence[RunRecord]) -> list[tuple[str, list[Cell]]]:
    return [(record.architecture, sibling_cells(record)) for record in records]


def _rows(record: RunRecord) -> list[dict[Hashable, str]]:
    return published_table(record).to_dict("records")


def _published_name(record: RunRecord) -> str:
    return f"{record.model}, level {record.level}, {record.imgsz} px, {record.head} head"


def _lead_and_figures(verdict: Verdict) -> tuple[str, str]:
    """The two parts of a verdict's sentence."""
    head, _, figures = verdict.text.partition(": ")
    return head, figures


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["day"] = formats.day
    found.filters["title_first"] = capitalized
    found.filters["parts"] = _lead_and_figures
    # Texts of this program and of Plotly, in which nothing may be escaped.
    found.globals["plotly"] = lambda: Markup(get_plotlyjs())
    found.globals["style"] = Markup((TEMPLATE / "style.css").read_text(encoding="utf-8"))
    scripts = [(TEMPLATE / name).read_text(encoding="utf-8") for name in ("images.js", "report.js")]
    found.globals["script"] = Markup(f'"use strict";\n(() => {{\n{"".join(scripts)}}})();')
    found.globals["icon"] = Markup(f"data:image/png;base64,{b64encode(ICON.read_bytes()).decode()}")
    return found


def _version() -> str:
    try:
        return version("trimboard")
    except PackageNotFoundError:
        return ""
