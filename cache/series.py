"""Which results belong on one line: records that differ in nothing but their level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cache.groups import basis_of, conditions_of
from cache.record import RunRecord
from compression.levels import LEVELS, ORIGINAL
from compression.spec import DEFAULT_ALIGN, DEFAULT_CALIBRATION_IMAGES, DEFAULT_RECIPE, CutMethod, RunSpec
from compression.wishes import in_short, in_words

DEFAULT_METHOD = "default method"
ORIGINAL_ONLY = "original only"
# Within a sentence: where nothing but wishes about layers says how far is cut.
WISHED = "layers as wished"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Measured results of one model on one data set under one set of conditions and with one seed.

    Attributes:
        label: its conditions, as far as they differ from the default method and from those of other series; series
            that share it differ in their seed only.
        seed: of the fine-tuning.
        levels: the newest record of each measured level, 0 to 5.
        custom: records with a target of their own, which have no place on the slider.
    """

    label: str
    seed: int
    levels: dict[int, RunRecord]
    custom: tuple[RunRecord, ...] = ()

    @property
    def any_record(self) -> RunRecord:
        """Some record of the series, for what all of them share; a compressed one, if there is one."""
        return (self.compressed or list(self.levels.values()))[0]

    @property
    def compressed(self) -> list[RunRecord]:
        """All records but that of the original, by level, custom targets last."""
        return [*(record for level, record in sorted(self.levels.items()) if level != ORIGINAL), *self.custom]

    @property
    def spec(self) -> RunSpec:
        """The spec of `any_record`."""
        return _spec(self.any_record)

    @property
    def n_measured(self) -> int:
        """How many of the levels 1 to 5 were measured."""
        return sum(level in self.levels for level in LEVELS)

    @property
    def _rank(self) -> tuple[bool, int, str]:
        is_default = bool(self.compressed) and method_label(self.spec) == DEFAULT_METHOD
        return (is_default, self.n_measured, self.any_record.created)


def series_of(records: Iterable[RunRecord]) -> list[Series]:
    """Group the measured records of one model and data set.

    Originals join every series that was cut from their weights; where none was, they are a series of their own.

    Returns:
        The default method first, then what has most measured levels, then the newest. Series of one label follow each
        other, the one with most levels first, then by seed.
    """
    compressed: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    originals: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.provenance != "measured" or record.spec is None:
            continue
        if record.level == ORIGINAL:
            originals[basis_of(record)].append(record)
        else:
            compressed[conditions_of(record)].append(record)
    groups = [[*originals.get(basis_of(group[0]), []), *group] for group in compressed.values()]
    cut = {basis_of(group[0]) for group in compressed.values()}
    groups += [group for basis, group in originals.items() if basis not in cut]
    all_series = sorted(_named(groups), key=lambda one: (-one.n_measured, one.seed))
    best = {label: max(one._rank for one in alike) for label, alike in by_label(all_series).items()}
    return sorted(all_series, key=lambda one: (best[one.label], one.label), reverse=True)


def by_label(all_series: Iterable[Series]) -> dict[str, list[Series]]:
    """The series of each label in their order: the same conditions with one seed or several."""
    labelled: dict[str, list[Series]] = defaultdict(list)
    for one in all_series:
        labelled[one.label].append(one)
    return dict(labelled)


def newest(all_series: Sequence[Series]) -> Series:
    """The series with the latest result; originals count only where they stand alone, as several series share one."""
    return max(all_series, key=lambda one: max(record.created for record in one.compressed or one.levels.values()))


def method_label(spec: RunSpec) -> str:
    """What of a run's method differs from the default, "criterion taylor, allocation uniform"; else DEFAULT_METHOD."""
    differences = [
        (spec.criterion != CutMethod.criterion, f"criterion {spec.criterion}"),
        (spec.allocation != CutMethod.allocation, f"allocation {spec.allocation}"),
        (spec.recovery != CutMethod.recovery, f"recovery {spec.recovery}"),
        # 0 only says that nobody looked at images.
        (spec.calibration_images not in (0, DEFAULT_CALIBRATION_IMAGES), f"{spec.calibration_images} images"),
        (spec.align != DEFAULT_ALIGN, f"channels in {spec.align}s"),
        (spec.steps != 1, f"{spec.steps} steps"),
        (bool(spec.target.layers), in_short(spec.target.layers)),
        (spec.epochs == 0, "no training"),
        (spec.epochs > 0 and spec.recipe != DEFAULT_RECIPE, f"recipe {spec.recipe}"),
    ]
    return ", ".join(text for differs, text in differences if differs) or DEFAULT_METHOD


