"""The page Explore with results, with none, and with an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.record import RunRecord
from cache.store import Store, plan_key
from compression.data.dataset import class_names
from compression.jobs import local
from compression.levels import LEVELS
from compression.request import RunRequest
from compression.spec import CutMethod, Target
from pages.parts import results
from pages.parts.explore.view import WITHOUT_WEIGHTS
from pages.parts.jobs.runs import NEWEST_WANTED
from tests import factories

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test, nor processes."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no processes in this test")

    monkeypatch.setattr(local, "start_plan", refuse)
    monkeypatch.setattr(local, "start_run", refuse)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def _open(**query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    page.query_params.update(query)
    return page.switch_page("pages/explore.py").run()


def _cards(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def _save(*records: RunRecord) -> Store:
    store = Store()
    for record in records:
        store.save(record)
    return store


def test_with_results() -> None:
    _save(*factories.series())
    page = _open(level="3")
    assert not page.exception
    assert _cards(page) == {
        "mAP50-95": "0.684",
        "mAP50": "0.854",
        "GFLOPs": "1.32",
        "Parameters": "2.19 M",
        "Precision": "0.834",
        "Recall": "0.764",
    }
    assert [metric.delta for metric in page.metric][:3] == ["-5.0%", "-4.0%", "-13.2%"]
    # Nothing was recovered, so there is nothing to show of it.
    assert [toggle.label for toggle in page.toggle] == ["Whole family", "Pareto front", "Change layers by hand"]
    page.slider(key="level").set_value(5).run()
    assert _cards(page)["mAP50-95"] == "0.620"
    (table,) = [text.value for text in page.markdown if text.value.startswith("| Metric")]
    assert [line.split(" | ")[2] for line in table.splitlines()[2:]] == [
        *("1.19", "1,929,210", "0.790", "0.620", "0.770", "0.700")
    ]


def test_the_page_opens_on_an_answer_and_the_slider_follows_the_budget() -> None:
    _save(*factories.series())
    page = _open()
    # Level 2 loses 1.6 points.
    assert (page.header[0].value, page.slider(key="level").value) == ("Take level 1", 1)
    page.number_input(key="limit").set_value(4.0).run()
    assert (page.header[0].value, page.slider(key="level").value) == ("Take level 3", 3)
    page.slider(key="level").set_value(5).run()
    page.button(key="show").click().run()
    assert page.slider(key="level").value == 3
    page.segmented_control(key="budget").set_value("GFLOPs").run()
    assert not page.exception
    # 85% of 1.52 are 1.29, which level 4 keeps to.
    assert (page.header[0].value, page.slider(key="level").value) == ("Take level 4", 4)
    assert _open(level="2", limit="4.0").slider(key="level").value == 2
    # Also the level in the middle is kept, where another one is recommended.
    page = _open(level="3")
    assert (page.slider(key="level").value, page.query_params["level"]) == (3, "3")


ODD_ADDRESSES: tuple[dict[str, str], ...] = (
    *({"level": level} for level in ("6", "-1", "2.5", "five", "nan", "", "1e9", "3 OR 1=1")),
    *({name: "<script>alert(1)</script>"} for name in ("model", "data", "seed", "budget", "limit", "cost", "with")),
    *({name: "model.0=-1,<b>"} for name in ("wish", "layer", "cut", "whatif")),
    *({name: "../../etc/passwd"} for name in ("model", "data")),
    *({"limit": limit} for limit in ("-3", "nan", "inf", "1e400", "many")),
    {"unheard": "of"},
)


@pytest.mark.parametrize("query", ODD_ADDRESSES, ids=str)
def test_an_address_that_makes_no_sense_opens_as_without_it(query: dict[str, str]) -> None:
    _save(*factories.series())
    page = _open(**query)
    assert not page.exception
    assert page.slider(key="level").value in range(1, 6)
    assert _cards(page)["GFLOPs"]


def test_a_cut_that_is_not_on_the_slider_is_recommended_with_its_figures() -> None:
    half = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    custom = replace(factories.record(5), level=None, spec=half, key=half.key, metrics=factories.metrics(1))
    _save(*factories.series(), custom)
    page = _open()
    assert page.header[0].value == "Take the cut to 40% of the GFLOPs"
    page.button(key="show").click().run()
    assert not page.exception
    assert any(text.value.startswith("**yolo26n, custom target (40%)**") for text in page.markdown)
    assert not [button for button in page.button if button.key == "show"]


def test_other_models_are_laid_over() -> None:
    _save(*factories.series(), *factories.series((0, 2), data="cells", data_fingerprint="ef" * 32))
    page = _open(data="shapes", level="3")
    assert page.multiselect(key="with").options == ["yolo26n on cells"]
    page.multiselect(key="with").set_value(["yolo26n on cells"]).run()
    assert not page.exception
    page.segmented_control(key="cost").set_value("File size").run()
    assert not page.exception
    assert any("6 of 6 measured models left no checkpoint whose size is known" in text.value for text in page.info)


def test_the_view_is_in_the_address() -> None:
    _save(*factories.series(), *factories.series((1, 2), seed=1))
    _save(*factories.series((2,), steps=3))
    page = _open(level="2", seed="1")
    assert page.slider(key="level").value == 2
    assert (page.selectbox(key="conditions").value, page.selectbox(key="seed").value) == ("default method", 1)
    page = _open(level="2", conditions="3 steps")
    assert (page.selectbox(key="conditions").value, page.selectbox(key="seed").value) == ("3 steps", 0)


def _study() -> list[RunRecord]:
    """Many conditions, of which the default has most seeds and the results of before have most levels."""
    of_before: dict[str, Any] = {
        "criterion": "l2",
        "allocation": "uniform",
        "recovery": "none",
        "calibration_images": 0,
    }
    half = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    custom = replace(factories.record(5), level=None, spec=half, key=half.key)
    variants: list[dict[str, Any]] = [
        {"criterion": criterion, "allocation": allocation}
        for criterion in ("l1", "l2", "taylor", "fisher", "random")
        for allocation in ("uniform", "budget")
    ]
    return [
        *factories.series(recipe="standard", **of_before),
        *(record for seed in (0, 1, 2) for record in factories.series((3, 5), seed=seed)),
        *(record for changes in variants for record in factories.series((5,), **changes)),
        custom,
    ]


def test_of_many_conditions_the_default_method_is_shown_first() -> None:
    _save(*_study())
    page = _open(level="5")
    assert not page.exception
    conditions, seeds = page.selectbox(key="conditions"), page.selectbox(key="seed")
    assert (conditions.value, seeds.value, seeds.options) == ("default method", 0, ["0", "1", "2"])
    assert conditions.options[1:5] == [
        "criterion fisher",
        "criterion fisher, allocation uniform",
        "criterion l1",
        "criterion l1, allocation uniform",
    ]
    assert len(conditions.options) == 12
    assert any("seeds 0, 1, 2: 0.620, 0.620, 0.620" in text.value for text in page.markdown)
    conditions.set_value("criterion taylor, allocation uniform").run()
    assert not page.exception
    assert page.selectbox(key="seed").options == ["0"]
    assert _cards(page)["mAP50-95"] == "0.620"
    page.slider(key="level").set_value(1).run()
    assert "Level 1 is not measured yet under these conditions" in [title.value for title in page.header]


def test_another_data_set_begins_with_its_own_preferred_conditions() -> None:
    _save(*_study(), *factories.series((1,), data="cells", steps=3), *factories.series((1, 2), data="cells"))
    page = _open(data="shapes", conditions="criterion taylor")
    page.selectbox(key="data").set_value("cells").run()
    page.selectbox(key="conditions").set_value("3 steps").run()
    page.selectbox(key="data").set_value("shapes").run()
    assert page.selectbox(key="conditions").value == "default method"
    assert not page.warning


def test_the_page_turns_to_the_result_of_a_run_that_has_ended() -> None:
    _save(*factories.series(), *factories.series((1,), seed=1, steps=3))
    page = _open(level="1")
    assert page.selectbox(key="conditions").value == "default method"
    _save(factories.record(2, spec=factories.spec(2, steps=3), created="2027-01-01T00:00:00+00:00"))
    page.session_state[NEWEST_WANTED] = True
    page.run()
    assert (page.selectbox(key="conditions").value, page.selectbox(key="seed").value) == ("3 steps", 0)


def test_accuracy_before_training_and_on_test_images_is_told() -> None:
    _save(
        factories.record(
            5,
            metrics_pruned=factories.metrics(5, 0.3),
            metrics_recovered=factories.metrics(5, 0.64),
            metrics_test=factories.metrics(5, 0.7),
        )
    )
    page = _open(level="5")
    texts = [text.value for text in page.markdown]
    assert (
        "**mAP50-95 on the way:** original 0.720 → cut 0.200 (-72.2%) → recovered, no training yet 0.540 (-25.0%) "
        "→ fine-tuned 0.620 (-13.9%)"
    ) in texts
    assert "**Also measured, mAP50-95:** test images 0.600" in texts
    assert page.toggle(key="untrained").value
    assert any("Channels ranked by obs, allocation budget" in text.value for text in page.caption)


def test_a_link_names_model_and_data_set() -> None:
    _save(*factories.series(), factories.record(1, best=0.5, spec=factories.spec(1, data="cells")))
    page = _open(data="cells", level="1")
    assert page.selectbox(key="data").value == "cells"
    assert _cards(page)["mAP50-95"] == "0.496"


def test_a_link_to_what_is_not_here_is_said() -> None:
    _save(*factories.series())
    page = _open(model="yolo99z", data="nowhere", level="77", conditions="by magic", seed="9")
    assert not page.exception
    assert [warning.value.split("; ")[0] for warning in page.warning] == [
        "This link asks for the model “yolo99z”, unknown here",
        "This link asks for the data set “nowhere”, unknown here",
        "This link asks for the conditions “by magic”, unknown here",
        "This link asks for the seed “9”, unknown here",
    ]
    assert (page.selectbox(key="model").value, page.selectbox(key="data").value) == ("yolo26n", "shapes")
    page.slider(key="level").set_value(5).run()
    assert (page.selectbox(key="conditions").value, page.selectbox(key="seed").value) == ("default method", 0)


def test_warnings_of_a_result_are_shown() -> None:
    _save(factories.record(3, warnings=("The target was missed by a point.",)))
    assert [warning.value for warning in _open(level="3").warning] == ["The target was missed by a point."]


def test_a_level_that_was_not_measured_shows_its_plan() -> None:
    store = _save(*factories.series((0, 1)))
    for level in (2, 3, 4, 5):
        store.save_plan(plan_key("yolo26n.yaml", None, 10, 320, level), factories.plan(level))
    page = _open(level="4")
    assert not page.exception
    assert not page.error
    cards = _cards(page)
    assert (cards["mAP50-95"], cards["GFLOPs"], cards["Parameters"]) == ("not measured", "1.25", "2.06 M")
    assert page.metric[0].delta == "original 0.720"
    assert any("Measure level 4" in button.label for button in page.button)
    said = (
        "Planned without looking at images (ranked by l2, allocation uniform): the costs hold, but a run ranks channels "
        "on the training images and may cut other layers."
    )
    assert said in [text.value for text in page.markdown]
    assert any(said in text.value for text in page.caption)


def test_a_plan_of_another_width_is_not_taken_for_one_of_this_model() -> None:
    narrow = replace(factories.costs(0, 0.5), gflops=0.7)
    spec = factories.spec(None, target=Target(gflops_kept=1.0, params_kept=1.0))
    store = _save(
        replace(factories.record(5), level=None, spec=spec, key=spec.key, costs_original=narrow, costs=narrow)
    )
    for level in LEVELS:
        store.save_plan(plan_key("yolo26n.yaml", None, 10, 320, level), factories.plan(level))
    page = _open(level="4")
    assert not page.exception
    assert _cards(page)["GFLOPs"] == "unknown"
    assert page.warning[0].value == WITHOUT_WEIGHTS
    assert any("Measure level 4" in button.label for button in page.button)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """What the page asks to be run."""
    requests: list[RunRequest] = []
    monkeypatch.setattr(local, "start_run", requests.append)
    return requests


def _start(page: AppTest) -> AppTest:
    return next(button for button in page.button if "Measure level" in button.label).click().run()


def _field(page: AppTest, kind: str, letter: str) -> Any:
    (field,) = [field for field in page.get(kind) if str(field.key).startswith(f"{letter}-")]
    return field


def test_a_run_is_asked_for_by_the_default_method(asked: list[RunRequest]) -> None:
    page = _start(_open(level="3"))
    assert not page.exception
    (request,) = asked
    assert request == RunRequest(
        model="yolo26n.pt", data="shapes", level=3, epochs=100, patience=100, imgsz=320, batch=16, seed=0
    )
    assert (request.recipe, request.method) == ("cosine", CutMethod())
    recipes = _field(page, "selectbox", "r").options
    assert [recipe.split(":")[0] for recipe in recipes] == ["cosine", "distill", "standard", "plain"]


def test_a_run_is_asked_for_with_what_was_chosen(asked: list[RunRequest]) -> None:
    page = _open(level="2")
    for letter, value in (("r", "distill"), ("c", "taylor"), ("a", "uniform"), ("y", "none")):
        _field(page, "selectbox", letter).set_value(value)
    for letter, number in (("n", 64), ("t", 3)):
        _field(page, "number_input", letter).set_value(number)
    _field(page, "text_input", "k").set_value(" disc, 3 ")
    assert not _start(page).exception
    (request,) = asked
    method = CutMethod(criterion="taylor", allocation="uniform", recovery="none", calibration_images=64)
    assert (request.recipe, request.method, request.steps, request.classes) == ("distill", method, 3, "disc, 3")


def test_a_class_that_is_not_there_is_told_at_once(asked: list[RunRequest]) -> None:
    page = _open(level="2")
    _field(page, "text_input", "k").set_value("disk")
    _start(page)
    assert asked == []
    assert any("There is no class 'disk' (did you mean 'disc'?)" in error.value for error in page.error)


def test_a_run_on_some_classes_names_the_whole_data_set(asked: list[RunRequest]) -> None:
    first, _, third, *_ = class_names("shapes").values()
    some: dict[str, Any] = {
        "data": f"shapes [{first}, {third}]",
        "data_source": f"shapes [{first}, {third}]",
        "classes": (0, 2),
    }
    _save(*factories.series((0, 3), **some))
    page = _open(level="4")
    assert page.selectbox(key="data").value == some["data"]
    assert page.warning[0].value == WITHOUT_WEIGHTS
    assert _field(page, "text_input", "k").disabled
    assert not _start(page).exception
    assert [(request.data, request.classes) for request in asked] == [("shapes", f"{first},{third}")]


def test_with_no_results() -> None:
    page = _open()
    assert not page.exception
    assert "Nothing has been measured yet" in page.info[0].value
    assert set(_cards(page).values()) == {"not measured", "unknown"}


def test_a_data_set_that_is_not_here_asks_for_its_path(tmp_path: Path) -> None:
    _save(factories.record(1, spec=factories.spec(1, data="cells")))
    page = _open(level="3")
    assert "'cells' is not on this machine" in page.warning[0].value
    file = tmp_path / "cells.yaml"
    file.write_text("train: a\nval: b\nnames: [red, white]\n", encoding="utf-8")
    page.text_input(key="path-of-cells").set_value(str(file)).run()
    assert not page.exception
    assert not page.warning
    assert any("Measure level 3" in button.label for button in page.button)


def test_the_verdict_follows_the_slider() -> None:
    large = factories.original("yolo26s", 4.0, 0.72)
    _save(factories.original("yolo26n", 1.0, 0.5), large, *(factories.cut_of(large, level) for level in (1, 5)))
    page = _open(model="yolo26s", level="1")
    texts = [text.value for text in page.markdown]
    place = texts.index("**Prune, or take the smaller sibling?**")
    assert texts[place + 1].startswith("**Prune, as far as one seed tells:** level 1 has mAP50-95 0.716 at 5.17")
    # What a command is for is said; the command itself comes when it is asked for.
    assert not page.code
    page.session_state["verdict-command-0"] = True
    page.run()
    assert any(code.value.startswith("trimboard run yolo26s.pt --data=shapes --level=1") for code in page.code)
    page.slider(key="level").set_value(5).run()
    assert not page.exception
    assert any(text.value.startswith("**Rather take yolo26n or keep yolo26s") for text in page.markdown)


def test_the_verdict_of_a_publication() -> None:
    small = factories.published(0, "yolo26n", costs=factories.costs(0), metrics=factories.metrics(0, 0.66))
    large, level = factories.published(0, "yolo26s"), factories.published(5, "yolo26s")
    _save(*(replace(one, spec=None) for one in (small, large, level)))
    page = _open(model="yolo26s", data="coco", level="5")
    assert not page.exception
    assert any("as far as published figures tell" in text.value for text in page.markdown)


def test_measured_times_of_a_level() -> None:
    levels = [factories.with_checkpoint(factories.record(level), b"x", f"{level}" * 64) for level in (3, 5)]
    store = _save(factories.record(0), *levels)
    store.save_latency(factories.timed("5" * 64, "ab" * 32, 0.8))
    page = _open(level="5")
    assert not page.exception
    assert any(
        text.value == "**Measured time of a pass:** onnx 16 ms, 0.800 (0.790 to 0.810) of the original's"
        for text in page.markdown
    )
    assert any("| 0.800 (0.790 to 0.810) |" in text.value.replace("\\", "") for text in page.markdown)
    page.segmented_control(key="cost").set_value("Latency").run()
    assert not page.exception
    assert page.selectbox(key="timed-on").options == ["onnx 1.2, fp32, 1 thread, a processor"]
    assert any("1 of 3 measured models were not timed there" in text.value for text in page.caption)
    page.slider(key="level").set_value(3).run()
    assert not page.exception
    assert any("Level 3 was not timed yet" in text.value for text in page.info)


def test_a_process_that_cannot_start_is_said() -> None:
    page = _open(level="3")
    assert "The planner cannot be started: no processes in this test." in page.error[0].value
    next(button for button in page.button if "Measure level 3" in button.label).click().run()
    assert not page.exception
    assert any("The run cannot be started" in error.value for error in page.error)


def test_with_a_broken_store(own_home: Path) -> None:
    (own_home / "trimboard.db").write_bytes(b"this is no database" * 100)
    page = _open()
    assert not page.exception
    assert "The results cannot be read." in page.error[0].value
    assert not page.metric


def test_opening_the_page_imports_no_torch() -> None:
    # It opens on the shipped results, of which every level is measured, so that there is no plan to start.
    program = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('app.py', default_timeout=60).switch_page('pages/explore.py').run()\n"
        "assert not page.exception, page.exception\n"
        "assert 0 < float(page.metric[0].value) < 1\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'torch', 'ultralytics', 'torchvision'}\n"
        "assert not found, found\n"
        "assert 'plotly.express' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
