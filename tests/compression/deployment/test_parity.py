"""Detections of two models compared, against truth worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compression.deployment.exported import Parity
from compression.deployment.parity import BOX_TOLERANCE_PX, SCORE_TOLERANCE, compare

NONE = torch.zeros(0, 6)


def box(x: float, score: float = 0.5, label: int = 0, size: float = 100.0) -> Tensor:
    """One detection whose square begins at (x, 0)."""
    return torch.tensor([[x, 0.0, x + size, size, score, label]])


def counts(parity: Parity) -> tuple[int, int, int, int, int]:
    return (parity.n_matched, parity.n_equal, parity.n_lost, parity.n_gained, parity.n_images)


def test_the_same_in_another_order_is_equal() -> None:
    ours, theirs = torch.cat([box(0), box(200, 0.7, 1)]), torch.cat([box(200, 0.7, 1), box(0)])
    parity = compare([ours, NONE], [theirs, NONE], images="images")
    assert counts(parity) == (2, 2, 0, 0, 2)
    assert (parity.max_box_px, parity.max_score) == (0.0, 0.0)
    assert parity.is_same


def test_differences_are_counted_and_measured() -> None:
    ours = torch.cat([box(0), box(200), box(400), box(600, label=1), box(800)])
    theirs = torch.cat([box(BOX_TOLERANCE_PX), box(203), box(400, 0.48), box(600, label=2)])
    parity = compare([ours], [theirs], images="images")
    # Moved by too little to be seen, by 3 pixels, scored otherwise; another class is no match, and one is missing.
    assert counts(parity) == (3, 1, 2, 1, 1)
    assert parity.max_box_px == 3
    assert parity.max_score == pytest.approx(0.02)
    assert SCORE_TOLERANCE < 0.02
    assert not parity.is_same


def test_each_detection_is_matched_once_and_the_pairs_overlap_most() -> None:
    # The first of ours lies over both of theirs, the second over one; greedy by order would leave one alone.
    ours, theirs = torch.cat([box(20), box(0)]), torch.cat([box(10), box(45)])
    parity = compare([ours], [theirs], images="images")
    assert counts(parity)[:1] == (2,)
    assert parity.max_box_px == 25
    # Two of ours on one of theirs: a duplicate is lost.
    assert counts(compare([torch.cat([box(0), box(5)])], [box(0)], images="images")) == (1, 1, 1, 0, 1)


def test_little_overlap_is_another_object() -> None:
    # A shift by 34 of 100 pixels leaves an IoU of 66/134, by 33 one of 67/133.
    assert compare([box(0)], [box(34)], images="images").n_matched == 0
    assert compare([box(0)], [box(33)], images="images").n_matched == 1


def test_without_detections_there_is_no_largest_difference() -> None:
    for parity in (compare([NONE], [NONE], images="images"), compare([], [], images="images")):
        assert (parity.max_box_px, parity.max_score) == (None, None)
        assert not parity.is_same
    assert compare([NONE], [box(0)], images="images").n_gained == 1
