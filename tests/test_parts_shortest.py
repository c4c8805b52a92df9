"""The search over an environment's own steps, against mazes of which the answer is known."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.families.maze import maze
from xplore.envs.minigrid import cells
from xplore.parts.levels import levels_from_ids, train_ids
from xplore.parts.shortest import Effort, shortest

FEW = Effort(chunk=64)


def as_the_crow_flies(goal: int, weight: int, states: Any) -> Any:
    """Moves to the cell `goal`, walls and turns left out, times a weight."""
    y, x = np.divmod(states.position, 7)
    return weight * (abs(y - goal // 7) + abs(x - goal % 7))


@pytest.fixture(scope="module")
def mazes() -> Any:
    env = maze(size=5, num_blocks=9)
    levels = jax.jit(lambda ids: levels_from_ids(env, ids).levels)(train_ids(0, jnp.arange(12)))
    return env, levels, np.asarray(jax.jit(jax.vmap(env.optimal_steps))(levels))


@pytest.mark.parametrize("weight", [0, 1])
def test_the_shortest_way_is_found(mazes, weight):
    env, levels, optimal = mazes
    step = jax.jit(env.step)
    assert -1 in optimal.tolist()
    assert max(optimal) > 8
    for i, steps in enumerate(optimal.tolist()):
        level = jax.tree.map(lambda x, i=i: x[i], levels)
        goal = int(jnp.argmax(level.grid == cells.GREEN_GOAL))
        found = shortest(env, level, partial(as_the_crow_flies, goal, weight), FEW)
        assert found.exact
        assert found.least == steps
        assert (found.plan is None) == (steps < 0)
        state, success = env.reset_to_level(jax.random.key(0), level)[0], []
        for action in [] if found.plan is None else found.plan:
            state, ts = step(jax.random.key(0), state, action)
            success.append(bool(ts.info["success"]))
        assert np.flatnonzero(success).tolist() == ([steps - 1] if steps > 0 else [])


def test_a_search_that_is_given_up_has_a_bound(mazes):
    env, levels, optimal = mazes
    far = int(np.argmax(optimal))
    level = jax.tree.map(lambda x: x[far], levels)
    few = FEW._replace(max_states=20)
    found = shortest(env, level, partial(as_the_crow_flies, 0, 0), few)
    assert not found.exact
    assert found.plan is None
    assert 1 < found.least <= optimal[far]


def test_chance_is_refused():
    with pytest.raises(ConfigError, match="deterministic"):
        shortest(xplore.make("Chain-v0"), None, partial(as_the_crow_flies, 0, 0))
