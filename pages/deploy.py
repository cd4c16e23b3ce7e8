"""Deploy: a measured model as a file for the place where it shall run, and whether it detects the same there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import get_args

import streamlit as st

from compression.data.dataset import at_hand
from compression.deployment.exported import exports_folder, find_exports, packed
from compression.jobs import local
from compression.spec import FormatName, HeadName, PrecisionName
from pages.parts import frame
from pages.parts.access import AccessError, check_may_act, may_act
from pages.parts.deploy.deployable import Deployable, deployables
from pages.parts.deploy.exporting import FileCard, file_cards, offers
from pages.parts.jobs.job_views import show_jobs
from pages.parts.jobs.runs import plain
from pages.parts.results import heads_on, open_store

# Field of a `Deployable` and parameter of the address, as on Explore -> label of its select box.
_QUESTIONS = {"model": "Model", "data": "Data set", "conditions": "Conditions", "seed": "Seed"}
# Explore's slider knows neither the original nor targets of their own, so its `level` is only where this one begins.
_LEVEL = "deploy_level"
_NOT_HERE = "This link asks for {noun} “{asked}”, of which no checkpoint is here; another one is shown instead."

_NOTHING_YET = (
    "There is nothing to export yet: no measured model has its checkpoint on this machine. Measure a level on the page "
    "Explore, or export any checkpoint: `trimboard export best.pt --format onnx,openvino`."
)
_PRECISION_HELP = "fp32: as trained. fp16: half the size. int8: a quarter, calibrated on training images."
_IMGSZ_HELP = "The file takes images of this size only. The accuracy was measured at the size given first."
_HEAD_HELP = "e2e: end-to-end predictions. nms: one-to-many predictions, which the program has to suppress."
_DATA_HELP = (
    "A known name or the path of a data.yaml: its training images calibrate INT8, and the file is compared with the "
    "checkpoint on its validation images. Without it, on images that come with the program."
)


def main() -> None:
    """Draw the page."""
    frame.begin("Deploy")
    st.title("Deploy")
    st.markdown(
        "Export a measured model to the format of the place where it shall run. Each file is run on real images beside "
        "its checkpoint, so that you see what the format and the precision change. To train a cut model further, use "
        "`trimboard run compressed.pt --data data.yaml --keep-gflops 1 --keep-params 1`: Ultralytics' own training "
        "would undo the cut."
    )
    store = open_store()
    # A page that is drawn again and again waits for no download.
    found = deployables(heads_on(store), partial(store.artifact_path, fetch=False))
    if not found:
        st.info(_NOTHING_YET if may_act() else "Nothing was exported yet.", icon=":material/info:")
        return
    chosen = _choose(found)
    if may_act():
        _draw_form(chosen)
        show_jobs(lambda: local.exports_of(chosen.checkpoint), lambda: len(find_exports(exports_folder(chosen.sha256))))
    _draw_files(chosen)


def _choose(found: Sequence[Deployable]) -> Deployable:
    """Narrow the models down by one select box after the other, which the address of the page keeps."""
    asked = st.query_params.to_dict()
    notices = st.container()
    *columns, last = st.columns([4, 4, 6, 2, 3])
    for column, (name, label) in zip(columns, _QUESTIONS.items(), strict=True):
        options = list(dict.fromkeys(getattr(one, name) for one in found))
        answer = column.selectbox(label, options, key=name, bind="query-params", disabled=len(options) < 2)
        if name in asked and asked[name] not in map(str, options):
            notices.warning(_NOT_HERE.format(noun=label.lower(), asked=plain(asked[name])))
        found = [one for one in found if getattr(one, name) == answer]
    levels = [one.level for one in found]
    # That of the slider on Explore, else the deepest.
    wanted = asked.get("level", "")
    deepest = max((index for index, level in enumerate(levels) if level.isdigit()), default=0)
    first = levels.index(wanted) if wanted in levels else deepest
    chosen = last.selectbox("Level", levels, first, key=_LEVEL, bind="query-params", disabled=len(levels) < 2)
    if wanted and wanted not in levels and _LEVEL not in asked:
        notices.warning(_NOT_HERE.format(noun="level", asked=plain(wanted)))
    return found[levels.index(chosen)]


def _draw_form(chosen: Deployable) -> None:
    """What to export to; the formats follow the precision, so this is no form that is sent as a whole."""
    record = chosen.record
    key = chosen.sha256[:12]
    with st.container(border=True, key="export-form"):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            precision = _choose_precision()
            imgsz = st.number_input(
                "Image size, px", 32, max(4096, record.imgsz), record.imgsz, 32, key=f"imgsz-{key}", help=_IMGSZ_HELP
            )
            batch = st.number_input("Batch", 1, 256, 1, key=f"batch-{key}", help="Images that the file takes at once.")
            heads: list[HeadName] = ["e2e", "nms"] if record.head == "e2e" else ["nms"]
            head = st.selectbox("Head", heads, key=f"head-{key}", disabled=len(heads) < 2, help=_HEAD_HELP)
        source = record.spec.data_source if record.spec else ""
        here = at_hand(record.data, source) or ""
        data = st.text_input(
            "Calibrate and compare on", here, key=f"data-of-{key}", placeholder="none", help=_DATA_HELP
        ).strip()
        wanted = _choose_formats(precision, with_data=bool(data))
        if st.button("Export", type="primary", icon=":material/deployed_code:", disabled=not wanted, key="export"):
            _start(chosen, wanted, precision, imgsz=imgsz, batch=batch, head=head, data=data)


def _choose_precision() -> PrecisionName:
    precision: PrecisionName | None = st.segmented_control(
        "Precision",
        get_args(PrecisionName),
        default="fp32",
        required=True,
        key="precision",
        bind="query-params",
        help=_PRECISION_HELP,
    )
    return precision or "fp32"


def _choose_formats(precision: PrecisionName, *, with_data: bool) -> list[FormatName]:
    """One box for each format; what cannot be made here is shown with the reason, and cannot be chosen."""
    wanted: list[FormatName] = []
    with st.container(key="formats"):
        for offer in offers(precision, with_data=with_data):
            with st.container(gap=None):
                ticked = st.checkbox(
                    offer.label,
                    offer.format == "onnx",
                    key=f"format-{offer.format}",
                    bind="query-params",
                    disabled=bool(offer.reason),
                )
                if offer.reason:
                    st.caption(plain(offer.reason))
                elif ticked:
                    wanted.append(offer.format)
    return wanted


def _start(
    chosen: Deployable,
    wanted: Sequence[FormatName],
    precision: PrecisionName,
    *,
    imgsz: int,
    batch: int,
    head: HeadName,
    data: str,
) -> None:
    try:
        check_may_act()
        local.start_export(
            chosen.checkpoint, wanted, precision=precision, imgsz=imgsz, batch=batch, head=head, data=data
        )
    except AccessError as error:
        st.error(str(error), icon=":material/lock:")
    except OSError as error:
        st.error(f"The export cannot be started: {error}.", icon=":material/error:")


def _draw_files(chosen: Deployable) -> None:
    cards = file_cards(find_exports(exports_folder(chosen.sha256)))
    st.header("Files", anchor=False)
    if not cards:
        st.caption("None of this checkpoint yet. Files stay here once they were made, and are not made twice.")
    for card in cards:
        with st.container(border=True, key=f"file-{card.key}"):
            _draw_file(card)


def _draw_file(card: FileCard) -> None:
    st.markdown(f"{card.title}  \n{_verdict(card.same)} {plain(card.parity)}")
    for warning in card.warnings:
        st.warning(plain(warning), icon=":material/warning:")
    st.code(card.snippet, language="python")
    name = card.path.name
    if may_act():
        _offer_download(card)
    st.caption(f"{card.facts} · `{name}` · SHA-256 `{card.sha256}`")


def _offer_download(card: FileCard) -> None:
    name = card.path.name
    st.download_button(
        f"Download ({card.size})",
        # Read, and a folder packed, when it is asked for.
        data=partial(packed, card.path),
        file_name=name if card.path.is_file() else f"{name}.zip",
        mime="application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
        key=f"download-{card.key}",
    )


def _verdict(same: bool | None) -> str:
    if same is None:
        return ":gray[:material/help:]"
    return ":green[:material/check_circle:]" if same else ":orange[:material/difference:]"


main()
