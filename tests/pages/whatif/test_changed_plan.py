"""Plans with layers changed by hand: what follows from wishes, in figures and words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache.series import series_of
from compression.graph.layer_groups import LayerGroups
from compression.request import RunRequest
from compression.spec import Target
from compression.wishes import Wish, parse_wishes
from pages.parts.whatif.changed_plan import (
    address_text,
    changed_plan,
    counts_of_rows,
    coupled_in_words,
    in_short,
    strip,
    totals,
    untrained_metrics,
    with_wish,
)
from tests import factories
from tests.compression.small_models import LEVEL_5, plan, planner


@pytest.fixture
def groups() -> LayerGroups:
    return planner("yolo26n").layer_groups


LAYER = "model.4.cv1"


def test_changes_are_counted_as_the_engine_counts_the_run_that_they_ask_for(groups: LayerGroups) -> None:
    start = counts_of_rows(groups, plan("yolo26n", LEVEL_5).layers)
    assert start is not None
    changed = changed_plan(groups, start, parse_wishes(["model.0"], [f"{LAYER}=0.25"]))
    run = planner("yolo26n").plan(Target(gflops_kept=None, params_kept=None, layers=changed.layers))
    assert changed.costs == run.after
    assert [row.channels_after for row in changed.rows] == [row.channels_after for row in run.layers]
    first, second = changed.wished
    assert (first.wish.layer, first.kept, first.whole) == ("model.0", 16, 16)
    assert (second.wish.layer, second.kept, second.whole) == (LAYER, 16, 64)
    before = {row.name: row.channels_after for row in plan("yolo26n", LEVEL_5).layers}
    assert (first.before, second.before) == (before["model.0"], before[LAYER])


def test_without_wishes_a_level_is_what_it_was(groups: LayerGroups) -> None:
    made = plan("yolo26n", LEVEL_5)
    start = counts_of_rows(groups, made.layers)
    assert start is not None
    changed = changed_plan(groups, start, ())
    assert (changed.costs, changed.rows) == (made.after, made.layers)
    assert changed_plan(groups, groups.widths, ()).layers == ()


def test_layers_of_another_model_are_not_taken(groups: LayerGroups) -> None:
    assert counts_of_rows(groups, plan("yolov8n", LEVEL_5).layers) is None
    assert counts_of_rows(groups, factories.layers(3)) is None


def test_a_wish_takes_the_place_of_those_about_coupled_layers(groups: LayerGroups) -> None:
    choice = next(choice for choice in groups.choices() if choice.coupled)
    other = Wish(layer="model.0", kept=1)
    first = with_wish(groups, (other,), Wish(layer=choice.layer, kept=0.5))
    assert len(first) == 2
    again = with_wish(groups, first, Wish(layer=choice.coupled[0], kept=0.25))
    assert {wish.layer for wish in again} == {"model.0", choice.coupled[0]}


def test_totals_and_lines(groups: LayerGroups) -> None:
    start = counts_of_rows(groups, plan("yolo26n", LEVEL_5).layers)
    assert start is not None
    changed = changed_plan(groups, start, (Wish(layer=LAYER, kept=8),))
    original, before = (groups.sheet.costs(groups.per_group(counts)) for counts in (groups.widths, start))
    table = totals(original, before, changed.costs, "Level 5")
    assert list(table.columns) == ["", "Original", "Level 5", "What if", "Against the original", "Against level 5"]
    assert table[""].tolist() == ["GFLOPs", "Parameters", "GFLOPs, deployed", "Parameters, deployed"]
    assert table["Against the original"][1] == f"{100 * (changed.costs.params / original.params - 1):+.1f}%"  # type: ignore[operator]
    assert list(totals(original, None, changed.costs, "Original").columns) == [
        *("", "Original", "What if", "Against the original"),
    ]
    (one,) = changed.wished
    assert in_short(one, None) == "8 of 64 channels"
    assert in_short(replace(one, before=28), "Level 5") == "8 of 64 channels (level 5: 28)"
    assert in_short(replace(one, wish=Wish(layer=LAYER, kept=1), kept=64), None) == "locked, 64 channels"
    assert coupled_in_words(one) == "Also model.4.m.0.cv2, which is coupled with it."
    assert coupled_in_words(replace(one, coupled=())) == ""
    coupled = replace(one, coupled=("a", "b", "c", "d", "e"))
    assert coupled_in_words(coupled) == "Also a, b, c and 2 more, which are coupled with it."


def test_the_strip_names_what_is_changed(groups: LayerGroups) -> None:
    changed = changed_plan(groups, groups.widths, (Wish(layer=LAYER, kept=0.5),))
    data = strip({"Level 5": plan("yolo26n", LEVEL_5).layers, "What if": changed.rows}, changed.wished)
    ((column, name),) = data.marked
    assert (data.names, name, data.layers[column]) == (("Level 5", "What if"), LAYER, LAYER)
    assert data.removed_pct[1][column] == 50
    assert data.hover[1][column] == f"<b>{LAYER}</b>, What if<br>channels 64 → 32"


def test_the_address_is_read_back() -> None:
    wishes = parse_wishes(["model.0"], [f"{LAYER}=0.5", "model.6.cv1=48"])
    assert address_text(wishes) == "model.0:1,model.4.cv1:0.5,model.6.cv1:48"


def test_what_was_measured_of_a_cut_is_found_whether_it_was_trained_or_not() -> None:
    wishes = (Wish(layer=LAYER, kept=0.5),)
    target = Target(gflops_kept=None, params_kept=None, layers=wishes)
    (series,) = series_of(factories.series())
    request = RunRequest(model="yolo26n.pt", data="shapes", layers=wishes, epochs=0, imgsz=320)
    untrained = replace(factories.record(3, spec=factories.spec(None, target=target, epochs=0)), level=None)
    trained = replace(
        factories.record(3, spec=factories.spec(None, target=target), metrics_recovered=factories.metrics(5)),
        level=None,
    )
    assert untrained_metrics(request, series, [untrained]) == (untrained.metrics, untrained)
    assert untrained_metrics(request, series, [trained]) == (trained.metrics_recovered, trained)
    others = [
        factories.record(3),
        replace(factories.record(3, spec=factories.spec(None, target=target, epochs=0, seed=1)), level=None),
        replace(factories.record(3, spec=factories.spec(None, target=target, epochs=0, criterion="l2")), level=None),
        replace(factories.record(3, spec=factories.spec(None, target=target, data_fingerprint="e" * 64)), level=None),
    ]
    assert untrained_metrics(request, series, others) is None
