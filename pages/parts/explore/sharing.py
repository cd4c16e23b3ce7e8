"""What can be taken along from Explore: comparison, report, checkpoint, and the command that repeats a result."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import datetime

import streamlit as st

from cache.comparison import document, to_csv
from cache.judged import beside_of, checkpoints_of, judged
from cache.record import RunRecord
from cache.store import Store
from compression.errors import TrimboardError
from pages.parts import formats
from pages.parts.access import may_act
from pages.parts.explore.light import draw_command
from pages.parts.explore.view import View
from pages.parts.outcome import Outcome
from pages.parts.results import heads_on

# What of results a visitor is told.
_Told = Callable[[list[RunRecord]], list[RunRecord]]

_WHAT_FILES_HOLD = (
    "CSV and JSON hold all levels side by side with verdicts and times, measured and published in a column of their "
    "own. The report is one file with plots, verdicts and provenance, which opens offline."
)


def show_sharing(view: View, outcome: Outcome) -> None:
    """Draw the downloads and commands of what is shown.

    Args:
        view: what was chosen.
        outcome: of the chosen level.
    """
    st.header("Take it with you", anchor=False)
    # Files are made when they are asked for, where nobody can be asked any more who the visitor is.
    told = _as_they_are if may_act() else _without_places
    with st.container(horizontal=True, gap="small", key="downloads"):
        _draw_comparison(view, told)
        _draw_report(view, told)
    st.caption(_WHAT_FILES_HOLD)
    if outcome.record is None:
        return
    if may_act():
        _draw_checkpoint(view.store, outcome.record)
    _draw_command(told([outcome.record])[0])


def _as_they_are(records: list[RunRecord]) -> list[RunRecord]:
    return records


def _without_places(records: list[RunRecord]) -> list[RunRecord]:
    """Visitors who may not act see no paths of the server."""
    return [record.without_places() for record in records]


def _draw_comparison(view: View, told: _Told) -> None:
    def csv() -> bytes:
        table = view.store.table(view.model, view.data)
        return to_csv(table, beside_of(heads_on(view.store, view.data), view.latencies, view.model))

    def as_json() -> str:
        found = judged(told(heads_on(view.store, view.data)), view.latencies, view.model)
        return json.dumps(document(view.store.table(view.model, view.data), found), indent=1)

    for label, make, suffix, mime in (
        ("Export comparison CSV", csv, "csv", "text/csv"),
        ("JSON", as_json, "json", "application/json"),
    ):
        st.download_button(
            label,
            data=make,
            file_name=f"trimboard-{view.model}-{view.data}.{suffix}",
            mime=mime,
            icon=":material/table_view:" if suffix == "csv" else ":material/data_object:",
            on_click="ignore",
            disabled=not view.records,
            key=suffix,
        )


def _draw_report(view: View, told: _Told) -> None:
    series = view.series

    def report() -> bytes:
        from pages.report.findings import findings_of
        from pages.report.page import report_html

        assert series is not None, "a report on nothing"
        # The page holds results without their layers and curves.
        records = view.store.records(data=view.data)
        findings = findings_of(
            told(records),
            view.store.latencies(checkpoints_of(records)),
            model=view.model,
            data=view.data,
            key=series.any_record.key,
            seed=series.seed,
            find_sensitivities=view.store.sensitivities,
        )
        return report_html(findings, made=datetime.now().astimezone())

    st.download_button(
        "Report (HTML)",
        data=report,
        file_name=f"trimboard-{view.model}-{view.data}.html",
        mime="text/html",
        icon=":material/description:",
        on_click="ignore",
        disabled=series is None,
        key="report",
        help=f"On the command line: `{_report_command(view)}`" if series else None,
    )


def _report_command(view: View) -> str:
    assert view.series is not None, "a report on nothing"
    return shlex.join(
        [
            "trimboard",
            "report",
            view.model,
            f"--data={view.data}",
            f"--conditions={view.series.label}",
            f"--seed={view.series.seed}",
        ]
    )


def _draw_command(record: RunRecord) -> None:
    from pages.report.reproduction import reproduction_of

    found = reproduction_of(record)
    if found is None:
        return
    label = f"Command that measures level {record.level} again, or elsewhere"
    draw_command(label, found.command, "run-command", " ".join(found.notes))


def _draw_checkpoint(store: Store, record: RunRecord) -> None:
    artifact = record.checkpoint
    path = store.artifact_path(record, fetch=False)
    if artifact is None or path is None:
        st.caption("The checkpoint of this level is not on this machine.")
        if artifact is not None and store.shares_files:
            _offer_to_fetch(store, record)
        return
    st.download_button(
        f"Download level {record.level} checkpoint ({formats.size(artifact.size_bytes)})",
        # Read when it is asked for, not whenever the slider moves.
        data=path.read_bytes,
        file_name=artifact.file,
        mime="application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
        key="checkpoint",
    )
    st.caption(f'Plain Ultralytics loads it: `YOLO("{artifact.file}")`. SHA-256 `{artifact.sha256}`')


def _offer_to_fetch(store: Store, record: RunRecord) -> None:
    asked = st.button("Fetch it from the shared place", icon=":material/cloud_download:", key="fetch")
    if not asked or not may_act():
        return
    try:
        found = store.artifact_path(record)
    except TrimboardError as error:
        st.error(str(error), icon=":material/error:")
        return
    if found:
        st.rerun()
    st.error("It is not there either, or it is damaged.", icon=":material/error:")
