"""The form that starts a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import streamlit as st

from compression.jobs import local
from compression.spec import DEFAULT_BATCH, DEFAULT_EPOCHS, DEFAULT_PATIENCE, DEFAULT_SEED, RecipeName, parse_recipe

_RECIPES: dict[str, str] = {
    "standard": "standard: Ultralytics' defaults for fine-tuning",
    "plain": "plain: no augmentation at all, as published",
}


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the form offers and shows first.

    Attributes:
        key: tells the form's fields from those of another model, data set or series.
        models: MODEL as the command line takes it -> what it means; one or more.
        data: DATA as the command line takes it.
        imgsz: to begin with, and so on.
    """

    key: str
    models: dict[str, str]
    data: str
    imgsz: int
    epochs: int = DEFAULT_EPOCHS
    patience: int = DEFAULT_PATIENCE
    batch: int = DEFAULT_BATCH
    seed: int = DEFAULT_SEED
    recipe: RecipeName = "standard"


def launch_form(level: int, options: LaunchOptions) -> None:
    """Draw the form; on submit start the run, unless the same one is going on."""
    with st.form(key=f"launch-{options.key}", border=False):
        request = _fields(level, options)
        submitted = st.form_submit_button(f"Measure level {level}", type="primary", icon=":material/play_arrow:")
    if submitted:
        try:
            local.start_run(request)
        except OSError as error:
            st.error(f"The run cannot be started: {error}.", icon=":material/error:")
        else:
            st.rerun()


def _fields(level: int, options: LaunchOptions) -> local.RunRequest:
    key = options.key
    names = list(options.models)
    model = names[0]
    if len(names) > 1:
        model = st.selectbox("Start from", names, format_func=lambda name: _described(name, options), key=f"m-{key}")
    first, second, third, fourth = st.columns(4)
    epochs = first.number_input("Epochs", 0, 10_000, options.epochs, key=f"e-{key}", help="0 trains nothing.")
    imgsz = second.number_input("Image size, px", 32, 4096, options.imgsz, 32, key=f"i-{key}")
    batch = third.number_input("Batch", 1, 4096, options.batch, key=f"b-{key}", help="Images a training step.")
    seed = fourth.number_input("Seed", 0, 2**31 - 1, options.seed, key=f"s-{key}")
    left, right = st.columns(2)
    recipes = list(get_args(RecipeName))
    recipe = left.selectbox(
        "Recipe", recipes, recipes.index(options.recipe), format_func=lambda name: _RECIPES[name], key=f"r-{key}"
    )
    device = right.text_input(
        "Device", placeholder="chosen by itself", key=f"d-{key}", help="cpu, 0 for the first GPU, or 0,1 for two."
    )
    return local.RunRequest(
        model=model,
        data=options.data,
        level=level,
        epochs=epochs,
        patience=options.patience,
        imgsz=imgsz,
        batch=batch,
        seed=seed,
        recipe=parse_recipe(recipe),
        device=device.strip(),
    )


def _described(name: str, options: LaunchOptions) -> str:
    meaning = options.models[name]
    return f"{name}: {meaning}" if meaning else name
