"""The select boxes that a page of results begins with: model, data set, conditions and seed, all in its address."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import streamlit as st

from cache.record import RunRecord
from cache.series import DEFAULT_METHOD, Series, by_label, newest, series_of
from cache.store import Known, Store
from compression.brought import KINDS, brought
from pages.parts.choices import choices_of
from pages.parts.jobs.runs import NEWEST_WANTED, plain
from pages.parts.methods import DEFAULT_MEANS
from pages.parts.results import heads_on, known_dataset_names

_NOT_MEASURED = "nothing measured"
_CONDITIONS = f"How the model was cut and fine-tuned, as far as it differs from the {DEFAULT_METHOD}: {DEFAULT_MEANS}."
_SEED = "Of the fine-tuning. Results of one line share it; those of other seeds are drawn as faint points."


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the select boxes say.

    Attributes:
        model: label.
        data: name of the data set.
        series: the chosen conditions and seed; None if nothing is measured.
        same_conditions: the series of all seeds, the chosen one among them.
        asked: what the address asked for on the first run of a visit, by parameter.
        known: the overview of all results.
        on_same_data: all results on the data set, without layers and curves.
    """

    model: str
    data: str
    series: Series | None
    same_conditions: Sequence[Series]
    asked: dict[str, str]
    known: Sequence[Known]
    on_same_data: Sequence[RunRecord]


def choose_series(store: Store) -> Chosen:
    """Draw the select boxes; what a link asks for and is not here is said above them."""
    own_models, own_datasets = ([one.name for one in brought(kind)] for kind in KINDS)
    known = store.overview()
    choices = choices_of(known, known_dataset_names(), own_models, own_datasets)
    asked = _parameters_of_link()
    notices = st.container()
    left, middle, right, outer = st.columns([4, 4, 6, 2])
    model = left.selectbox(
        "Model", choices.models, choices.models.index(choices.model), key="model", bind="query-params"
    )
    data = middle.selectbox(
        "Data set",
        choices.datasets,
        choices.datasets.index(choices.data),
        key="data",
        bind="query-params",
    )
    on_same_data = heads_on(store, data)
    all_series = series_of(record for record in on_same_data if record.model == model)
    _turn_to_series(model, data, all_series)
    labelled = by_label(all_series)
    with right:
        same_conditions = _choose_conditions(labelled)
    with outer:
        series = _choose_seed(same_conditions)
    with notices:
        tell_unknown("model", asked.get("model"), choices.models)
        tell_unknown("data set", asked.get("data"), choices.datasets)
        tell_unknown("conditions", asked.get("conditions"), labelled)
        tell_unknown("seed", asked.get("seed"), {str(one.seed) for one in same_conditions})
    return Chosen(
        model=model,
        data=data,
        series=series,
        same_conditions=same_conditions,
        asked=asked,
        known=known,
        on_same_data=on_same_data,
    )


def tell_unknown(noun: str, asked: str | None, known: Collection[str]) -> None:
    """A link may name what is not here; the select boxes fall back silently, so the page says it."""
    if asked is not None and asked not in known:
        st.warning(f"This link asks for the {noun} “{plain(asked)}”, unknown here; other results are shown instead.")


def _turn_to_series(model: str, data: str, all_series: list[Series]) -> None:
    """Show the newest result after a run, and the preferred conditions after another model or data set was chosen."""
    shown, before = (model, data), st.session_state.get("conditions-are-of")
    st.session_state["conditions-are-of"] = shown
    newest_wanted = st.session_state.pop(NEWEST_WANTED, False)
    if all_series and (newest_wanted or before not in (None, shown)):
        wanted = newest(all_series) if newest_wanted else all_series[0]
        st.session_state["conditions"], st.session_state["seed"] = wanted.label, wanted.seed


def _choose_conditions(labelled: dict[str, list[Series]]) -> list[Series]:
    preferred, *others = labelled or [_NOT_MEASURED]
    label = st.selectbox(
        "Conditions",
        [preferred, *sorted(others)],
        key="conditions",
        bind="query-params",
        disabled=len(labelled) < 2,
        help=_CONDITIONS,
    )
    return labelled.get(label, [])


def _choose_seed(same_conditions: list[Series]) -> Series | None:
    by_seed = {series.seed: series for series in same_conditions}
    seed = st.selectbox(
        "Seed",
        list(by_seed),
        key="seed",
        bind="query-params",
        placeholder="none",
        disabled=len(by_seed) < 2,
        help=_SEED,
    )
    return by_seed.get(seed) if seed is not None else None


def _parameters_of_link() -> dict[str, str]:
    """What the address asks for on a visit's first run; later the select boxes write it themselves."""
    if "link-was-read" in st.session_state:
        return {}
    st.session_state["link-was-read"] = True
    return st.query_params.to_dict()
