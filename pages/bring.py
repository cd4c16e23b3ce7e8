"""Add yours: a model and a data set of the user's, checked and then measured like any other."""

from __future__ import annotations

import streamlit as st

from compression.brought import Brought, Kind, brought
from compression.catalog import CATALOG
from pages.parts import frame
from pages.parts.access import may_act
from pages.parts.bringing import JUST_ADDED, bring
from pages.parts.results import known_dataset_names


def main() -> None:
    """Draw the page."""
    frame.begin("Add yours")
    st.title("Your model on your data")
    st.markdown(
        "Bring a trained model and the data set that it was trained on. Both are checked first, and every fault is "
        "named with its file and what helps. Then see what each level would cut, and measure the ones you like."
    )
    if not may_act():
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.header("1. Model", anchor=False)
        bring("model")
    with right:
        st.header("2. Data set", anchor=False)
        bring("data")
    st.header("3. What each level would cut", anchor=False)
    _lead_on(brought("model"), brought("data"))


def _lead_on(models: list[Brought], datasets: list[Brought]) -> None:
    if not models and not datasets:
        st.caption("As soon as a model or a data set of yours has passed its check, it goes on from here.")
        return
    left, middle, right = st.columns([4, 4, 3], vertical_alignment="bottom")
    model = _choose(left, "Model", "model", [one.name for one in models], list(CATALOG))
    data = _choose(middle, "Data set", "data", [one.name for one in datasets], list(known_dataset_names()))
    trained_on = next((one.classes for one in models if one.name == model), ())
    classes = next((one.classes for one in datasets if one.name == data), ())
    if right.button("Explore its levels", type="primary", icon=":material/arrow_forward:", width="stretch"):
        st.switch_page("pages/explore.py", query_params={"model": model, "data": data})
    if trained_on and classes and trained_on != classes:
        st.caption(_other_classes(trained_on, classes))


def _choose(place: st.delta_generator.DeltaGenerator, label: str, kind: Kind, own: list[str], known: list[str]) -> str:
    just_added = st.session_state.get(JUST_ADDED, {}).pop(kind, None)
    if just_added in own:
        st.session_state[f"explore-{kind}"] = just_added
    return place.selectbox(label, list(dict.fromkeys((*own, *known))), key=f"explore-{kind}")


def _other_classes(trained_on: tuple[str, ...], classes: tuple[str, ...]) -> str:
    if len(trained_on) != len(classes):
        return (
            f"The model was trained on {len(trained_on)} classes and the data set has {len(classes)}: a run trains it "
            "on them first, and that is its level 0."
        )
    return (
        f"Model and data set have {len(classes)} classes each, under other names: make sure that they mean the same, "
        "in the same order."
    )


main()
