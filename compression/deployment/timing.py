"""Time by turns: several actions in rounds of random order, so that what else the machine does befalls all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache.spread import half_interval

# Of a turn: passes whose time is thrown away, since the caches still belong to the action before, and timed ones.
UNTIMED_PASSES, TIMED_PASSES = 1, 4
# Before the first round, when memory is laid out and kernels are chosen.
WARM_UP_PASSES = 5


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How much longer one action takes than another; below 1 it is faster.

    Attributes:
        value: geometric mean over the rounds.
        low: lower end of its 95% interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def take_turns(actions: Sequence[Callable[[], object]], *, n_rounds: int, seed: int = 0) -> NDArray[np.float64]:
    """Time each action in each round.

    Args:
        actions: each returns when its work is done, also that on a GPU.
        n_rounds: at least 2, for an interval.
        seed: of the order within the rounds.

    Returns:
        Seconds, [actions, rounds, TIMED_PASSES].
    """
    for action in actions:
        for _ in range(WARM_UP_PASSES):
            action()
    order = np.random.default_rng(seed)
    seconds = np.empty((len(actions), n_rounds, TIMED_PASSES))
    for number in range(n_rounds):
        for index in order.permutation(len(actions)):
            for _ in range(UNTIMED_PASSES):
                actions[index]()
            for turn in range(TIMED_PASSES):
                start = time.perf_counter()
                actions[index]()
                seconds[index, number, turn] = time.perf_counter() - start
    return seconds


def is_timed(n_rounds: int) -> NDArray[np.bool_]:
    """Which of the passes that `take_turns` makes of each action are timed ones, [passes]."""
    turn = [False] * UNTIMED_PASSES + [True] * TIMED_PASSES
    return np.array([False] * WARM_UP_PASSES + turn * n_rounds)


def ratio_of(seconds: NDArray[np.float64], reference: NDArray[np.float64]) -> Ratio:
    """Compare two actions round by round.

    Args:
        seconds: of one action, [rounds, passes].
        reference: of the other, [rounds, passes].
    """
    logs = np.log(np.median(seconds, axis=1)) - np.log(np.median(reference, axis=1))
    half = half_interval(logs.tolist())
    assert half is not None, "an interval takes two rounds"
    mean = float(logs.mean())
    return Ratio(value=float(np.exp(mean)), low=float(np.exp(mean - half)), high=float(np.exp(mean + half)))