def cut_in_words(spec: RunSpec) -> str:
    """How far a run cuts, within a sentence: "level 3", "40% of the GFLOPs", "70% of the latency on onnx, 1 thread"."""
    if spec.level is not None:
        return "the original" if spec.level == ORIGINAL else f"level {spec.level}"
    kept = " and ".join(f"{100 * part:g}% of the {name}" for name, part in spec.target.parts.items())
    if not kept:
        return WISHED
    on = spec.target.latency
    return f"{kept} on {on.backend}, {on.threads} thread{'s' * (on.threads != 1)}" if on else kept


def capitalized(text: str) -> str:
    """With a first letter as at the beginning of a sentence; the others stay."""
    return text[:1].upper() + text[1:]


def cut_named(words: str) -> str:
    """The cut of `cut_in_words` where a target of its own is the subject: "the cut to 40% of the GFLOPs"."""
    return f"the cut of {words}" if words == WISHED else f"the cut to {words}"


def _spec(record: RunRecord) -> RunSpec:
    assert record.spec is not None, "a measured record without a spec"
    return record.spec


def _named(groups: list[list[RunRecord]]) -> list[Series]:
    """Each group with a label that only groups of other seeds share."""
    methods = [_method(group) for group in groups]
    circumstances = _differing([_circumstances(group) for group in groups])
    short = [" · ".join((method, *said)) for method, said in zip(methods, circumstances, strict=True)]
    details = [_details(group) for group in groups]
    result = []
    for group, label, own in zip(groups, short, details, strict=True):
        alike = [other for other, its_label in zip(details, short, strict=True) if its_label == label]
        further = [text for place, text in enumerate(own) if any(other[place] != text for other in alike)]
        by_date = sorted(group, key=lambda record: record.created)
        result.append(
            Series(
                label=" · ".join((label, *further)),
                seed=_spec(group[-1]).seed,
                levels={record.level: record for record in by_date if record.level is not None},
                custom=tuple(record for record in by_date if record.level is None),
            )
        )
    return result


def _method(group: list[RunRecord]) -> str:
    # The last one is compressed, if any is.
    return ORIGINAL_ONLY if group[-1].level == ORIGINAL else method_label(_spec(group[-1]))


def _circumstances(group: list[RunRecord]) -> tuple[str, ...]:
    """What is told of every group as soon as one differs; "" where it means nothing."""
    record, spec = group[-1], _spec(group[-1])
    trained = record.level != ORIGINAL and spec.epochs > 0
    epochs = f"{spec.epochs} epoch{'s' * (spec.epochs != 1)}" if trained else ""
    return (epochs, f"{record.imgsz} px", record.head)


def _differing(rows: list[tuple[str, ...]]) -> list[list[str]]:
    """Of each row the texts in whose place some row has another one."""
    varied = [len({*column} - {""}) > 1 for column in zip(*rows, strict=True)]
    return [[text for text, varies in zip(row, varied, strict=True) if varies and text] for row in rows]


def _details(group: list[RunRecord]) -> tuple[str, ...]:
    """What tells groups apart that are alike in method and circumstances."""
    spec = _spec(group[-1])
    weights = f"weights {spec.weights_sha256[:8]}" if spec.weights_sha256 else "random weights"
    data = f"data {spec.data_fingerprint[:8]}"
    return (
        f"batch {spec.batch}",
        f"patience {spec.patience}",
        f"recipe {spec.recipe}",
        f"{spec.calibration_images} images",
        in_words(spec.target.layers),
        weights,
        data,
    )
