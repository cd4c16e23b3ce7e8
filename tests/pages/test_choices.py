"""What can be chosen, and what a plan or a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.record import RunRecord
from compression.errors import DatasetError
from pages.parts.choices import architecture_of, choices_of
from pages.parts.conditions import find_data, image_size, launch_options, subject_of
from pages.parts.series import series_of
from pages.parts.source import Source, plan_source, source_of
from pages.parts.tradeoff import Neighbours
from tests import factories


def _on(data: str, levels: tuple[int, ...]) -> list[RunRecord]:
    return [factories.record(level, spec=factories.spec(level, data=data)) for level in levels]


def test_the_page_opens_where_most_is_measured() -> None:
    choices = choices_of([*_on("cells", (1, 2, 3)), *_on("shapes", (0, 1, 2)), factories.published()], ["coco8"])
    assert (choices.model, choices.data) == ("yolo26n", "cells")
    assert choices.datasets == ("cells", "shapes", "coco", "coco8")
    assert choices.models[:2] == ("yolo26n", "yolo26s")


def test_with_nothing_measured_everything_can_still_be_chosen() -> None:
    choices = choices_of([], ["coco8"])
    assert (choices.model, choices.data) == ("yolo26n", "shapes")
    assert len(choices.models) == 15
    assert choices.datasets == ("shapes", "coco8")


def test_architecture_of_a_label() -> None:
    own = factories.record(1, model="mine")
    assert architecture_of("mine", [own]) == "yolo26n"
    assert architecture_of("yolo11m", [own]) == "yolo11m"


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
    assert (options.epochs, options.seed, options.recipe, options.imgsz) == (20, 0, "standard", 320)


def test_an_untrained_original_does_not_suggest_zero_epochs() -> None:
    (series,) = series_of([factories.record(0, spec=factories.spec(0, epochs=0))])
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


def test_runs_are_known_by_the_weights_that_they_start_from() -> None:
    original = factories.with_checkpoint(factories.record(0), b"weights", "ef" * 32)
    subject = subject_of("yolo26n", "shapes", [original], None)
    assert subject.weights == {"ab" * 32, "ef" * 32}
