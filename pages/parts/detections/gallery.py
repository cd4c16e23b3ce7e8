"""What is lost on all validation images: ranked tables and the images that lose most, from a process in the background.

The ranking lies in the data folder, so that it is there at once when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st
from PIL import Image

from compression.accuracy.detection_ranking import SIZE_MEANING, DetectionRanking, RankRow, find_ranking, ranking_key
from compression.accuracy.detection_survey import progress_in
from compression.accuracy.detections import DEFAULT_CONF
from compression.accuracy.labels import ValidationImages
from compression.errors import TrimboardError
from compression.jobs import local
from compression.spec import HeadName
from pages.parts.access import may_act
from pages.parts.conditions import DataSource
from pages.parts.detections.compared_levels import Level
from pages.parts.detections.pictures import thumbnail
from pages.parts.jobs.runs import plain

POLL_SECONDS = 1.0
# Images shown as thumbnails; the table beside them has all.
MOST_SHOWN = 12
THUMBNAIL_PX = 320

CHANGED = (
    "The data set is not the one that these models were measured on: images or labels have changed since. "
    "Measure the models again on Explore."
)


@dataclass(frozen=True, kw_only=True)
class RankingQuestion:
    """Everything that decides a ranking.

    Attributes:
        before: the first model.
        after: the second one.
        source: the data set, as the command line takes it; None where it is not on this machine.
        fingerprint: of the data set that both were measured on.
        imgsz: side of the square input, pixels.
        head: the predictions that count.
    """

    before: Level
    after: Level
    source: DataSource | None
    fingerprint: str
    imgsz: int
    head: HeadName

    @property
    def key(self) -> str:
        """Of the answer."""
        return ranking_key(
            self.before.sha256,
            self.after.sha256,
            self.fingerprint,
            imgsz=self.imgsz,
            head=self.head,
            conf=DEFAULT_CONF,
        )

    def arguments(self, source: DataSource) -> tuple[str, ...]:
        """The command line that answers it."""
        return local.detections_arguments(
            self.before.checkpoint,
            self.after.checkpoint,
            source.argument,
            classes=source.classes_argument if source.classes else "",
            imgsz=self.imgsz,
            head=self.head,
            conf=DEFAULT_CONF,
        )


def show_gallery(
    question: RankingQuestion, images: Callable[[], ValidationImages], look_at: Callable[[str], None]
) -> None:
    """Draw the ranking, or how far it is, or what computes it.

    Args:
        question: which ranking.
        images: finds the validation images, which imports torch the first time.
        look_at: called with the name of an image that the user wants to see.
    """
    st.header("What loses most", anchor=False)
    if question.before.sha256 == question.after.sha256:
        st.info("Choose two different models above to see what is lost between them.", icon=":material/info:")
        return
    ranking = find_ranking(question.key)
    if ranking is not None:
        _draw_ranking(question, ranking, images, look_at)
    elif not may_act():
        st.info("Nobody has ranked the images of these two models yet.", icon=":material/info:")
    elif question.source is None:
        st.info("The data set is not on this machine, so its images cannot be ranked.", icon=":material/folder_off:")
    else:
        job = local.find_job(question.arguments(question.source))
        works = job is not None and job.exit_code() is None
        st.fragment(_draw_job, run_every=POLL_SECONDS if works else None)(question, question.source)


def _draw_job(question: RankingQuestion, source: DataSource) -> None:
    """Offer to compute the ranking, tell how far it is, and redraw the page at its end."""
    job = local.find_job(question.arguments(source))
    exit_code = job.exit_code() if job else None
    if job is None:
        _offer(question, source)
    elif exit_code is None:
        _draw_progress(job)
    elif exit_code == 0 and find_ranking(question.key):
        local.forget(job)
        st.rerun()
    else:
        why = plain(job.last_line()) if exit_code else CHANGED
        st.error(f"The images could not be ranked. {why}", icon=":material/error:")
        if st.button("Try again", key="rank-again") and may_act():
            local.forget(job)
            st.rerun()


def _offer(question: RankingQuestion, source: DataSource) -> None:
    st.markdown(
        f"Let {question.before.noun} and {question.after.noun} look at every validation image, and see which images, "
        f"classes and object sizes lose most (confidence {DEFAULT_CONF}). It is done once, and kept."
    )
    asked = st.button("Rank the validation images", type="primary", icon=":material/play_arrow:", key="rank")
    if asked and may_act():
        try:
            local.start_detections(question.arguments(source))
        except OSError as error:
            st.error(f"The ranking cannot be started: {error}.", icon=":material/error:")
        else:
            st.rerun()


def _draw_progress(job: local.Job) -> None:
    progress = next(filter(None, map(progress_in, reversed(local.tail(job.log_file)))), None)
    if progress is None:
        # An empty bar would say that nothing was done yet.
        st.markdown(":material/hourglass_empty: Loading both models and checking the data set.")
    else:
        n_done, n_all = progress
        st.progress(n_done / n_all, text=f"Both models look at all validation images: {n_done} of {n_all} looks done")
    st.caption("It goes on when you close this page.")


def _draw_ranking(
    question: RankingQuestion,
    ranking: DetectionRanking,
    images: Callable[[], ValidationImages],
    look_at: Callable[[str], None],
) -> None:
    st.markdown(total_sentence(ranking, question.before.noun, question.after.noun))
    left, right = st.columns([3, 4], gap="large")
    with left:
        st.markdown("**Object sizes**, by recall lost")
        _table("Size", ranking.sizes)
        st.caption(f"{SIZE_MEANING.capitalize()}.")
    with right:
        st.markdown("**Classes**, by recall lost")
        _table("Class", ranking.classes)
    st.markdown("**Images**, by objects lost")
    losing = [row for row in ranking.images if row.n_after < row.n_before][:MOST_SHOWN]
    if losing and may_act():
        _draw_thumbnails(losing, images, look_at)
    elif not losing:
        st.caption(f"On no image {question.after.noun} finds fewer objects than {question.before.noun}.")
    with st.expander(f"All {len(ranking.images)} images with objects"):
        st.dataframe(pd.DataFrame(ranking_rows("Image", ranking.images)), hide_index=True, key="all-images")


def total_sentence(ranking: DetectionRanking, before: str, after: str) -> str:
    """How many objects both models find on all images.

    Args:
        ranking: of all images.
        before: the first model as it is called within a sentence.
        after: the second one likewise.
    """
    total = ranking.total
    return (
        f"On the {ranking.n_images} validation images {before} finds {total.n_before} of {total.n_objects} labelled "
        f"objects (recall {total.recall_before:.3f}), and {after} finds {total.n_after} ({total.recall_after:.3f}); "
        f"lost: {total.n_lost}, newly found: {total.n_gained}. Counted at confidence {ranking.conf:g} and IoU "
        f"{ranking.iou:g}, with the {ranking.head} head at {ranking.imgsz} pixels."
    )


def ranking_rows(noun: str, rows: Sequence[RankRow]) -> list[dict[str, str | int]]:
    """The rows of a ranked table.

    Args:
        noun: heading of the first column.
        rows: in the order of the ranking.
    """
    return [
        {
            noun: plain(row.name) if noun != "Image" else row.name,
            "Objects": row.n_objects,
            "Recall before": f"{row.recall_before:.3f}",
            "Recall after": f"{row.recall_after:.3f}",
            "Change": f"{0.0 - row.loss:+.3f}" if row.loss else "0",
            "Lost": row.n_lost,
            "Newly found": row.n_gained,
        }
        for row in rows
    ]


def _table(noun: str, rows: Sequence[RankRow]) -> None:
    st.table(pd.DataFrame(ranking_rows(noun, rows)), border="horizontal", hide_index=True)


def _draw_thumbnails(
    rows: Sequence[RankRow], images: Callable[[], ValidationImages], look_at: Callable[[str], None]
) -> None:
    try:
        found = images()
    except TrimboardError as error:
        st.info(f"The images cannot be shown. {plain(str(error))}", icon=":material/folder_off:")
        return
    with st.container(key="gallery"):
        for row in rows:
            with st.container(key=f"gallery-{row.name}", gap="small"):
                _draw_thumbnail(row, found, look_at)


def _draw_thumbnail(row: RankRow, images: ValidationImages, look_at: Callable[[str], None]) -> None:
    if row.name in images.pairs:
        file = images.file(row.name)
        try:
            image = _thumbnail(str(file), file.stat().st_mtime_ns)
        except (TrimboardError, OSError):
            st.caption("This image cannot be read any more.")
        else:
            st.image(image, width="stretch", alt=f"Validation image {row.name}")
    st.button(
        row.name,
        key=f"look-at-{row.name}",
        on_click=look_at,
        args=(row.name,),
        help="Look at this image above.",
        width="stretch",
    )
    st.caption(f"{row.n_before} → {row.n_after} of {row.n_objects} objects")


@st.cache_data(max_entries=500, show_spinner=False)
def _thumbnail(file: str, changed_ns: int) -> Image.Image:
    return thumbnail(Path(file), THUMBNAIL_PX)
