"""The forms by which a user brings a model or a data set, the checks at work, and what was brought before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import streamlit as st

from compression.brought import Brought, Kind, brought, keep_upload, remove
from compression.data.archive import LIMITS
from compression.errors import TrimboardError
from compression.jobs import local
from pages.parts import formats
from pages.parts.access import check_may_act, guarded
from pages.parts.jobs.job_views import POLL_SECONDS, job_view
from pages.parts.jobs.runs import plain

UPLOAD, PATH = "Upload", "By its path"
# Session state: what was checked last in this session, by kind.
JUST_ADDED = "just-added"


@dataclass(frozen=True, kw_only=True)
class _Words:
    """How the form of a kind reads.

    Attributes:
        noun: of what is brought.
        types: suffixes of the file to upload.
        rules: what is taken.
        path: label of the field for a path.
        path_help: what is done with it.
        name_help: what the name is for.
    """

    noun: str
    types: tuple[str, ...]
    rules: str
    path: str
    path_help: str
    name_help: str


_WORDS: dict[Kind, _Words] = {
    "model": _Words(
        noun="model",
        types=("pt",),
        rules=(
            "A `.pt` of a YOLO model that Ultralytics saved: one that detects, segments, classifies, or finds poses or "
            "rotated boxes. It is opened by the restricted loader, which runs nothing that a file may hold."
        ),
        path="Path of the .pt",
        path_help="It is copied.",
        name_help="Its results are listed under this name.",
    ),
    "data": _Words(
        noun="data set",
        types=("zip",),
        rules=(
            "A `.zip` of a YOLO data set: `data.yaml`, images and labels, as Roboflow and CVAT (Ultralytics YOLO) "
            "export it; for a classifier a folder with `train/CLASS` and `val/CLASS`. "
            f"At most {LIMITS.n_bytes / 1e9:g} GB unpacked, {LIMITS.n_files:,} files and {LIMITS.ratio} "
            "times the size of the zip."
        ),
        path="Path of the data.yaml, of its folder, or of a .zip",
        path_help="A zip is unpacked into the data folder; a data.yaml or a folder stays where it is.",
        name_help="Its results are listed under this name. A data.yaml that stays where it is has that of its folder.",
    ),
}


def bring(kind: Kind) -> None:
    """Draw the form of a kind, the checks of it that are at work or failed, and what was brought before."""
    _draw_form(kind)
    _show_checks(kind)
    for one in brought(kind):
        _draw_brought(one)


def _draw_form(kind: Kind) -> None:
    words = _WORDS[kind]
    st.caption(words.rules)
    by = st.segmented_control(
        f"Where the {words.noun} is", [UPLOAD, PATH], default=UPLOAD, required=True, key=f"{kind}-by"
    )
    # A new key empties the fields, and frees the memory that an uploaded file takes.
    number = st.session_state.setdefault(f"{kind}-number", 0)
    upload, path = None, ""
    if by == PATH:
        path = (st.text_input(words.path, key=f"{kind}-path-{number}", help=words.path_help) or "").strip()
    else:
        limit = st.get_option("server.maxUploadSize")
        upload = st.file_uploader(
            f"Your .{words.types[0]}, at most {limit} MB", type=list(words.types), key=f"{kind}-upload-{number}"
        )
    name = st.text_input(
        f"Name of the {words.noun}", placeholder="that of the file", key=f"{kind}-name-{number}", help=words.name_help
    )
    given = upload is not None or bool(path)
    if st.button("Check and add", type="primary", icon=":material/fact_check:", disabled=not given, key=f"{kind}-add"):
        try:
            check_may_act()
            file = str(keep_upload(upload.name, upload.getbuffer())) if upload else path
            local.start_add(file, (name or "").strip())
        except TrimboardError as error:
            st.error(plain(str(error)), icon=":material/error:")
        except OSError as error:
            st.error(f"The check cannot be started: {error}.", icon=":material/error:")
        else:
            st.session_state[f"{kind}-number"] += 1
            st.rerun()


def _show_checks(kind: Kind) -> None:
    working = [job for job in _checks(kind) if job.exit_code() is None]
    st.fragment(_draw_checks, run_every=POLL_SECONDS if working else None)(kind, len(working))


def _checks(kind: Kind) -> list[local.Job]:
    return [job for job in local.jobs() if job.kind == "add" and kind_of(job.arguments[-1]) == kind]


def kind_of(file: str) -> Kind:
    """What a file is taken for, by its name."""
    return "model" if file.lower().endswith(".pt") else "data"


def _draw_checks(kind: Kind, n_worked: int) -> None:
    jobs = _checks(kind)
    for job in jobs:
        if job.exit_code() == 0:
            path = job.last_line()
            st.session_state.setdefault(JUST_ADDED, {})[kind] = next(
                (one.name for one in brought(kind) if one.path == path), None
            )
            local.forget(job)
    if sum(job.exit_code() is None for job in jobs) != n_worked:
        # What has passed its check belongs to the page around.
        st.rerun()
    for number, job in enumerate(jobs):
        name = plain(Path(job.arguments[-1]).name)
        if job.exit_code() is None:
            st.info(f"Checking {name}. It goes on when you close this page.", icon=":material/hourglass_empty:")
        elif job.exit_code():
            _draw_faults(name, job_view(job).problems, kind, number, job)


def _draw_faults(name: str, faults: Sequence[str], kind: Kind, number: int, job: local.Job) -> None:
    with st.container(border=True, key=f"{kind}-faults-{number}"):
        st.error(f"**{name} cannot be used.**", icon=":material/error:")
        st.markdown("\n".join(f"- {plain(fault)}" for fault in faults))
        st.button("Dismiss", key=f"{kind}-dismiss-{number}", on_click=guarded(local.forget), args=(job,))


def _draw_brought(one: Brought) -> None:
    with st.container(border=True, key=f"{one.kind}-{one.sha256[:16]}"):
        left = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
        left.markdown(f":green[:material/check_circle:] **{plain(one.name)}** · {facts(one)}", width="content")
        with left.popover("Remove", icon=":material/delete:", key=f"ask-{one.kind}-{one.sha256[:16]}"):
            what = "The copy in the data folder is deleted" if one.kept else "Its files stay where they are"
            st.markdown(f"{what}. Results on it stay.")
            st.button(
                f"Remove {plain(one.name)}",
                type="primary",
                key=f"remove-{one.kind}-{one.sha256[:16]}",
                on_click=guarded(partial(_remove, one)),
            )
        st.caption(plain(", ".join(one.classes)) if len(one.classes) <= 12 else f"{len(one.classes)} classes")


def facts(one: Brought) -> str:
    """What a check has found out, in a line."""
    classes = f"{len(one.classes)} class{'es' * (len(one.classes) != 1)}"
    if one.kind == "model":
        trained = f", trained at {one.imgsz} px" if one.imgsz else ""
        return f"{plain(one.architecture)}, {classes}{trained}, {formats.size(one.size_bytes)}"
    place = "" if one.kept else f", at `{one.path}`"
    return f"{one.n_train:,} training and {one.n_val:,} validation images, {classes}{place}"


def _remove(one: Brought) -> None:
    try:
        remove(one)
    except (TrimboardError, OSError) as error:
        st.toast(plain(str(error)), icon=":material/error:")
