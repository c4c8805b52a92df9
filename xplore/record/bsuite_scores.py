"""The scores of bsuite, in [0, 1], from the running totals of runs.

bsuite runs an experiment in several settings, one run each, and scores them together. Everything
here is a pure function of `Curve`s by setting: what had added up after how many episodes. They come
from a value per episode by `curve`, at the episodes at which bsuite looks, or from the metrics
"episode/total" and "episode/total_..." of a run, at the ends of its updates. The first episode at
which something holds is then that of the first look, at other episodes than bsuite's.

Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xplore.contracts.errors import ConfigError

_EPISODES = 10_000
_EPISODES_OF_CONTROL = 1000  # of mountain car and the cartpoles
_RATIOS = (1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)


class Curve(NamedTuple):
    """A running total of one run: `total` float64 `[R]` after `episode` int64 `[R]` episodes."""

    episode: npt.NDArray[np.int64]
    total: npt.NDArray[np.float64]


Runs = Mapping[Any, Curve]  # by setting


def logged_episodes(num_episodes: int) -> npt.NDArray[np.int64]:
    """The episodes up to `num_episodes` after which bsuite looks at a run, ascending.

    >>> logged_episodes(31).tolist()
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 30]
    """
    decades = range(len(str(num_episodes)))
    found = {round(ratio * 10**n) for n in decades for ratio in _RATIOS if n or ratio % 1 == 0}
    return np.array(sorted(e for e in found if e <= num_episodes), np.int64)


def curve(per_episode: npt.ArrayLike) -> Curve:
    """The running total of a value per episode `[E]`, at the episodes at which bsuite looks."""
    values = np.asarray(per_episode, np.float64)
    at = logged_episodes(len(values))
    return Curve(at, np.cumsum(values)[at - 1])


def deep_sea(bad_episodes: Runs) -> float:
    """The fraction of sizes that are learned faster than by dithering, in 2^N + 100 episodes.

    Args:
        bad_episodes: by size N, totals of `info["bad_episode"]`.
    """
    return _beats_dithering(bad_episodes, threshold=0.9, first_episode=1)


def deep_sea_stochastic(bad_episodes: Runs) -> float:
    """As `deep_sea`, for `deterministic=False`: from the 100th episode on, by a stricter rule."""
    return _beats_dithering(bad_episodes, threshold=0.8, first_episode=100)


def learned_at(bad_episodes: Curve, threshold: float = 0.9, first_episode: int = 1) -> int | None:
    """The first episode, `first_episode` or later, by which less than `threshold` were bad.

    None where there is none among the 10,000 episodes of the experiment.
    """
    episode, total = bad_episodes
    learned = (total / episode < threshold) & (episode >= first_episode) & (episode <= _EPISODES)
    return int(episode[learned].min()) if learned.any() else None


def _beats_dithering(bad_episodes: Runs, threshold: float, first_episode: int) -> float:
    found = {size: learned_at(c, threshold, first_episode) for size, c in _some(bad_episodes)}
    return float(np.mean([at is not None and at < 2**n + 100 for n, at in found.items()]))


def cartpole_swingup(returns: Runs, swingups: Runs) -> float:
    """The mean over thresholds of half the mean return over 700, and half for a swing-up.

    Args:
        returns: by height threshold, totals of episode returns.
        swingups: the same of `info["success"]`, an episode that returned more than 100.

    Raises:
        ConfigError: the two are of different settings.
    """
    if set(returns) != set(swingups):
        raise ConfigError("cartpole_swingup: returns and swingups must be of the same settings")
    scores = []
    for setting, run in _some(returns):
        regret = 700.0 - _mean_of(run, _EPISODES_OF_CONTROL)
        once = _mean_of(swingups[setting], _EPISODES_OF_CONTROL) > 0.0
        scores.append(0.5 * (_regret_score(regret, 700.0) + once))
    return float(np.mean(scores))


def memory(successes: Runs) -> float:
    """The fraction of settings in which mistakes were less than 0.75 of those of guessing.

    Args:
        successes: by length or number of bits, totals of `info["success"]`.
    """
    mistakes = [1.0 - _mean_of(run, _EPISODES) for _, run in _some(successes)]
    return float(np.mean(np.array(mistakes) / 0.5 < 0.75))


def umbrella(regrets: Runs) -> float:
    """The fraction of settings with a mean regret below 1/2, where guessing has 1.

    Args:
        regrets: by length or number of distractors, totals of `info["regret"]`.
    """
    return float(np.mean([_mean_of(run, _EPISODES) < 0.5 for _, run in _some(regrets)]))


def bandit(regrets: Runs) -> float:
    """What the mean regret leaves of 1/2, the regret of guessing, as a fraction of it.

    Args:
        regrets: by `mapping_seed`, totals of `info["regret"]`.
    """
    regret = np.mean([_mean_of(run, _EPISODES) for _, run in _some(regrets)])
    return _regret_score(float(regret), 0.5)


def mountain_car(lengths: Runs) -> float:
    """What the mean length of an episode beyond 100 steps leaves of 1000, as a fraction of it.

    Args:
        lengths: by seed, totals of the lengths of episodes.
    """
    length = np.mean([_mean_of(run, _EPISODES_OF_CONTROL) for _, run in _some(lengths)])
    return _regret_score(float(length) - 100.0, 1000.0)


def _some(runs: Runs) -> list[tuple[Any, Curve]]:
    if not runs or any(len(run.episode) == 0 for run in runs.values()):
        raise ConfigError("a score of bsuite needs a run, and an episode of every run")
    return list(runs.items())


def _mean_of(run: Curve, num_episodes: int) -> float:
    """The mean per episode up to the last that was looked at, of `num_episodes` at the most."""
    within = run.episode <= num_episodes
    if not within.any():
        raise ConfigError(
            f"a run was first looked at after {run.episode[0]} episodes; bsuite scores the first"
            f" {num_episodes}: record its totals before"
        )
    last = np.flatnonzero(within)[-1]
    return float(run.total[last] / run.episode[last])


def _regret_score(regret: float, baseline: float) -> float:
    return float(np.clip((baseline - regret) / baseline, 0.0, 1.0))
