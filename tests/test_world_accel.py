"""ACCEL in mazes: what it keeps grows harder."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import xplore
from xplore import Config, make_train
from xplore.worlds.accel import ACCEL


@pytest.mark.slow
def test_the_buffer_grows_harder_over_training():
    """From empty rooms to walls and longer ways, by learnability.

    By estimates of regret (`max_mc`, `positive_value_loss`) walls are added too, but what is kept
    are levels with short ways that the agent does not see: at this size it masters all others.
    """
    env: Any = xplore.make("Maze-Blocks-13x13-v0", size=7, num_blocks=0, max_steps=40)
    config = Config(
        env=env,
        agent=xplore.make_agent("ppo", num_minibatches=4),
        bonus=xplore.make_bonus("none"),
        worlds=ACCEL(score="learnability", num_edited=24, num_new=4, buffer_size=128),
        budget_steps=163_840,
        num_envs=32,
        num_steps=32,
        num_levels=64,
    )
    pure = make_train(config)
    update = jax.jit(pure.update, donate_argnums=0)
    optimal = jax.jit(jax.vmap(env.optimal_steps))
    state, ways, walls = jax.jit(pure.init)(jax.random.key(0)), [], []
    for number in range(1, config.num_updates + 1):
        state, _ = update(state)
        if number in (5, config.num_updates):
            kept = np.asarray(state.worlds.is_scored)
            steps = np.asarray(optimal(state.worlds.levels))[kept]
            grids = np.asarray(state.worlds.levels.grid)[kept]
            ways.append(steps[steps >= 0].mean())
            walls.append((grids == grids[0, 0]).sum(1).mean() - 32)  # those around it left out
    assert ways[1] > 1.25 * ways[0]
    assert walls[1] > 2 * walls[0]
