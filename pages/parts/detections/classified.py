"""An image as two classifiers see it: the classes that each finds likeliest, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from cache.series import capitalized
from compression.accuracy.class_scores import ClassScore, classify
from compression.errors import TrimboardError
from pages.parts.detections.compared_levels import Level
from pages.parts.detections.pictures import Picture
from pages.parts.jobs.runs import plain

# Larger images say nothing more about what is on them as a whole.
SHOWN_PX = 460


def show_classes(before: Level, after: Level, picture: Picture, imgsz: int, device: str) -> None:
    """Draw the image and what both classifiers take it for.

    Args:
        before: the first model.
        after: the second one.
        picture: what they look at.
        imgsz: side of the square input, pixels.
        device: Ultralytics' device string.
    """
    try:
        with st.spinner("Both models look at the image; the first time, PyTorch is loaded too."):
            scores = [_scores(one.sha256, picture.sha256, imgsz, device, one, picture) for one in (before, after)]
    except TrimboardError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return
    sentence = class_sentence(scores[0], scores[1], before.noun, after.noun, picture.class_name)
    st.markdown(f"**{sentence}**")
    left, *sides = st.columns([3, 4, 4], gap="large")
    with left:
        shown = picture.image.copy()
        shown.thumbnail((SHOWN_PX, SHOWN_PX))
        st.image(shown, width="stretch", alt=f"The image {picture.name}")
        st.caption(plain(picture.name))
    for column, level, own in zip(sides, (before, after), scores, strict=True):
        with column:
            st.markdown(f"**{level.label}**")
            st.table(pd.DataFrame(class_rows(own, picture.class_name)), border="horizontal", hide_index=True)


def class_sentence(
    before: Sequence[ClassScore], after: Sequence[ClassScore], first: str, second: str, labelled: str | None
) -> str:
    """What both take the image for, and what it is.

    Args:
        before: of the first model, the likeliest class first.
        after: of the second one likewise.
        first: the first model as it is called within a sentence, as in "the original".
        second: the second one likewise.
        labelled: the class that the image is of; None where it is not known.
    """
    old, new = before[0], after[0]
    if old.name == new.name:
        seen = f"Both take it for {plain(old.name)} (score {old.score:.2f} → {new.score:.2f})"
    else:
        seen = (
            f"{capitalized(first)} takes it for {plain(old.name)} (score {old.score:.2f}), "
            f"{second} for {plain(new.name)} ({new.score:.2f})"
        )
    return f"{seen}." if labelled is None else f"{seen}; its folder says {plain(labelled)}."


def class_rows(scores: Sequence[ClassScore], labelled: str | None) -> list[dict[str, str]]:
    """The rows of the table of one model.

    Args:
        scores: the likeliest class first.
        labelled: the class that the image is of; None where it is not known.
    """
    return [
        {
            "Class": plain(one.name),
            "Score": f"{one.score:.3f}",
            **({} if labelled is None else {"By the label": "its class" if one.name == labelled else ""}),
        }
        for one in scores
    ]


@st.cache_data(max_entries=256, show_spinner=False)
def _scores(
    checkpoint_sha256: str, picture_sha256: str, imgsz: int, device: str, _level: Level, _picture: Picture
) -> list[ClassScore]:
    """What a model takes the image for; kept by the hashes of both."""
    return classify(_level.checkpoint, _picture.image, imgsz=imgsz, device=device)
