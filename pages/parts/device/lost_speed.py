"""Where a level gains less time than GFLOPs: the data, the words and the section that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from cache.layer_times import LayerTimesRecord
from cache.record import SHORT_KEY, RunRecord
from cache.store import Store
from compression.deployment.lost_time import REST, LostTime, lost_time
from compression.image_size import in_pixels
from pages.parts.legend import lost_speed_legend_html
from pages.parts.plots import CONFIG, draw_lost_speed

# So many layers are shown, and so many are named in words.
N_SHOWN = 12
N_NAMED = 3
WHOLE = "whole model"
# Less of the original's time than this part is not worth telling, and hardly to be told from noise.
LEAST_LOST = 0.01


@dataclass(frozen=True, kw_only=True)
class LostSpeed:
    """What a plot of lost speed shows.

    Attributes:
        rows: the whole model first, then the layers that lose most.
        labels: of the rows.
        hover: everything about each row; lines separated by <br>.
        words: the same in a few sentences.
    """

    rows: tuple[LostTime, ...]
    labels: tuple[str, ...]
    hover: tuple[str, ...]
    words: str


def lost_speed(times: LayerTimesRecord, record: RunRecord) -> LostSpeed:
    """Arrange measured times of a level's layers beside those of the original.

    Args:
        times: of the original and the level.
        record: the level's result.
    """
    layers = lost_time(times)
    before, after = times.forms
    whole = LostTime(name=WHOLE, ms_before=before.total_ms, ms_after=after.total_ms, gflops_kept=_deployed_part(record))
    rows = (whole, *[row for row in layers if row.lost_ms > 0][:N_SHOWN])
    return LostSpeed(
        rows=rows,
        labels=tuple(row.name for row in rows),
        hover=tuple(map(_hover, rows)),
        words=_words(whole, layers, times),
    )


def _deployed_part(record: RunRecord) -> float:
    before, after = record.costs_original.gflops_deployed, record.costs.gflops_deployed
    assert before, "a measured result without its costs"
    assert after is not None
    return after / before


def _hover(row: LostTime) -> str:
    gflops = "" if row.name == REST else f"GFLOPs kept {row.gflops_kept:.0%}, "
    return "<br>".join(
        (
            f"<b>{row.name}</b>",
            f"{gflops}time kept {row.time_kept:.0%}",
            f"{row.ms_before:.2f} → {row.ms_after:.2f} ms",
            f"{row.lost_ms:+.2f} ms against a time that shrinks like the GFLOPs",
        )
    )


def _words(whole: LostTime, layers: Sequence[LostTime], times: LayerTimesRecord) -> str:
    spec = times.spec
    threads = f", {spec.threads} thread{'s' * (spec.threads != 1)}" if spec.threads else ""
    said = (
        f"On {spec.backend} {spec.backend_version} ({spec.machine}{threads}) this level keeps "
        f"{whole.gflops_kept:.0%} of the deployed GFLOPs and {whole.time_kept:.0%} of the time: "
        f"{whole.ms_before:.1f} → {whole.ms_after:.1f} ms."
    )
    if whole.lost_ms < LEAST_LOST * whole.ms_before:
        return f"{said} No speed-up is lost worth telling: the time shrinks at least like the GFLOPs."
    named = [f"{row.name} ({row.lost_ms:.2f} ms)" for row in layers[:N_NAMED] if row.lost_ms > 0]
    return (
        f"{said} If time shrank like GFLOPs, it would be {whole.lost_ms:.1f} ms less. "
        f"Layers that lose most: {', '.join(named)}."
    )


def show_lost_speed(store: Store, record: RunRecord, originals: set[str]) -> None:
    """Draw the layers that lose most of a level's speed-up, or how to measure them.

    Args:
        store: of measured times.
        record: the level's result.
        originals: hashes that its original is known by.
    """
    found = _measured(store, record, originals)
    if not found:
        st.info("Times of this level's layers are not measured yet. This measures them, in turn with the original's:")
        st.code(
            f"trimboard bench {record.key[:SHORT_KEY]} --backend onnx,openvino --imgsz {record.imgsz} "
            f"--head {record.head} --layers",
            language="bash",
            wrap_lines=True,
        )
        return
    label = st.segmented_control(
        "Measured on",
        list(found),
        default=next(iter(found)),
        required=True,
        key="lost-speed-on",
        bind="query-params",
        label_visibility="collapsed" if len(found) == 1 else "visible",
    )
    data = lost_speed(found[label or next(iter(found))], record)
    st.markdown(data.words)
    st.html(lost_speed_legend_html())
    st.plotly_chart(
        draw_lost_speed(data.rows, data.labels, data.hover), key="lost-speed", config=CONFIG, width="stretch"
    )
    st.caption(
        "Each layer with its activation and the copying that brings its input in place, as the runtime's own profiler "
        "times them. Lost is what a layer takes longer than if its time had shrunk like its GFLOPs."
    )


def _measured(store: Store, record: RunRecord, originals: set[str]) -> dict[str, LayerTimesRecord]:
    """What was measured of a level in turn with its original, by where; the newest of each."""
    if record.checkpoint_sha256 is None:
        return {}
    every = [
        times
        for times in store.layer_times(record.checkpoint_sha256)
        if times.spec.reference in originals and times.spec.head == record.head
    ]
    several_machines = len({times.spec.machine for times in every}) > 1
    found: dict[str, LayerTimesRecord] = {}
    for times in every:
        found.setdefault(_where(times, several_machines), times)
    return found


def _where(times: LayerTimesRecord, with_machine: bool) -> str:
    spec = times.spec
    parts = [f"{spec.backend} {spec.backend_version}", spec.precision, f"{in_pixels(spec.imgsz)} px"]
    parts += [f"batch {spec.batch}"] * (spec.batch > 1) + [f"{spec.threads} threads"] * (spec.threads > 1)
    return ", ".join(parts + [spec.machine] * with_machine)
