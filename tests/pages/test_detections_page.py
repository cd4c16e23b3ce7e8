"""The page Detections with the shipped models, with none, and with faults."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Caption, Error, Header, Info, Markdown, Warning

from cache.artifacts import file_sha256
from cache.shipped import SHIPPED
from cache.store import Store
from compression.accuracy.class_scores import ClassScore
from compression.accuracy.detection_ranking import (
    DetectionRanking,
    ObjectOutcome,
    RankRow,
    rank_classes,
    rank_images,
    rank_sizes,
    ranking_key,
    save_ranking,
    total_of,
)
from compression.accuracy.detections import DEFAULT_CONF, Detection
from compression.accuracy.forms import Form, KeyPoints, Mask, RotatedBox
from compression.catalog import TaskName
from compression.data.dataset import open_dataset
from compression.data.shapes import draw_dataset, fingerprint
from compression.home import run_folder
from compression.jobs import local
from pages.parts import results
from pages.parts.detections import picture_plot
from pages.parts.detections.changes import DrawnBox
from pages.parts.detections.gallery import ranking_rows
from tests import factories
from tests.compression import task_data

ROOT = Path(__file__).parents[2]
SAMPLE = "Drawn sample"


@pytest.fixture(autouse=True)
def no_store_of_an_earlier_test() -> Iterator[None]:
    st.cache_resource.clear()
    st.cache_data.clear()
    yield
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def small_shapes(own_home: Path) -> Path:
    """`shapes` with few images, under its own name."""
    folder = own_home / "datasets" / "shapes-1"
    return draw_dataset(folder, {"train": 2, "val": 3})


def page(**query: str) -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    opened.query_params.update(query)
    opened.switch_page("pages/detections.py").run()
    assert not opened.exception
    return opened


def texts(opened: AppTest) -> str:
    """Everything that can be read, from the top to the bottom."""
    kinds = (Markdown, Caption, Header, Info, Warning, Error)
    return "\n".join(str(each.value) for each in opened.main if isinstance(each, kinds))


def ranking(**changes: Any) -> DetectionRanking:
    """Of the shipped models on `shapes`."""
    outcomes = [
        ObjectOutcome(image=name, class_name="disc", size="small", before=True, after=after)
        for name, after in (("0001.jpg", False), ("0001.jpg", True), ("0002.jpg", True))
    ]
    files = {0: SHIPPED / "shapes" / "yolo26n.pt", 5: SHIPPED / "shapes-defaults" / "yolo26n-level5.pt"}
    sha256 = {level: file_sha256(file) for level, file in files.items()}
    values: dict[str, Any] = {
        "key": ranking_key(sha256[0], sha256[5], fingerprint(), imgsz=320, head="e2e", conf=DEFAULT_CONF),
        "before": "yolo26n",
        "after": "yolo26n-level5",
        "before_sha256": sha256[0],
        "after_sha256": sha256[5],
        "data": "shapes",
        "data_fingerprint": fingerprint(),
        "imgsz": 320,
        "head": "e2e",
        "conf": DEFAULT_CONF,
        "n_images": 3,
        "total": total_of(outcomes),
        "images": rank_images(outcomes),
        "classes": rank_classes(outcomes),
        "sizes": rank_sizes(outcomes),
        "created": "2026-05-20T10:00:00+00:00",
    }
    return DetectionRanking(**values | changes)


def test_the_shipped_models_look_at_the_drawn_sample() -> None:
    opened = page()
    assert [opened.selectbox(key=key).value for key in ("before", "after")] == ["Original", "Level 5"]
    shown = texts(opened)
    assert "objects that the original finds; lost: " in shown
    assert "labelled objects the original finds" in shown
    assert "Left out, because their checkpoints are not on this machine: Level 1, Level 2, Level 3, Level 4." in shown
    assert len(opened.get("plotly_chart")) == 2
    assert [button.label for button in opened.button] == ["Rank the validation images"]


def test_the_slider_runs_no_network_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def look(checkpoint: Path, images: list[Image.Image], *, conf: float, **options: object) -> list[list[Detection]]:
        looks.append(conf)
        box = (10.0, 10.0, 20.0, 20.0)
        score = 0.5 if "level5" in checkpoint.name else 0.9
        return [[Detection(class_index=0, name="disc", score=score, box_xyxy=box)]]

    monkeypatch.setattr("compression.accuracy.detections.detect", look)
    opened = page()
    assert "Level 5 finds 1 of the 1 object that the original finds; lost: none" in texts(opened)
    assert looks == [0.05, 0.05]
    opened.slider(key="conf").set_value(0.6).run()
    assert "Level 5 finds 0 of the 1 object that the original finds; lost: disc (score 0.90)" in texts(opened)
    assert opened.table[0].value["Score after"].tolist() == ["0.50, too low"]
    opened.slider(key="conf").set_value(0.95).run()
    assert "Neither the original nor level 5 finds anything at confidence 0.95." in texts(opened)
    assert looks == [0.05, 0.05]


def test_a_link_to_an_image_and_one_to_nothing(small_shapes: Path) -> None:
    opened = page(source="Validation image", image="0002.jpg", before="Level 5", after="Original", conf="0.5")
    assert opened.selectbox(key="image").value == "0002.jpg"
    assert opened.slider(key="conf").value == 0.5
    assert "Original finds" in texts(opened) or "The original finds" in texts(opened)
    assert not opened.warning
    opened = page(source="Validation image", image="nothing.jpg", before="Level 4")
    assert [warning.value.split("; ")[0] for warning in opened.warning] == [
        "This link asks for the first model “Level 4”, unknown here",
        "This link asks for the image “nothing.jpg”, unknown here",
    ]


def test_an_uploaded_image_has_no_labels() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 90, 90)).save(file, "PNG")
    opened = page(source="Upload")
    assert "Choose a file" in texts(opened)
    assert not opened.get("plotly_chart")
    opened.file_uploader(key="upload").set_value(("grey.png", file.getvalue(), "image/png")).run()
    assert not opened.exception
    assert "Neither the original nor level 5 finds anything" in texts(opened)
    assert not opened.toggle
    opened.file_uploader(key="upload").set_value(("text.png", b"no image", "image/png")).run()
    assert [error.value for error in opened.error] == [
        "'text.png' is no image that can be read; give a whole JPEG, PNG, WebP, BMP or TIFF file."
    ]
    assert not opened.exception


def test_without_checkpoints_the_page_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    assert "Measure its levels on Explore." in texts(page())
    for record in factories.series((0, 5)):
        Store().save(record)
    shown = texts(page())
    assert "No model of yolo26n on shapes can be looked through here; two are needed." in shown
    assert "trimboard import-results" in shown


def test_a_stored_ranking_is_shown_at_once_and_leads_to_its_images(small_shapes: Path) -> None:
    save_ranking(ranking())
    opened = page()
    assert "the original finds 3 of 3 labelled objects (recall 1.000), and level 5 finds 2 (0.667); lost: 1," in texts(
        opened
    )
    tables = [table.value for table in opened.table if "Objects" in table.value]
    assert [table.iloc[0, 0] for table in tables] == ["small", "disc"]
    assert tables[0]["Change"].tolist() == ["-0.333"]
    # Only the image that loses is among the thumbnails.
    assert [button.label for button in opened.button] == ["0001.jpg"]
    assert len(opened.get("image")) == 1
    opened.button(key="look-at-0001.jpg").click().run()
    assert not opened.exception
    assert opened.selectbox(key="image").value == "0001.jpg"
    assert (opened.query_params["source"], opened.query_params["image"]) == ("Validation image", "0001.jpg")


def test_the_ranking_is_computed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(local, "start_detections", started.append)
    opened = page()
    opened.button(key="rank").click().run()
    ((*arguments,),) = started
    assert arguments[:1] + arguments[3:] == [
        *("detections", "--data", "shapes", "--imgsz", "320", "--head", "e2e", "--conf", "0.25", "--json")
    ]
    assert [Path(file) for file in arguments[1:3]] == [
        SHIPPED / "shapes" / "yolo26n.pt",
        SHIPPED / "shapes-defaults" / "yolo26n-level5.pt",
    ]

    def refuse(arguments: tuple[str, ...]) -> None:
        raise OSError("no room")

    monkeypatch.setattr(local, "start_detections", refuse)
    opened.button(key="rank").click().run()
    assert [error.value for error in opened.error] == ["The ranking cannot be started: no room."]


class _Job:
    """A process that was started, or has ended."""

    def __init__(self, log_file: Path, code: int | None) -> None:
        self.log_file, self._code = log_file, code

    def exit_code(self) -> int | None:
        return self._code

    def last_line(self) -> str:
        return local.tail(self.log_file)[-1]


@pytest.mark.parametrize(
    ("code", "line", "said"),
    [
        (None, "starting", "Loading both models"),
        (2, "trimboard: There is no *image*.", "could not be ranked. trimboard\\: There is no \\*image\\*."),
        (0, "done", "images or labels have changed since"),
    ],
)
def test_how_far_the_ranking_is_and_how_it_ended(
    code: int | None, line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text(line)
    monkeypatch.setattr(local, "find_job", lambda arguments: _Job(log, code))
    assert said in texts(page())


def test_progress_is_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("[trimboard] looked 75 of 300 times at an image\nsomething else\n")
    monkeypatch.setattr(local, "find_job", lambda arguments: _Job(log, None))
    (bar,) = page().get("progress")
    assert bar.proto.value == 25


def test_a_model_is_not_compared_with_itself() -> None:
    opened = page(before="Level 5")
    assert "Choose two different models above" in texts(opened)


def test_what_the_page_imports_is_no_torch_until_it_looks_at_an_image() -> None:
    program = (
        "import sys\n"
        "import pages.parts.detections.changes, pages.parts.detections.classified, pages.parts.detections.compared_levels, pages.parts.detections.gallery, pages.parts.detections.picture_plot\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'torch', 'ultralytics', 'torchvision', 'scipy'}\n"
        "assert not found, found\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rows_of_a_ranking() -> None:
    row = RankRow(name="a *disc*", n_objects=8, n_before=6, n_after=4, n_lost=3, n_gained=1)
    assert ranking_rows("Class", [row]) == [
        {
            "Class": "a \\*disc\\*",
            "Objects": 8,
            "Recall before": "0.750",
            "Recall after": "0.500",
            "Change": "-0.250",
            "Lost": 3,
            "Newly found": 1,
        }
    ]


def saved_with_checkpoints(task: TaskName, data: str) -> None:
    """Two results of a task whose checkpoints are here; nobody opens them."""
    for record in factories.series((0, 5), data=data, task=task):
        content = f"level {record.level}".encode()
        # The level was cut from what the original left.
        sha256 = "ab" * 32 if record.level == 0 else "0" * 64
        Store().save(factories.with_checkpoint(record, content, sha256))
        folder = run_folder(record.key)
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(content)


@pytest.mark.parametrize(
    ("task", "form", "says"),
    [
        ("segment", Mask(outlines=(((20, 20), (40, 20), (30, 40)),)), "Masks are drawn, and their boxes tell"),
        ("pose", KeyPoints(points=((20, 20), (40, 40), None)), "Key points of a confidence of 0.25 or more are drawn"),
        ("obb", RotatedBox(xywhr=(30, 30, 20, 10, 0.2)), "Rotated boxes tell what was lost, gained and moved"),
    ],
)
def test_each_task_is_drawn_as_it_predicts(
    task: TaskName, form: Form, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(checkpoint: Path, images: list[Image.Image], **options: object) -> list[list[Detection]]:
        return [[Detection(class_index=0, name="wide", score=0.9, box_xyxy=(20, 20, 40, 40), form=form)]]

    monkeypatch.setattr("compression.accuracy.detections.detect", look)
    drawn: list[DrawnBox] = []

    def draw(image: Image.Image, boxes: list[DrawnBox]) -> go.Figure:
        drawn.extend(boxes)
        return go.Figure()

    monkeypatch.setattr(picture_plot, "draw_picture", draw)
    data = task_data.draw(tmp_path / "drawn", task)
    saved_with_checkpoints(task, "drawn")
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    opened = page(data="drawn")
    opened.text_input[0].set_value(str(data)).run()
    assert not opened.exception
    assert says in texts(opened)
    assert {type(box.form) for box in drawn} == {type(form)}
    assert {box.kind for box in drawn} == {"kept", "label"}


def test_a_classifier_says_what_the_whole_image_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(checkpoint: Path, image: Image.Image, **options: object) -> list[ClassScore]:
        names = ("wide", "tall") if checkpoint.read_bytes() == b"level 0" else ("tall", "wide")
        return [ClassScore(name=name, score=score) for name, score in zip(names, (0.75, 0.25), strict=True)]

    monkeypatch.setattr("pages.parts.detections.classified.classify", look)
    data = task_data.draw(tmp_path / "drawn", "classify")
    saved_with_checkpoints("classify", "drawn")
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    opened = page(data="drawn")
    opened.text_input[0].set_value(str(data)).run()
    assert not opened.exception
    opened.selectbox(key="image").set_value("wide/0.png").run()
    assert not opened.exception
    shown = texts(opened)
    assert "The original takes it for wide (score 0.75), level 5 for tall (0.75); its folder says wide." in shown
    assert [table.value["Class"].tolist() for table in opened.table] == [["wide", "tall"], ["tall", "wide"]]
    assert opened.table[1].value["By the label"].tolist() == ["", "its class"]
    assert "What loses most" not in shown


def test_a_data_set_that_is_elsewhere_is_asked_for(tmp_path: Path) -> None:
    original, level = factories.series((0, 5), data="orchard")
    for record in (original, level):
        name = "yolo26n.pt" if record.level == 0 else "yolo26n-level5.pt"
        content = (SHIPPED / "shapes" / name).read_bytes()
        # The others were cut from what the original left.
        sha256 = "ab" * 32 if record.level == 0 else "0" * 64
        Store().save(factories.with_checkpoint(record, content, sha256))
        folder = run_folder(record.key)
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(content)
    opened = page(data="orchard")
    assert opened.segmented_control[0].options == ["Validation image", "Upload"]
    shown = texts(opened)
    assert "The data set 'orchard' is not on this machine; give the path of its data.yaml." in shown
    assert "so its images cannot be ranked" in shown
    data_yaml = draw_dataset(tmp_path / "orchard", {"train": 2, "val": 2})
    assert open_dataset(str(data_yaml)).name == "orchard"
    opened.text_input[0].set_value(str(data_yaml)).run()
    assert not opened.exception
    assert opened.selectbox(key="image").options == ["0000.jpg", "0001.jpg"]
    assert "objects that the original finds" in texts(opened)
