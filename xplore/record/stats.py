"""Aggregates over runs and tasks with seeded intervals.

Scores come as *strata*: a sequence with one array `[..., R_k]` per task, its runs on the last axis
(tasks may differ in their number of runs; for a matrix of runs x tasks give `list(matrix.T)`).
Leading axes are batched over, which is how a thousand resamples are one call.

Reference: Agarwal et al. (2021), Deep RL at the Edge of the Statistical Precipice,
arXiv:2108.13264.

Written anew rather than imported because the package of that paper draws its resamples from
NumPy's global state, whatever seed it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
Strata = Sequence[npt.NDArray[Any]]
Statistic = Callable[[Strata], Array]

_ELEMENTS_AT_ONCE = 4_000_000  # of a batch of resamples: 32 MB


class Interval(NamedTuple):
    """A confidence interval; the ends have the shape of the estimate."""

    low: Array
    high: Array


def normalised_score(
    score: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, *, clip: bool = True
) -> Array:
    """`(score - low) / (high - low)`, with `low` the random and `high` the optimal score.

    Clipped to [0, 1] unless told otherwise, so that no task can weigh more than another.

    Raises:
        ValueError: `high` is not above `low`.
    """
    bottom, top = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not np.all(top > bottom):
        raise ValueError(f"the optimal score {top} must be above the random score {bottom}")
    scaled = (np.asarray(score, np.float64) - bottom) / (top - bottom)
    return np.clip(scaled, 0.0, 1.0) if clip else scaled


def iqm(scores: Strata) -> Array:
    """Interquartile mean: the mean of what is left of all runs of all tasks after dropping
    `floor(n / 4)` at either end.

    Args:
        scores: arrays `[..., R_k]`.

    Returns:
        `[...]`.
    """
    pooled = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    count = pooled.shape[-1]
    cut = count // 4
    return np.asarray(pooled[..., cut : count - cut].mean(axis=-1))


def mean(scores: Strata) -> Array:
    """The mean over all runs of all tasks: `[..., R_k]` to `[...]`."""
    return np.asarray(np.concatenate(scores, axis=-1).mean(axis=-1))


def optimality_gap(scores: Strata) -> Array:
    """`1 - mean(min(score, 1))` over all runs of all tasks: `[..., R_k]` to `[...]`."""
    return np.asarray(1.0 - np.minimum(np.concatenate(scores, axis=-1), 1.0).mean(axis=-1))


def probability_of_improvement(scores: Strata, baseline: Strata) -> Array:
    """`mean over tasks of P(X > Y) + P(X = Y) / 2`, the Mann-Whitney statistic over its maximum.

    Args:
        scores: X, one array `[..., R_k]` per task.
        baseline: Y, one array `[..., Q_k]` per task.

    Returns:
        `[...]`; 0.5 says that neither is better.
    """
    tasks = []
    for x, y in zip(scores, baseline, strict=True):
        above = x[..., :, None] > y[..., None, :]
        equal = x[..., :, None] == y[..., None, :]
        tasks.append((above + 0.5 * equal).mean(axis=(-2, -1)))
    return np.asarray(np.mean(tasks, axis=0))


def improvement_interval(
    scores: Strata, baseline: Strata, *, generator: np.random.Generator, reps: int = 2000
) -> Interval:
    """The bootstrap interval of `probability_of_improvement`, both sides resampled."""

    def statistic(both: Strata) -> Array:
        return probability_of_improvement(both[: len(scores)], both[len(scores) :])

    return bootstrap_interval(statistic, [*scores, *baseline], generator=generator, reps=reps)


def above_thresholds(scores: Strata, thresholds: npt.ArrayLike) -> list[npt.NDArray[np.bool_]]:
    """Whether each run is above each threshold: `[R_k]` to `[P, R_k]`.

    The `mean` of these strata is the performance profile, and their bootstrap interval its band.
    """
    at = np.asarray(thresholds, np.float64)
    return [s[None, :] > at[:, None] for s in scores]


def performance_profile(scores: Strata, thresholds: npt.ArrayLike) -> Array:
    """The fraction of all runs whose score is above each threshold, `[P]`."""
    return mean(above_thresholds(scores, thresholds))


def bootstrap_interval(
    statistic: Statistic,
    scores: Strata,
    *,
    generator: np.random.Generator,
    reps: int = 2000,
    level: float = 0.95,
) -> Interval:
    """A percentile interval from the stratified bootstrap: runs are drawn anew within each task.

    Every leading element of a batch sees the same draws, as the points of one curve should. With
    few runs the interval is narrower than it says: five runs of a bell-shaped score are covered
    about 85 times in 100. Where no task has two runs there is nothing to draw from, and both ends
    are NaN.

    Args:
        statistic: maps strata `[..., R_k]` to `[...]`.
        scores: arrays `[..., R_k]` of at least one run each.
        generator: the source of the draws, seeded by the caller.
        reps: number of resamples; thousands for a figure to be quoted.
        level: the coverage asked for.

    Returns:
        Ends of shape `[...]`.
    """
    batch = np.broadcast_shapes(*(s.shape[:-1] for s in scores))
    if max(s.shape[-1] for s in scores) < 2:
        nothing = np.full(batch, np.nan)
        return Interval(nothing, nothing.copy())
    draws = [generator.integers(0, s.shape[-1], (reps, s.shape[-1])) for s in scores]
    flat = [np.broadcast_to(s, (*batch, s.shape[-1])).reshape(-1, s.shape[-1]) for s in scores]
    elements = reps * sum(s.shape[-1] for s in scores)
    step = max(1, _ELEMENTS_AT_ONCE // elements)
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    ends = [
        np.quantile(
            statistic([s[i : i + step][:, d] for s, d in zip(flat, draws, strict=True)]),
            tails,
            axis=-1,
        )
        for i in range(0, len(flat[0]), step)
    ]
    low, high = np.concatenate(ends, axis=-1)
    return Interval(low.reshape(batch), high.reshape(batch))


def wilson_interval(successes: int, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a fraction `successes / count`; it is right at 0 and 1 as well.

    `(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`.

    Reference: Wilson (1927), Probable inference, the law of succession, and statistical inference.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= count or count == 0:
        raise ValueError(f"{successes} successes of {count} is not a fraction")
    z = float(special.ndtri((1.0 + level) / 2.0))
    fraction, shrink = successes / count, 1.0 + z * z / count
    centre = fraction + z * z / (2 * count)
    spread = z * math.sqrt(fraction * (1.0 - fraction) / count + z * z / (4 * count * count))
    low = 0.0 if successes == 0 else (centre - spread) / shrink
    high = 1.0 if successes == count else (centre + spread) / shrink
    return low, high
