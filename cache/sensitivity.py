"""What accuracy a model loses when only one of its groups of coupled channels is cut: plain data, kept like results.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cache.measured import key_of, read_measured
from cache.series import Series
from compression.catalog import TaskName
from compression.spec import CriterionName, HeadName

SENSITIVITY_VERSION = 1

# Of each group so much is cut: deep enough that it shows above the noise of a few hundred images.
DEFAULT_PART = 0.5
# On so many validation images most groups can be told apart, and a pass takes seconds on two cores.
DEFAULT_IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class SensitivitySpec:
    """What was cut, and what was looked at; the key of the result.

    Attributes:
        weights_sha256: of the checkpoint.
        data_fingerprint: of the data set whose validation images were looked at.
        imgsz: side of the images, pixels.
        head: whose predictions counted.
        n_images: validation images, evenly spaced in the order of their names where there are more.
        criterion: how channels were ranked; the weakest ones were cut.
        part: of each group's channels that was cut.
        align: channels were cut in steps of up to so many.
    """

    weights_sha256: str
    data_fingerprint: str
    imgsz: int
    head: HeadName
    n_images: int
    criterion: CriterionName
    part: float
    align: int

    @property
    def key(self) -> str:
        """Sha256 of all of it."""
        return key_of(SENSITIVITY_VERSION, asdict(self))


@dataclass(frozen=True, kw_only=True)
class GroupSensitivity:
    """Channels that can only be cut together, and what that costs when nothing else is cut.

    Attributes:
        name: the layer that gives them, as in `cache.record.LayerRow`.
        layers: all layers that give them, that one among them; they keep the same channels.
        channels_before: how many there are.
        channels_after: how many were left.
        locked: why they must stay; None where some may go.
        predicts: whether the predictions that counted come from them; nothing is lost without a head that only trains.
        map50_95: the task's main accuracy without the others; None where they are locked.
        gflops_saved: part of the model's GFLOPs, 0 to 1.
        params_saved: part of the model's parameters, 0 to 1.
        importance: quantiles of the channels' scores, evenly spaced from the least to the greatest; none where locked.
    """

    name: str
    layers: tuple[str, ...]
    channels_before: int
    channels_after: int
    locked: str | None
    predicts: bool
    map50_95: float | None
    gflops_saved: float
    params_saved: float
    importance: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SensitivityRecord:
    """The sensitivity of all groups of a model: cut alone, with nothing recovered and nothing trained.

    Attributes:
        spec: what was cut, and what was looked at.
        model: label of the model.
        level: 0 to 5; None for a custom target, or where nothing is known of the checkpoint.
        data: name of the data set.
        n_val: validation images that the data set has.
        map50_95: the task's main accuracy of the model as it is, on the same images.
        groups: in forward order.
        n_backbone: blocks of the model that its yaml calls the backbone.
        n_blocks: all blocks; the last one is the head.
        seconds: wall time.
        environment: versions and hardware, see `compression.environment`.
        created: ISO 8601.
        task: what the model predicts, which decides what the accuracy is. Older records are all of detectors.
    """

    spec: SensitivitySpec
    model: str
    level: int | None
    data: str
    n_val: int
    map50_95: float
    groups: tuple[GroupSensitivity, ...]
    n_backbone: int
    n_blocks: int
    seconds: float
    environment: dict[str, str]
    created: str
    task: TaskName = "detect"

    def lost(self, group: GroupSensitivity) -> float | None:
        """Points (hundredths) of the main accuracy that cutting only this group costs; None where it is locked."""
        return None if group.map50_95 is None else round(100 * (self.map50_95 - group.map50_95), 3)

    def groups_of(self, layer: str) -> tuple[GroupSensitivity, ...]:
        """The groups that a layer gives channels of; whose cut costs most comes first, locked ones last."""
        found = [group for group in self.groups if layer in group.layers]
        return tuple(sorted(found, key=lambda group: (group.map50_95 is None, group.map50_95 or 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        return {"version": SENSITIVITY_VERSION, **asdict(self)}


def parse_sensitivity(text: str) -> SensitivityRecord:
    """The inverse of `to_dict`, from JSON.

    Raises:
        RecordError: the text is no record of this version.
    """

    def build(values: dict[str, Any]) -> SensitivityRecord:
        groups = tuple(
            GroupSensitivity(**{**group, "layers": tuple(group["layers"]), "importance": tuple(group["importance"])})
            for group in values["groups"]
        )
        return SensitivityRecord(**{**values, "spec": SensitivitySpec(**values["spec"]), "groups": groups})

    return read_measured(text, SENSITIVITY_VERSION, build, "A stored sensitivity")


def measured_like(series: Series, found: Sequence[SensitivityRecord]) -> SensitivityRecord | None:
    """The first that was measured as the levels of a series were: on the same images at the same size, by that head.

    Args:
        series: the levels.
        found: of the series' original, newest first.
    """
    record = series.any_record
    wanted = (series.spec.data_fingerprint, record.imgsz, record.head)
    return next((one for one in found if (one.spec.data_fingerprint, one.spec.imgsz, one.spec.head) == wanted), None)
