"""Detections: an image as two models see it, side by side, and which images, classes and sizes lose most.

Each task is drawn as it predicts: boxes, masks, key points or rotated boxes; of a classifier, its likeliest classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from cache.record import RunRecord
from cache.store import Store
from compression.accuracy.detection_changes import Comparison, compare
from compression.accuracy.detections import DEFAULT_CONF, Detection, detect
from compression.accuracy.labels import ValidationImages, validation_images
from compression.catalog import TaskName
from compression.data.class_folders import validation_files
from compression.data.images import SUFFIXES
from compression.errors import DatasetError, TrimboardError
from compression.spec import HeadName
from pages.parts import frame
from pages.parts.access import may_act
from pages.parts.choices import BUILT_IN_DATA
from pages.parts.chooser import Chosen, choose_series, tell_unknown
from pages.parts.conditions import DataSource, find_data, path_key, whole_name
from pages.parts.detections.changes import MATCHED_BY, boxes_of, change_rows, kinds_drawn, summary, summary_of_labels
from pages.parts.detections.classified import show_classes
from pages.parts.detections.compared_levels import Level, levels_of, why_missing
from pages.parts.detections.gallery import RankingQuestion, show_gallery
from pages.parts.detections.picture_plot import draw_picture, legend_html
from pages.parts.detections.pictures import (
    MAX_UPLOAD_MB,
    Picture,
    class_picture,
    sample_picture,
    uploaded_picture,
    validation_picture,
)
from pages.parts.jobs.runs import plain
from pages.parts.plots import CONFIG
from pages.parts.results import open_store

# The networks run once an image, at this confidence; the slider only filters.
LOWEST_CONF = 0.05

SAMPLE, FROM_DATA, UPLOAD = "Drawn sample", "Validation image", "Upload"
# One image takes a moment on any processor, and a run on a GPU is not disturbed.
DEVICE = "cpu"
# Where images may come and go, the list of them is looked up again after so many seconds.
LIST_FOR_S = 60.0


def main() -> None:
    """Draw the page."""
    frame.begin("Detections")
    st.title("What does it still see?")
    st.markdown(
        "One image, seen by two models: what the second one lost, and what it newly finds. Below, the images of the "
        "data set that lose most, and where: by class, and by size of the objects where there are objects."
    )
    store = open_store()
    chosen = choose_series(store)
    is_classifier = chosen.series is not None and chosen.series.any_record.task == "classify"
    if is_classifier:
        _tell_of_classifier(chosen)
    pair = _choose_levels(store, chosen)
    if pair is None:
        return
    source, problem = _find_data(chosen)
    assert chosen.series is not None
    record = chosen.series.any_record
    picture = _choose_picture(chosen, record.task, source, problem)
    if is_classifier:
        if picture is not None:
            show_classes(*pair, picture, record.imgsz, DEVICE)
        return
    if picture is not None:
        _draw_comparison(*pair, picture, record)
    question = RankingQuestion(
        before=pair[0],
        after=pair[1],
        source=source,
        fingerprint=chosen.series.spec.data_fingerprint,
        imgsz=record.imgsz,
        head=record.head,
    )
    show_gallery(question, partial(_images_of, source, record.task), _look_at)


def _tell_of_classifier(chosen: Chosen) -> None:
    """One sentence, and the way to what tells of all images."""
    st.info(
        f"{plain(chosen.model)} is a classifier, which finds nothing within images: here two of its levels say what a "
        f"whole image is of, and Explore says how often each level is right.",
        icon=":material/info:",
    )
    st.page_link(
        "pages/explore.py",
        label="Top-1 and top-5 of all levels",
        icon=":material/insights:",
        query_params={"model": chosen.model, "data": chosen.data},
    )


def _choose_levels(store: Store, chosen: Chosen) -> tuple[Level, Level] | None:
    """The two models to compare; None where fewer than two are here, which is said."""
    levels = levels_of(chosen.series, partial(store.artifact_path, fetch=False))
    missing = why_missing(levels.missing, shares_files=store.shares_files)
    if len(levels.here) < 2:
        what = f"{plain(chosen.model)} on {plain(chosen.data)}"
        have = (
            f"Only {levels.here[0].noun} of {what} can be looked through here"
            if levels.here
            else (f"No model of {what} can be looked through here")
        )
        st.info(f"{have}; two are needed. {missing or 'Measure its levels on Explore.'}", icon=":material/info:")
        return None
    by_label = {level.label: level for level in levels.here}
    tell_unknown("first model", chosen.asked.get("before"), by_label)
    tell_unknown("second model", chosen.asked.get("after"), by_label)
    left, right, _ = st.columns([4, 4, 8])
    before = left.selectbox("First model", list(by_label), 0, key="before", bind="query-params")
    after = right.selectbox("Second model", list(by_label), levels.deepest, key="after", bind="query-params")
    if missing:
        st.caption(missing)
    return by_label[before], by_label[after]


def _find_data(chosen: Chosen) -> tuple[DataSource | None, str]:
    """Where the data set is, or why it is nowhere."""
    given = str(st.session_state.get(path_key(chosen.data)) or "").strip()
    try:
        return find_data(chosen.data, given, chosen.on_same_data), ""
    except DatasetError as error:
        return None, str(error)


def _choose_picture(chosen: Chosen, task: TaskName, source: DataSource | None, problem: str) -> Picture | None:
    """The image to look at; None where there is none yet, which is said."""
    # The images of a data set are no results, and may be nobody else's business.
    kinds = [SAMPLE] * (chosen.data == BUILT_IN_DATA) + [FROM_DATA, UPLOAD] * may_act()
    if not kinds:
        return None
    _begin_with_address("source", kinds)
    kind = st.segmented_control("Image", kinds, required=True, key="source")
    _write_address("source", kind)
    try:
        if kind == SAMPLE:
            return sample_picture()
        if kind == UPLOAD:
            return _upload()
        if source is None:
            _ask_for_path(chosen, problem)
            return None
        return _choose_validation_image(source, task, chosen.asked.get("image"))
    except TrimboardError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None


def _upload() -> Picture | None:
    file = st.file_uploader(
        f"An image of yours, at most {MAX_UPLOAD_MB} MB; it stays on this machine",
        type=list(SUFFIXES),
        max_upload_size=MAX_UPLOAD_MB,
        key="upload",
    )
    if file is None:
        st.info("Choose a file to see what both models make of it.", icon=":material/image:")
        return None
    return uploaded_picture(file.name, file.getvalue())


def _ask_for_path(chosen: Chosen, problem: str) -> None:
    st.info(plain(problem), icon=":material/folder_off:")
    whole, key = whole_name(chosen.data, chosen.on_same_data), path_key(chosen.data)
    before = st.session_state.get(key)
    path = st.text_input(f"Path of the data.yaml of {whole}", key=key, persist_state="session")
    if path != before:
        st.rerun()


def _choose_validation_image(source: DataSource, task: TaskName, asked: str | None) -> Picture:
    if task == "classify":
        files = _listed_of_classes(source.argument)
        name = _choose_name(list(files), asked)
        return class_picture(name, files[name])
    images = _images_of(source, task)
    return validation_picture(images, _choose_name(list(images.pairs), asked))


def _choose_name(names: list[str], asked: str | None) -> str:
    tell_unknown("image", asked, names)
    _begin_with_address("image", names)
    name = st.selectbox("Validation image", names, key="image")
    _write_address("image", name)
    return name


def _images_of(source: DataSource | None, task: TaskName) -> ValidationImages:
    if source is None:
        raise DatasetError("The data set is not on this machine; give its path above.")
    return _listed(source.argument, source.classes, task)


@st.cache_data(
    ttl=LIST_FOR_S, show_spinner="Looking up the validation images; the built-in ones are drawn on first use."
)
def _listed(data: str, classes: tuple[int, ...], task: TaskName) -> ValidationImages:
    return validation_images(data, classes, task)


@st.cache_data(ttl=LIST_FOR_S, show_spinner="Looking up the validation images.")
def _listed_of_classes(folder: str) -> dict[str, Path]:
    return validation_files(Path(folder).expanduser())


def _look_at(name: str) -> None:
    """Turn to an image of the data set."""
    st.session_state["source"], st.session_state["image"] = FROM_DATA, name


def _begin_with_address(key: str, options: Sequence[str]) -> None:
    """Let a widget begin with what the address says, else with the first option.

    Streamlit's own binding does not write into the address what was chosen elsewhere, by a click in the gallery, before
    the widget was drawn for the first time.
    """
    asked = st.query_params.get(key)
    if st.session_state.get(key) not in options:
        st.session_state[key] = asked if asked in options else options[0]


def _write_address(key: str, value: str | None) -> None:
    if value is not None:
        st.query_params[key] = value


@st.fragment
def _draw_comparison(before: Level, after: Level, picture: Picture, record: RunRecord) -> None:
    """Everything that follows the confidence."""
    left, right = st.columns([5, 3], gap="large", vertical_alignment="bottom")
    conf = left.slider(
        "Confidence",
        LOWEST_CONF,
        0.95,
        DEFAULT_CONF,
        0.05,
        key="conf",
        bind="query-params",
        help="Lower scores count as not seen.",
    )
    labels = picture.objects is not None and right.toggle("Labels", value=True, key="labels", bind="query-params")
    try:
        with st.spinner("Both models look at the image; the first time, PyTorch is loaded too."):
            seen = [
                _seen(one.sha256, picture.sha256, record.imgsz, record.head, one, picture) for one in (before, after)
            ]
    except TrimboardError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    comparison = compare(seen[0], seen[1], conf=conf, objects=picture.objects)
    st.markdown(
        f"**{summary(comparison, before.noun, after.noun)}** {summary_of_labels(comparison, before.noun, after.noun)}"
    )
    drawn = [boxes_of(comparison, side, labels=labels) for side in ("before", "after")]
    st.caption(MATCHED_BY[record.task])
    st.html(legend_html(kinds_drawn(*drawn)))
    for column, level, boxes, side in zip(
        st.columns(2, gap="medium"), (before, after), drawn, ("before", "after"), strict=True
    ):
        with column:
            st.markdown(f"**{level.label}**, {plain(picture.name)}")
            st.plotly_chart(draw_picture(picture.image, boxes), key=f"picture-{side}", config=CONFIG, width="stretch")
    _draw_changes(comparison)


@st.cache_data(max_entries=256, show_spinner=False)
def _seen(
    checkpoint_sha256: str, picture_sha256: str, imgsz: int, head: HeadName, _level: Level, _picture: Picture
) -> list[Detection]:
    """All that a model sees at the lowest confidence; kept by the hashes of both."""
    (found,) = detect(_level.checkpoint, [_picture.image], imgsz=imgsz, head=head, conf=LOWEST_CONF, device=DEVICE)
    return found


def _draw_changes(comparison: Comparison) -> None:
    labelled = comparison.objects is not None
    changed = comparison.of_kind("lost", "gained", "reclassified", "moved", "double")
    kept = comparison.of_kind("kept")
    if changed:
        st.table(pd.DataFrame(change_rows(changed, labelled=labelled)), border="horizontal", hide_index=True)
    elif kept:
        st.caption("Both models see the same, and no box has moved.")
    if kept:
        with st.expander(f"{len(kept)} kept"):
            st.table(pd.DataFrame(change_rows(kept, labelled=labelled)), border="horizontal", hide_index=True)


main()
