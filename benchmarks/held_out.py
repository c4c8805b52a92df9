"""The held-out levels of a task, the same for every run, and the fewest steps that solve them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Solvable
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.oracle import solve
from xplore.parts.levels import held_out_ids, level_from_id

_CHUNK = 64  # levels that are solved side by side


@functools.lru_cache(maxsize=16)
def optimal_steps(env: Any, num_levels: int) -> np.ndarray | None:
    """Of the first held-out levels of `env`: int `[num_levels]`, below 1 where there is none.

    None for an environment that has no oracle.
    """
    if isinstance(env, Solvable):
        steps = env.optimal_steps
    elif isinstance(env, MiniGrid):

        def steps(level: Any) -> jax.Array:
            return solve(env, level).steps
    else:
        return None
    # One level after the other within a chunk: those that need a long search do not hold up others.
    program = jax.jit(lambda ids: jax.lax.map(lambda i: steps(level_from_id(env, i)), ids))
    ids = np.asarray(held_out_ids(0, -(-num_levels // _CHUNK) * _CHUNK))
    try:
        found = [np.asarray(program(ids[i : i + _CHUNK])) for i in range(0, len(ids), _CHUNK)]
    except ConfigError:
        return None
    return np.concatenate(found)[:num_levels]
