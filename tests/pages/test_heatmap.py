"""The data of the heatmap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from cache.record import LayerRow
from pages.parts.heatmap import heatmap, most_cut


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
    assert data.removed_pct == ((None, None), (50.0, 0.0), (None, 75.0))
    assert data.hover[1][0].split("<br>") == [
        "<b>model.0.conv</b> (Conv2d), level 2",
        "channels 16 → 8 (-50.0%)",
        "GFLOPs 0.0200 → 0.0100",
        "parameters 1,440 → 720",
    ]
    assert data.blocks == ((0, "0"), (1, "1"))


def test_what_stays_says_why() -> None:
    stays = replace(_layer("model.1.cv1", 16), locked="the outputs of the head")
    data = heatmap({1: (_layer("model.0.conv", 8), stays)})
    assert "stay" not in data.hover[0][0]
    assert data.hover[0][1].endswith("<br>all channels stay: the outputs of the head")


def test_an_axis_names_no_more_blocks_than_it_has_room_for() -> None:
    names = [f"model.{block}.{part}" for block in range(100) for part in "ab"]
    data = heatmap({1: tuple(_layer(name, 16) for name in names)})
    columns = [column for column, _ in data.blocks]
    assert min(after - before for before, after in pairwise(columns)) >= 5
    assert all(names[column].split(".")[1] == block for column, block in data.blocks)


def test_no_layers_at_all() -> None:
    assert heatmap({1: (), 2: ()}).layers == ()


def test_most_cut() -> None:
    rows = (_layer("a", 12), _layer("b", 4), _layer("c", 16))
    assert most_cut(rows) == "2 of 3 layers are narrower; b most, 16 → 4 channels (-75.0%)."
    assert most_cut((_layer("c", 16),)) is None
    assert most_cut(()) is None
