"""What can be chosen on a page: models and data sets with results first, then those that could be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cache.store import Known
from compression.catalog import CATALOG
from compression.levels import LEVELS

# Where nothing is measured yet, the page opens on what a newcomer can run soonest.
BUILT_IN_DATA = "shapes"
FALLBACK = ("yolo26n", BUILT_IN_DATA)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the select boxes offer, and what they show first.

    Attributes:
        models: labels; measured ones first, those of which no level and no original was measured last.
        datasets: names; measured ones first.
        model: to begin with.
        data: to begin with.
    """

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    model: str
    data: str


def choices_of(
    known: Iterable[Known],
    known_datasets: Sequence[str],
    own_models: Sequence[str] = (),
    own_datasets: Sequence[str] = (),
) -> Choices:
    """Begin on the combination with most measured levels; of several the built-in data set, then the newest.

    Args:
        known: the overview of all results.
        known_datasets: names that need no path.
        own_models: names of models that the user brought.
        own_datasets: likewise.
    """
    known = list(known)
    measured = sorted((one for one in known if one.provenance == "measured"), key=lambda one: one.newest)
    levels = {(one.model, one.data, one.level) for one in measured if one.level in LEVELS}
    n_measured = Counter((model, data) for model, data, _ in sorted(levels, key=str))
    newest = {(one.model, one.data): one.newest for one in measured}
    model, data = max(
        newest, key=lambda pair: (n_measured[pair], pair[1] == BUILT_IN_DATA, newest[pair]), default=FALLBACK
    )
    ranked = [model for (model, _), _ in n_measured.most_common()]
    ranked += [one.model for one in measured if one.level is not None]
    # With targets of their own only, as a study's many peers are.
    last = [one.model for one in measured]
    on = [data for (_, data), _ in n_measured.most_common()] + [one.data for one in measured]
    published = [one.data for one in known if one.provenance == "published"]
    return Choices(
        models=tuple(dict.fromkeys((*ranked, *own_models, *CATALOG, *last))),
        datasets=tuple(dict.fromkeys((*on, *own_datasets, BUILT_IN_DATA, *published, *known_datasets))),
        model=model,
        data=data,
    )


def architecture_of(model: str, known: Iterable[Known]) -> str:
    """The catalog name behind a model's label, as its results tell; the label itself where there are none."""
    return next((one.architecture for one in known if one.model == model), model)
