"""The data of the heatmap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from cache.record import LayerRow
from pages.parts.layers.heatmap import Region, heatmap, most_cut, nice_ceiling, region_of, sensitivities
from tests import factories


def _layer(name: str, kept: int) -> LayerRow:
    return LayerRow(
        name=name,
        type="Conv2d",
        channels_before=16,
        channels_after=kept,
        gflops_before=0.02,
        gflops_after=0.02 * kept / 16,
        params_before=1440,
        params_after=90 * kept,
    )


def test_levels_by_layers() -> None:
    data = heatmap({2: (_layer("model.0.conv", 8), _layer("model.1.cv1", 16)), 1: (), 3: (_layer("model.1.cv1", 4),)})
    assert data.levels == (1, 2, 3)
    assert data.layers == ("model.0.conv", "model.1.cv1")
    assert data.values == ((None, None), (50.0, 0.0), (None, 75.0))
    assert data.kept == ((None, None), (8, 16), (None, 4))
    assert data.channels == (16, 16)
    assert data.blocks == ((0, "0"), (1, "1"))
    assert data.ceiling_pct == 80


def test_what_a_layer_saves_is_a_part_of_the_whole_model() -> None:
    layers = {5: (_layer("model.0.conv", 8), _layer("model.1.cv1", 16), _layer("model.2.cv1", 12))}
    gflops, params = heatmap(layers, "gflops"), heatmap(layers, "params")
    assert gflops.values == ((16.667, 0.0, 8.333),)
    assert params.values == gflops.values
    assert gflops.ceiling_pct == 20


@pytest.mark.parametrize(
    ("value", "ceiling"), [(0, 0.1), (0.1, 0.1), (0.11, 0.2), (0.9, 1), (1, 1), (2.1, 5), (7, 10), (43, 50), (50, 50)]
)
def test_a_scale_ends_on_a_round_number(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == ceiling


def test_what_must_stay_is_marked() -> None:
    stays = replace(_layer("model.1.cv1", 16), locked="the outputs of the head")
    assert heatmap({1: (_layer("model.0.conv", 8), stays)}).stays == (False, True)


def test_backbone_neck_and_head_are_told_apart_by_the_numbers_of_blocks() -> None:
    layers = {1: tuple(_layer(f"model.{block}.cv1", 16) for block in (0, 1, 2, 2, 3))}
    assert heatmap(layers, n_blocks=(2, 4)).regions == (
        Region(name="backbone", first=0, last=1),
        Region(name="neck", first=2, last=3),
        Region(name="head", first=4, last=4),
    )
    assert heatmap(layers).regions == ()
    assert region_of("stem.conv", (2, 4)) == ""


def test_an_axis_names_no_more_blocks_than_it_has_room_for() -> None:
    names = [f"model.{block}.{part}" for block in range(100) for part in "ab"]
    data = heatmap({1: tuple(_layer(name, 16) for name in names)})
    columns = [column for column, _ in data.blocks]
    assert min(after - before for before, after in pairwise(columns)) >= 5
    assert all(names[column].split(".")[1] == block for column, block in data.blocks)


def test_what_each_layer_is_worth_stands_in_its_column() -> None:
    names = ("model.0.cv1.conv", "model.1.cv1.conv", "model.1.cv2.conv", "model.2.cv1.conv", "model.9.cv1.conv")
    data = heatmap({1: tuple(_layer(name, 16) for name in names)})
    strip = sensitivities(data, factories.sensitivity())
    # A layer of several groups is worth what its dearest one is; one that gains is no loss.
    assert strip.lost == (10.0, -0.5, 10.0, None, None)
    assert strip.told == (
        "10.0 points of mAP50-95 lost when only it is cut",
        "-0.5 points of mAP50-95 lost when only it is cut",
        "10.0 points of mAP50-95 lost when only it is cut",
        "all channels stay: the outputs of the head",
        "sensitivity not measured",
    )
    assert (strip.is_measured, strip.ceiling) == (True, 10)
    nothing = sensitivities(data, None)
    assert (nothing.is_measured, set(nothing.lost), set(nothing.told)) == (False, {None}, {"sensitivity not measured"})


def test_no_layers_at_all() -> None:
    assert heatmap({1: (), 2: ()}).layers == ()


def test_most_cut() -> None:
    rows = (_layer("a", 12), _layer("b", 4), _layer("c", 16))
    assert most_cut(rows) == "2 of 3 layers are narrower; b most, 16 → 4 channels (-75.0%)."
    assert most_cut((_layer("c", 16),)) is None
    assert most_cut(()) is None
