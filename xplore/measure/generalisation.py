"""How a policy does in levels it was trained on and in levels it was not: gap, tails, detours.

Levels are tried twice at least. The worst ones are chosen by the first half of the tries and scored
by the second: scored by the tries they were chosen by, the worst levels look worse than they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError

Array = npt.NDArray[np.float64]

TAILS = (0.01, 0.05, 0.1)


class Tries(NamedTuple):
    """Episodes on L levels, E on each: arrays `[..., L, E]` of what `loop.evaluate` returns."""

    returns: npt.NDArray[Any]
    lengths: npt.NDArray[Any]
    success: npt.NDArray[Any]


def worst_levels(chosen_by: npt.ArrayLike, fraction: float) -> npt.NDArray[np.intp]:
    """Indices `[..., k]` of the lowest `k = max(1, round(fraction L))` of scores `[..., L]`.

    >>> worst_levels([0.5, 0.1, 0.9, 0.2], 0.5).tolist()
    [1, 3]
    """
    scores = np.asarray(chosen_by, np.float64)
    count = max(1, round(fraction * scores.shape[-1]))
    return np.argsort(scores, axis=-1, kind="stable")[..., :count]


def conditional_value_at_risk(
    chosen_by: npt.ArrayLike, scored_on: npt.ArrayLike, fraction: float
) -> Array:
    """Mean of `scored_on` over the worst levels by `chosen_by`: `[..., L]` both to `[...]`.

    Reference: Rutherford et al. (2024), No regrets: investigating and improving regret
    approximations for curriculum discovery, arXiv:2408.15099.
    """
    index = worst_levels(chosen_by, fraction)
    scores = np.asarray(scored_on, np.float64)
    return np.asarray(np.take_along_axis(scores, index, axis=-1).mean(axis=-1))


def halves(values: npt.ArrayLike) -> tuple[Array, Array]:
    """Means `[..., L]` over the first and the second half of the tries `[..., L, E]`.

    Raises:
        ConfigError: fewer than two tries.
    """
    given = np.asarray(values, np.float64)
    half = given.shape[-1] // 2
    if half < 1:
        raise ConfigError(
            f"episodes per level: {given.shape[-1]}; the worst levels are chosen by some and scored"
            " by others: give at least 2"
        )
    return given[..., :half].mean(-1), given[..., half:].mean(-1)


def of_levels(tries: Tries, optimal_steps: npt.ArrayLike | None = None) -> dict[str, Array]:
    """What is known of a set of levels, `[...]` each.

    `return`, `success`, `length`: means over levels and tries. `success_worst_1`, `_5`, `_10`: mean
    success in the worst so many percent of the levels, chosen by success and, among equals, by
    return. `steps_over_optimal`: mean length over the fewest steps, of successful episodes; NaN
    where there is none.

    Args:
        tries: `[..., L, E]`.
        optimal_steps: `[L]`, the fewest steps to success; levels that have no solution (below 1)
            are left out of the last of these numbers.
    """
    success = np.asarray(tries.success, np.float64)
    found = {
        "return": np.asarray(tries.returns, np.float64).mean((-2, -1)),
        "success": success.mean((-2, -1)),
        "length": np.asarray(tries.lengths, np.float64).mean((-2, -1)),
    }
    first, second = halves(success)
    returns, _ = halves(tries.returns)
    # Success decides; a return, scaled below the least difference in success, breaks ties.
    scale = max(float(np.abs(returns).max(initial=0.0)), 1e-9)
    order = first + 0.5 / tries.success.shape[-1] * returns / scale
    for tail in TAILS:
        name = f"success_worst_{round(100 * tail)}"
        found[name] = conditional_value_at_risk(order, second, tail)
    if optimal_steps is not None:
        best = np.asarray(optimal_steps, np.float64)[:, None]
        counted = (success > 0) & (best >= 1)
        ratio = np.where(counted, tries.lengths / np.maximum(best, 1.0), 0.0).sum((-2, -1))
        with np.errstate(invalid="ignore"):
            found["steps_over_optimal"] = ratio / counted.sum((-2, -1))
    return found


def gaps(train: dict[str, Array], test: dict[str, Array]) -> dict[str, Array]:
    """Training less held-out `return` and `success`."""
    return {name: train[name] - test[name] for name in ("return", "success")}
