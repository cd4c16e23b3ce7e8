"""How a result was made, in words, and what each choice means."""

from __future__ import annotations

from cache.record import PlanRecord, RunRecord
from compression.spec import (
    DEFAULT_RECIPE,
    AllocationName,
    CriterionName,
    CutMethod,
    RecipeName,
    RecoveryName,
)

DEFAULT_MEANS = (
    f"criterion {CutMethod.criterion}, allocation {CutMethod.allocation}, recovery {CutMethod.recovery}, "
    f"recipe {DEFAULT_RECIPE}"
)

# What a select box says of each choice; short, so that it fits into one.
RECIPES: dict[RecipeName, str] = {
    "cosine": "an optimizer step each batch, rate along a cosine",
    "distill": "cosine, and the original teaches the pruned model",
    "standard": "Ultralytics' defaults for fine-tuning",
    "plain": "no augmentation at all, as published",
}
CRITERIA: dict[CriterionName, str] = {
    "obs": "error left after a refit (optimal brain surgeon)",
    "l1": "size of the weights, L1",
    "l2": "size of the weights, L2",
    "bn_scale": "size of the BatchNorm scales; L2 where there is none",
    "lamp": "size of the weights against larger ones",
    "taylor": "change of the loss, first order",
    "fisher": "change of the loss, second order",
    "random": "lots, the control",
}
ALLOCATIONS: dict[AllocationName, str] = {
    "budget": "importance against the cost that is saved",
    "uniform": "the same part of every layer",
    "global": "one ranking of all channels",
    "isomorphic": "one ranking a kind of layer",
}
RECOVERIES: dict[RecoveryName, str] = {
    "least_squares": "refit layers to the original's outputs",
    "batchnorm": "re-estimate BatchNorm's means and variances",
    "none": "nothing before training",
}


def made_by(record: RunRecord) -> str:
    """One sentence on how a measured model was cut and trained; empty where its source does not say."""
    spec = record.spec
    if spec is None:
        return ""
    looked_at = f" on at most {spec.calibration_images} training images" if spec.calibration_images else ""
    recovery = f", recovery {spec.recovery}" if spec.recovery != "none" else ", no recovery"
    steps = f" in {spec.steps} steps" if spec.steps > 1 else ""
    epochs = f"{spec.epochs} epoch{'s' * (spec.epochs != 1)}"
    training = f"fine-tuned for {epochs} (recipe {spec.recipe})" if spec.epochs else "not fine-tuned"
    return (
        f"Channels ranked by {spec.criterion}, allocation {spec.allocation}{recovery}{looked_at}; "
        f"{training}{steps}, seed {spec.seed}."
    )


def planned_by(plan: PlanRecord) -> str:
    """One sentence on what a plan is worth before a run."""
    return (
        f"Planned without looking at images (ranked by {plan.criterion}, allocation {plan.allocation}): the costs "
        "hold, but a run ranks channels on the training images and may cut other layers."
    )
