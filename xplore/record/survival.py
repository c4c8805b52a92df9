"""Time to solve when some runs never do: those are censored at their budget, not left out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xplore.record.stats import Array


class Survival(NamedTuple):
    """The fraction not yet solved: 1 before `times[0]`, `fraction[i]` from `times[i]` on."""

    times: Array
    fraction: Array


def kaplan_meier(times: npt.ArrayLike, solved: npt.ArrayLike) -> Survival:
    """The fraction of runs not yet solved as a function of time, `S(t) = prod (1 - d_i / n_i)`.

    `d_i` runs solve at the i-th time and `n_i` are still watched just before it; a run censored at
    that very time still counts as watched.

    Args:
        times: `[R]`, when the run solved, or when it stopped being watched.
        solved: `[R]`, which of the two.

    Reference: Kaplan and Meier (1958), Nonparametric estimation from incomplete observations.
    """
    at = np.asarray(times, np.float64)
    event = np.asarray(solved, bool)
    moments = np.unique(at[event])
    watched = (at[None, :] >= moments[:, None]).sum(axis=1)
    solving = ((at[None, :] == moments[:, None]) & event[None, :]).sum(axis=1)
    return Survival(moments, np.cumprod(1.0 - solving / watched))


def median_time(times: npt.ArrayLike, solved: npt.ArrayLike) -> float:
    """The first time at which half the runs have solved; infinite if half never did."""
    curve = kaplan_meier(times, solved)
    # A product such as (1 - 1/6)(1 - 1/5)(1 - 1/4) may miss a half by its last bit.
    reached = np.flatnonzero(curve.fraction <= 0.5 + 1e-12)
    return float(curve.times[reached[0]]) if reached.size else float("inf")


def restricted_mean_time(times: npt.ArrayLike, solved: npt.ArrayLike, horizon: float) -> float:
    """The mean time to solve up to a horizon, `integral of S(t) from 0 to horizon`.

    A run that has not solved by the horizon counts with the horizon.
    """
    curve = kaplan_meier(times, solved)
    before = curve.times < horizon
    edges = np.concatenate([[0.0], curve.times[before], [horizon]])
    heights = np.concatenate([[1.0], curve.fraction[before]])
    return float(np.sum(np.diff(edges) * heights))


def trailing_mean(values: npt.NDArray[Any], window: int) -> Array:
    """The mean of the last `window` points that are numbers; NaN before the first of them.

    A point without a number (no episode ended in that update) repeats what was known before it.

    Args:
        values: `[..., U]`, NaN where nothing was measured.
        window: points that are numbers, not columns.
    """
    flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
    smooth = np.full(flat.shape, np.nan)
    for row, out in zip(flat, smooth, strict=True):
        where = np.flatnonzero(~np.isnan(row))
        if where.size:
            total = np.concatenate([[0.0], np.cumsum(row[where])])
            upto = np.arange(1, where.size + 1)
            start = np.maximum(upto - window, 0)
            means = (total[upto] - total[start]) / (upto - start)
            known = np.searchsorted(where, np.arange(row.size), side="right")
            out[where[0] :] = means[known[where[0] :] - 1]
    return smooth.reshape(values.shape)


def first_reached(
    env_steps: npt.ArrayLike, values: npt.NDArray[Any], threshold: float, *, window: int = 5
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """When each curve's trailing mean first reaches a threshold.

    A mean over fewer than `window` points does not count: one lucky episode is not a solution.

    Args:
        env_steps: `[U]`, increasing.
        values: `[R, U]`.
        threshold: reached when the trailing mean is this or more.
        window: points of the trailing mean; fewer for a shorter curve.

    Returns:
        Times `[R]` (the last of `env_steps` for a run that did not) and whether it did, `[R]`.
    """
    steps = np.asarray(env_steps, np.float64)
    needed = min(window, steps.size)
    smooth = trailing_mean(values, needed)
    enough = np.cumsum(~np.isnan(values), axis=-1) >= needed
    # Sums of floats: a mean of ones must reach a threshold of one.
    reached = enough & (smooth >= threshold - 1e-9 * max(1.0, abs(threshold)))
    solved = np.asarray(reached.any(axis=-1))
    times = np.where(solved, steps[reached.argmax(axis=-1)], steps[-1])
    return np.asarray(times, np.float64), solved
