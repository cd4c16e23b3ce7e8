"""What can be chosen, and what a plan or a run starts from."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cache.record import RunRecord
from cache.series import series_of
from cache.siblings import Neighbours
from cache.store import known_of
from compression.catalog import CATALOG
from compression.data.dataset import class_names
from compression.errors import DatasetError
from compression.spec import CutMethod, Target
from pages.parts.choices import architecture_of, choices_of
from pages.parts.conditions import (
    DataSource,
    find_data,
    image_size,
    launch_options,
    plan_question,
    subject_of,
    whole_name,
)
from pages.parts.source import Source, original_checkpoint, plan_source, source_of
from tests import factories


def _on(data: str, levels: tuple[int, ...]) -> list[RunRecord]:
    return [factories.record(level, spec=factories.spec(level, data=data)) for level in levels]


def test_the_page_opens_where_most_is_measured() -> None:
    choices = choices_of(
        map(known_of, [*_on("cells", (1, 2, 3)), *_on("shapes", (0, 1, 2)), factories.published()]), ["coco8"]
    )
    assert (choices.model, choices.data) == ("yolo26n", "cells")
    assert choices.datasets == ("cells", "shapes", "coco", "coco8")
    assert choices.models[:2] == ("yolo26n", "yolo26s")


def test_with_nothing_measured_everything_can_still_be_chosen() -> None:
    choices = choices_of([], ["coco8"])
    assert (choices.model, choices.data) == ("yolo26n", "shapes")
    assert set(choices.models) == set(CATALOG)
    assert choices.datasets == ("shapes", "coco8")


def test_models_with_targets_of_their_own_only_come_last() -> None:
    whole = factories.spec(None, target=Target(gflops_kept=1.0, params_kept=1.0), model="peer.pt")
    peer = replace(factories.record(5), model="peer", level=None, spec=whole, key=whole.key)
    choices = choices_of(map(known_of, [peer, *_on("shapes", (0,))]), [])
    assert (choices.models[0], choices.models[-1]) == ("yolo26n", "peer")


def test_architecture_of_a_label() -> None:
    own = factories.record(1, model="mine")
    assert architecture_of("mine", [known_of(own)]) == "yolo26n"
    assert architecture_of("yolo11m", [known_of(own)]) == "yolo11m"


def test_a_run_starts_from_the_checkpoint_of_the_original(tmp_path: Path) -> None:
    checkpoint = tmp_path / "yolo26n.pt"
    original = factories.with_checkpoint(factories.record(0), b"weights", "ab" * 32)
    (series,) = series_of([original, *factories.series((1,))])
    assert source_of(series, lambda record: checkpoint) == Source(model=str(checkpoint), weights_sha256="ab" * 32)


def test_or_from_the_file_that_was_given(tmp_path: Path) -> None:
    given = tmp_path / "mine.pt"
    given.write_bytes(b"weights")
    (series,) = series_of([factories.record(1, spec=factories.spec(1, model=str(given)))])
    assert source_of(series, lambda record: None) == Source(model=str(given), weights_sha256="ab" * 32)


def test_or_from_the_catalog_while_the_plan_needs_no_weights() -> None:
    (series,) = series_of(factories.series())
    assert source_of(series, lambda record: None) is None
    assert plan_source(None, "yolo26n") == Source(model="yolo26n.yaml", weights_sha256=None)
    options = launch_options(None, "yolo26n", find_data("shapes", "", []), 320, series)
    assert list(options.models) == ["yolo26n.pt", "yolo26n.yaml"]
    assert (options.epochs, options.seed, options.recipe, options.imgsz) == (20, 0, "cosine", 320)


def test_the_form_begins_with_the_conditions_of_the_series() -> None:
    method = CutMethod(
        criterion="taylor", allocation="global", recovery="none", calibration_images=64, align=16, seed=2
    )
    spec = factories.spec(3, recipe="distill", steps=3, batch=8, patience=9, head="nms", **asdict(method))
    (series,) = series_of([factories.record(3, spec=spec)])
    options = launch_options(None, "yolo26n", find_data("shapes", "", []), 320, series)
    assert (options.method, options.recipe, options.steps) == (method, "distill", 3)
    assert (options.batch, options.patience, options.seed, options.head) == (8, 9, 2, "nms")


def test_an_original_alone_suggests_the_default_method() -> None:
    cut_by_nothing = {"criterion": "l2", "allocation": "uniform", "recovery": "none", "calibration_images": 0}
    spec = factories.spec(0, epochs=0, recipe="standard", **cut_by_nothing)
    (series,) = series_of([factories.record(0, spec=spec)])
    options = launch_options(None, "yolo26n", find_data("shapes", "", []), 320, series)
    assert (options.method, options.recipe, options.epochs) == (CutMethod(), "cosine", 100)


def test_a_series_without_training_does_not_suggest_zero_epochs() -> None:
    (series,) = series_of([factories.record(3, spec=factories.spec(3, epochs=0))])
    assert launch_options(None, "yolo26n", find_data("shapes", "", []), 320, series).epochs == 100


def test_image_size_follows_what_it_will_stand_beside() -> None:
    (series,) = series_of(factories.series(imgsz=416))
    assert image_size("shapes", series, Neighbours()) == 416
    assert image_size("coco", None, Neighbours(published=(factories.published(),))) == 640
    assert image_size("shapes", None, Neighbours()) == 320
    assert image_size("coco8", None, Neighbours()) == 640


def test_data_is_found_by_name_by_path_and_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "cells.yaml"
    file.write_text("train: a\nval: b\nnames: [red, white]\n", encoding="utf-8")
    assert find_data("shapes", "", []).nc == 10
    assert find_data("cells", str(file), []).nc == 2
    earlier = factories.record(1, spec=factories.spec(1, data="cells", data_source=str(file)))
    assert find_data("cells", "", [earlier]).argument == str(file)


def test_data_that_is_nowhere_or_another(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'cells' is not on this machine"):
        find_data("cells", "", [])
    file = tmp_path / "birds.yaml"
    file.write_text("train: a\nval: b\nnames: [tit]\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="is the data set 'birds', not 'cells'"):
        find_data("cells", str(file), [])
    with pytest.raises(DatasetError, match="no data set"):
        find_data("cells", str(tmp_path / "nowhere.yaml"), [])


SOME = "shapes [disc, star]"


def _on_some_classes(levels: tuple[int, ...] = (0, 3), **changes: Any) -> list[RunRecord]:
    """Results on two of the built-in classes, as a run on this machine leaves them."""
    conditions = {"data": SOME, "data_source": "shapes", "classes": (0, 2), **changes}
    return [factories.record(level, spec=factories.spec(level, **conditions)) for level in levels]


def test_results_on_some_classes_are_of_the_whole_data_set() -> None:
    found = find_data(SOME, "", _on_some_classes())
    names = class_names("shapes")
    assert (found.argument, found.classes, found.nc) == ("shapes", (0, 2), 2)
    assert found.classes_argument == f"{names[0]},{names[2]}"
    # As they are handed on, without a path of the machine that measured them.
    assert find_data(SOME, "", _on_some_classes(data_source=SOME)) == found
    assert whole_name(SOME, _on_some_classes()) == "shapes"
    assert whole_name("my [own] data", [factories.record(1)]) == "my [own] data"


def test_the_path_of_some_classes_is_that_of_all(tmp_path: Path) -> None:
    records = _on_some_classes(data="cells [red]", data_source="cells [red]", classes=(0,))
    with pytest.raises(DatasetError, match="The data set 'cells' is not on this machine"):
        find_data("cells [red]", "", records)
    file = tmp_path / "cells.yaml"
    file.write_text("train: a\nval: b\nnames: [red, white]\n", encoding="utf-8")
    assert find_data("cells [red]", str(file), records).classes_argument == "red"


def test_classes_of_one_name_are_told_by_index() -> None:
    assert DataSource(argument="x", names={0: "1", 1: "0", 2: "2"}, classes=(1, 2)).classes_argument == "0,2"
    twins = {0: "cell", 1: "cell", 2: "disc"}
    assert DataSource(argument="x", names=twins, classes=(1, 2)).classes_argument == "1,2"
    assert DataSource(argument="x", names=twins).classes_argument == ""


def test_a_run_on_some_classes_starts_from_what_was_given_and_a_plan_from_its_original(tmp_path: Path) -> None:
    given, left = tmp_path / "mine.pt", tmp_path / "left.pt"
    given.write_bytes(b"weights")
    records = _on_some_classes(model=str(given), epochs=0)
    records[0] = factories.with_checkpoint(records[0], b"less", "ef" * 32)
    (series,) = series_of(records)
    source = source_of(series, lambda record: left)
    original = original_checkpoint(series, lambda record: left)
    assert source == Source(model=str(given), weights_sha256="ab" * 32)
    assert original == Source(model=str(left), weights_sha256="ef" * 32)

    found = find_data(SOME, "", records)
    question = plan_question(source, "yolo26n", found, 320, original)
    assert question is not None
    assert (question.source, question.data, question.nc) == (original, None, 2)
    assert plan_question(source, "yolo26n", found, 320, None) is None
    options = launch_options(source, "yolo26n", found, 320, series)
    assert (options.data, options.classes, list(options.models)) == ("shapes", found.classes_argument, [str(given)])


def test_runs_are_known_by_the_weights_that_they_start_from() -> None:
    original = factories.with_checkpoint(factories.record(0), b"weights", "ef" * 32)
    subject = subject_of("yolo26n", "shapes", [original], None)
    assert subject.weights == {"ab" * 32, "ef" * 32}
