"""How long tabular agents search in DeepSea: numbers that are known, through the whole loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xplore
from xplore.testing import check_agent

FRESH, NONE = xplore.make_world_sampler("fresh"), xplore.make_bonus("none")


def episodes_to(agent: Any, size: int, episodes: int, seeds: int = 9) -> tuple[float, float]:
    """Medians over seeds of the episodes to the first treasure, and until a tenth has one."""
    config = xplore.Config(
        xplore.make("tabular/DeepSea-v0", size=size), agent, NONE, FRESH,
        budget_steps=size * episodes, num_envs=1, num_steps=size,
    )  # fmt: skip
    found = xplore.train(config, seeds=seeds).metrics["episode/success"] > 0
    k = np.arange(1, episodes + 1)
    solved = found.cumsum(axis=1) / k > 0.1
    return tuple(np.median(np.where(x.any(1), x.argmax(1) + 1, np.inf)) for x in (found, solved))


def test_rmax_needs_three_episodes_a_row():
    first, solved = episodes_to(xplore.make_agent("rmax"), 10, 40)
    assert first == pytest.approx(26, abs=3)
    assert solved == pytest.approx(29, abs=3)


def test_optimistic_q_needs_episodes_by_the_square():
    first, solved = episodes_to(xplore.make_agent("optimistic_q"), 10, 130)
    assert first == pytest.approx(86, rel=0.1)
    assert solved == pytest.approx(112, abs=1)  # for all seeds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "episodes", "expected"),
    [("model_ucb", 100, 39), ("rlsvi", 1200, 583), ("psrl", 1200, 601)],
)
def test_other_agents(id, episodes, expected):
    assert episodes_to(xplore.make_agent(id), 10, episodes)[1] == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("id", ["q_learning", "ucbvi", "psrl"])
def test_agents_where_time_is_not_in_the_state(id):
    check_agent(xplore.make_agent(id), xplore.make("gymnax/FrozenLake-misc"))
