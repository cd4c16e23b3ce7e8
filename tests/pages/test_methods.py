"""Methods in words."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from cache.series import method_label
from compression.spec import AllocationName, CriterionName, RecipeName, RecoveryName
from pages.parts.methods import ALLOCATIONS, CRITERIA, RECIPES, RECOVERIES, made_by, planned_by
from tests import factories


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, "default method"),
        ({"seed": 2, "epochs": 7, "batch": 3}, "default method"),
        ({"criterion": "taylor"}, "criterion taylor"),
        ({"allocation": "uniform"}, "allocation uniform"),
        ({"recovery": "none"}, "recovery none"),
        ({"calibration_images": 64}, "64 images"),
        ({"steps": 3}, "3 steps"),
        ({"recipe": "distill"}, "recipe distill"),
        ({"epochs": 0, "recipe": "distill"}, "no training"),
        (
            {
                "criterion": "l2",
                "allocation": "uniform",
                "recovery": "none",
                "calibration_images": 0,
                "recipe": "standard",
            },
            "criterion l2, allocation uniform, recovery none, recipe standard",
        ),
    ],
)
def test_a_label_names_what_differs_from_the_default(changes: dict[str, Any], label: str) -> None:
    assert method_label(factories.spec(3, **changes)) == label


def test_what_a_measured_level_was_ranked_by() -> None:
    assert made_by(factories.record(3)) == (
        "Channels ranked by obs, allocation budget, recovery least_squares on at most 256 training images; "
        "fine-tuned for 20 epochs (recipe cosine), seed 0."
    )
    spec = factories.spec(3, criterion="l2", recovery="none", calibration_images=0, steps=2, epochs=1, recipe="plain")
    assert made_by(factories.record(3, spec=spec)) == (
        "Channels ranked by l2, allocation budget, no recovery; fine-tuned for 1 epoch (recipe plain) in 2 steps, seed 0."
    )
    untrained = factories.spec(3, epochs=0)
    assert made_by(factories.record(3, spec=untrained)).endswith("training images; not fine-tuned, seed 0.")
    assert made_by(factories.published()) == ""


def test_what_a_plan_is_worth() -> None:
    assert planned_by(factories.plan(3)) == (
        "Planned without looking at images (ranked by l2, allocation uniform): the costs hold, "
        "but a run ranks channels on the training images and may cut other layers."
    )


def test_every_choice_is_explained() -> None:
    assert set(RECIPES) == set(get_args(RecipeName))
    assert set(CRITERIA) == set(get_args(CriterionName))
    assert set(ALLOCATIONS) == set(get_args(AllocationName))
    assert set(RECOVERIES) == set(get_args(RecoveryName))
