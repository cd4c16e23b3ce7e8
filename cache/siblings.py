"""What a series is compared with under equal conditions: unpruned siblings, and what was published of the family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cache.groups import basis_of, family_of, originals_like, training_of
from cache.record import RunRecord
from cache.series import Series
from compression.levels import ORIGINAL


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Records that a series is compared with: same family, data, image size and head.

    Attributes:
        siblings: measured originals, one an architecture.
        siblings_published: published originals.
        published: published compressed models of the same architecture.
        left_out: published results under other conditions, which no axis can compare; a sentence, empty if none.
    """

    siblings: tuple[RunRecord, ...] = ()
    siblings_published: tuple[RunRecord, ...] = ()
    published: tuple[RunRecord, ...] = ()
    left_out: str = ""


def neighbours_of(architecture: str, series: Series | None, on_same_data: Iterable[RunRecord]) -> Neighbours:
    """Pick what stands beside a series.

    Args:
        architecture: catalog name of the chosen model's architecture.
        series: the chosen measured series, which fixes image size and head; None if nothing is measured, then the
            conditions are those of the published results.
        on_same_data: all records on the chosen data set.
    """
    family = [
        record for record in rivals_among(on_same_data) if family_of(record.architecture) == family_of(architecture)
    ]
    published = [record for record in family if record.provenance == "published"]
    conditions = _conditions(architecture, series, published)
    alike = [record for record in published if (record.imgsz, record.head) == conditions]
    return Neighbours(
        siblings=_measured_siblings(series, family),
        siblings_published=_by_cost(record for record in alike if record.level == ORIGINAL),
        published=tuple(record for record in alike if record.level != ORIGINAL and record.architecture == architecture),
        left_out=_left_out(published, conditions),
    )


def rivals_among(records: Iterable[RunRecord]) -> list[RunRecord]:
    """What series can be compared with: originals, also fine-tuned ones, and publications.

    What was cut and then given to another run as its model is an original to that run only, and is left out.
    """
    records = list(records)
    cut = {record.checkpoint_sha256 for record in records if record.level != ORIGINAL and not is_uncut(record)} - {None}

    def is_original(record: RunRecord) -> bool:
        return record.level == ORIGINAL and (record.spec is None or record.spec.weights_sha256 not in cut)

    return [one for one in records if one.provenance == "published" or is_uncut(one) or is_original(one)]


def _conditions(architecture: str, series: Series | None, published: list[RunRecord]) -> tuple[int, str] | None:
    """Image size and head that decide which results are comparable."""
    if series is not None:
        return series.any_record.imgsz, series.any_record.head
    compressed = [record for record in published if record.level != ORIGINAL and record.architecture == architecture]
    ranked = compressed or sorted(published, key=lambda record: record.head)
    return (ranked[0].imgsz, ranked[0].head) if ranked else None


def _left_out(published: list[RunRecord], conditions: tuple[int, str] | None) -> str:
    sizes = sorted({record.imgsz for record in published})
    if conditions is None or not sizes or conditions[0] in sizes:
        return ""
    written = ", ".join(str(size) for size in sizes)
    return f"Published results at {written} px are not drawn: this series was measured at {conditions[0]} px."


def _measured_siblings(series: Series | None, family: list[RunRecord]) -> tuple[RunRecord, ...]:
    if series is None:
        return ()
    mine = series.any_record
    newest = originals_like(mine, family)
    if ORIGINAL in series.levels:
        newest[mine.architecture] = series.levels[ORIGINAL]
    # A single model is no line; the series' own original is drawn as its level 0.
    return _by_cost(newest.values()) if len(newest) > 1 else ()


def _by_cost(records: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    return tuple(sorted(records, key=lambda record: record.costs.gflops or 0.0))


def repeats_of(original: RunRecord, records: Iterable[RunRecord]) -> list[RunRecord]:
    """A measured original and those that differ from it in nothing but the seed, the newest result of each seed."""
    if original.spec is None or not original.spec.epochs:
        # It was measured as it was given; no seed had a part in it.
        return [original]
    alike = [record for record in records if record.level == ORIGINAL and _repeated(record) == _repeated(original)]
    return _newest_of_each_seed(alike)


def tuned_alike(original: RunRecord, series: Series, records: Iterable[RunRecord]) -> list[RunRecord]:
    """An original after the fine-tuning that the levels of a series got, the newest result of each seed.

    It shows what fine-tuning alone gives, which is no merit of the cut.

    Args:
        original: it, or anything that was cut from it.
        series: whose fine-tuning is meant.
        records: to look in.
    """
    training = training_of(series.spec)
    return _newest_of_each_seed(
        record
        for record in records
        if is_uncut(record)
        and record.spec is not None
        and training_of(record.spec) == training
        and basis_of(record) == basis_of(original)
    )


def is_uncut(record: RunRecord) -> bool:
    """Whether a custom target keeps everything: what fine-tuning alone does to the original."""
    if record.level is not None or record.spec is None:
        return False
    target = record.spec.target
    return set(target.parts.values()) == {1} and all(wish.locks for wish in target.layers)


def _repeated(record: RunRecord) -> tuple[object, ...]:
    """Everything that decides an original but its seed."""
    spec = record.spec
    if spec is None:
        return (record.key,)
    weights = (spec.weights_sha256, spec.data_fingerprint, spec.classes, record.imgsz, record.head)
    return (record.architecture, *weights, *training_of(spec))


def _newest_of_each_seed(records: Iterable[RunRecord]) -> list[RunRecord]:
    by_seed = {record.spec.seed: record for record in sorted(records, key=lambda r: r.created) if record.spec}
    return [record for _, record in sorted(by_seed.items())]
