"""Where a cut gains less time than GFLOPs, layer by layer: from measured times, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from cache.layer_times import LayerTime, LayerTimesRecord

REST = "decoding and choosing boxes"


@dataclass(frozen=True, kw_only=True)
class LostTime:
    """One layer of the original beside the same layer of a narrower form.

    Attributes:
        name: path of the block it stands in; REST for what belongs to none.
        ms_before: milliseconds a pass.
        ms_after: likewise, of the narrower form.
        gflops_kept: part of its GFLOPs, by its channel counts; 1 where it has none.
    """

    name: str
    ms_before: float
    ms_after: float
    gflops_kept: float

    @property
    def time_kept(self) -> float:
        """Part of its time; 1 where it took none."""
        return self.ms_after / self.ms_before if self.ms_before else 1.0

    @property
    def lost_ms(self) -> float:
        """What it takes longer than if its time had shrunk like its GFLOPs; below 0 where it shrank more."""
        return self.ms_after - self.ms_before * self.gflops_kept


def lost_time(record: LayerTimesRecord) -> list[LostTime]:
    """All layers, those that lose most first.

    Args:
        record: of an original and one narrower form of it, two forms in all.
    """
    before, after = record.forms
    originals = {layer.name: layer for layer in before.layers}
    rows = [
        LostTime(
            name=layer.name,
            ms_before=originals[layer.name].ms,
            ms_after=layer.ms,
            gflops_kept=_pairs(layer) / _pairs(originals[layer.name]),
        )
        for layer in after.layers
        if layer.name in originals
    ]
    rows.append(LostTime(name=REST, ms_before=before.rest_ms, ms_after=after.rest_ms, gflops_kept=1.0))
    return sorted(rows, key=lambda row: -row.lost_ms)


def _pairs(layer: LayerTime) -> int:
    """What its GFLOPs grow with."""
    return layer.channels_in * layer.channels_out
