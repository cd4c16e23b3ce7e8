"""The form that starts a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import streamlit as st

from compression.data.classes import parse_classes
from compression.errors import TrimboardError
from compression.jobs import local
from compression.request import RunRequest
from compression.spec import (
    DEFAULT_BATCH,
    DEFAULT_CALIBRATION_IMAGES,
    DEFAULT_EPOCHS,
    DEFAULT_PATIENCE,
    DEFAULT_RECIPE,
    DEFAULT_SEED,
    CutMethod,
    HeadName,
    RecipeName,
)
from compression.wishes import Wish, in_words
from pages.parts.access import check_may_act, may_act
from pages.parts.jobs.runs import plain
from pages.parts.methods import ALLOCATIONS, CRITERIA, RECIPES, RECOVERIES

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What the form offers and shows first.

    Attributes:
        key: tells the form's fields from those of another model, data set or series.
        models: MODEL as the command line takes it -> what it means; one or more.
        data: DATA as the command line takes it.
        names: classes of that data set by index.
        classes: the only classes that results here are of, as the command line takes them; "" for all.
        imgsz: to begin with, and so on.
        layers: what single layers keep in the series that is shown.
        head: the predictions that the series was measured by; None for the end-to-end ones where the model has them.
    """

    key: str
    models: dict[str, str]
    data: str
    names: Mapping[int, str] = field(default_factory=dict)
    classes: str = ""
    imgsz: int
    epochs: int = DEFAULT_EPOCHS
    patience: int = DEFAULT_PATIENCE
    batch: int = DEFAULT_BATCH
    seed: int = DEFAULT_SEED
    recipe: RecipeName = DEFAULT_RECIPE
    method: CutMethod = field(default_factory=CutMethod)
    steps: int = 1
    layers: tuple[Wish, ...] = ()
    head: HeadName | None = None


def launch_form(level: int, options: LaunchOptions) -> None:
    """Draw the form for those who may act; on submit start the run, unless the same one is going on."""
    if not may_act():
        return
    with st.form(key=f"launch-{options.key}", border=False):
        request = _fields(level, options)
        submitted = st.form_submit_button(f"Measure level {level}", type="primary", icon=":material/play_arrow:")
    if submitted:
        try:
            check_may_act()
            _check_classes(request, options)
            local.start_run(request)
        except TrimboardError as error:
            st.error(plain(str(error)), icon=":material/error:")
        except OSError as error:
            st.error(f"The run cannot be started: {error}.", icon=":material/error:")
        else:
            st.rerun()


def _check_classes(request: RunRequest, options: LaunchOptions) -> None:
    """A name that is mistyped is told at once; all else the run checks itself."""
    if request.classes:
        parse_classes(request.classes, options.names)


def _fields(level: int, options: LaunchOptions) -> RunRequest:
    key = options.key
    names = list(options.models)
    model = names[0]
    if len(names) > 1:
        model = st.selectbox("Start from", names, format_func=lambda name: _described(name, options), key=f"m-{key}")
    first, second, third, fourth = st.columns(4)
    # What was asked for on the command line may lie beyond what the form offers.
    epochs = first.number_input(
        "Epochs", 0, max(10_000, options.epochs), options.epochs, key=f"e-{key}", help="0 trains nothing."
    )
    imgsz = second.number_input("Image size, px", 32, max(4096, options.imgsz), options.imgsz, 32, key=f"i-{key}")
    batch = third.number_input(
        "Batch", 1, max(4096, options.batch), options.batch, key=f"b-{key}", help="Images a training step."
    )
    seed = fourth.number_input("Seed", 0, max(2**31 - 1, options.seed), options.seed, key=f"s-{key}")
    left, right = st.columns(2)
    with left:
        recipe = _choose("Recipe of the fine-tuning", RECIPES, options.recipe, f"r-{key}")
    device = right.text_input(
        "Device", placeholder="chosen by itself", key=f"d-{key}", help="cpu, 0 for the first GPU, or 0,1 for two."
    )
    method, steps, classes = _advanced_fields(options)
    if options.layers:
        st.caption(f"As in this series: {plain(in_words(options.layers))}.")
    return RunRequest(
        model=model,
        data=options.data,
        level=level,
        epochs=epochs,
        patience=options.patience,
        imgsz=imgsz,
        batch=batch,
        seed=seed,
        recipe=recipe,
        method=method,
        steps=steps,
        layers=options.layers,
        classes=classes.strip(),
        device=device.strip(),
        head=options.head,
    )


def _advanced_fields(options: LaunchOptions) -> tuple[CutMethod, int, str]:
    """How to cut, in how many rounds, and which classes to keep."""
    key, method = options.key, options.method
    with st.expander("How it is cut"):
        left, right = st.columns(2)
        with left:
            criterion = _choose("Criterion: channels are ranked by", CRITERIA, method.criterion, f"c-{key}")
            recovery = _choose("Recovery before training", RECOVERIES, method.recovery, f"y-{key}")
        with right:
            allocation = _choose("Allocation: the cut is shared out by", ALLOCATIONS, method.allocation, f"a-{key}")
            first, second = st.columns(2)
            # A method that looks at no images has 0 of them, which no other method could work with.
            images = method.calibration_images or DEFAULT_CALIBRATION_IMAGES
            calibration_images = first.number_input(
                "Images looked at",
                1,
                max(100_000, images),
                images,
                key=f"n-{key}",
                help="At most so many training images are looked at by criterion and recovery, where they need any.",
            )
            steps = second.number_input(
                "Steps",
                1,
                max(100, options.steps),
                options.steps,
                key=f"t-{key}",
                help="Cut and fine-tune in so many rounds.",
            )
        classes = st.text_input(
            "Only these classes",
            options.classes,
            placeholder="all",
            disabled=bool(options.classes),
            key=f"k-{key}",
            help="Names or indices with commas between them. The result is listed under a data set of its own.",
        )
    chosen = replace(
        method, criterion=criterion, allocation=allocation, recovery=recovery, calibration_images=calibration_images
    )
    return chosen, steps, classes


def _choose(label: str, choices: Mapping[Name, str], first: Name, key: str) -> Name:
    """A select box that says what each choice means."""
    names = list(choices)
    return st.selectbox(label, names, names.index(first), format_func=lambda name: f"{name}: {choices[name]}", key=key)


def _described(name: str, options: LaunchOptions) -> str:
    meaning = options.models[name]
    return f"{name}: {meaning}" if meaning else name
