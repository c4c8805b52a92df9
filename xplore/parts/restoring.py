"""States that can be gone back to: as bytes, with all that was done to get there."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Environment, PyTree

# What an environment that can go back to its states tells of them under `privileged`.
SNAPSHOT, NUM_STEPS, SCORE = "snapshot", "num_steps", "score"


class RestorableLevel(NamedTuple):
    """A level's start, or a state that was reached in it.

    Attributes:
        inner: the level.
        restored: bool `[]`, whether the episode begins in the saved state.
        snapshot: uint8 `[bytes]`, the saved state; zeros where there is none.
        obs: what is observed there.
    """

    inner: PyTree
    restored: jax.Array
    snapshot: jax.Array
    obs: PyTree


class Past(NamedTuple):
    """What a snapshot is the bytes of.

    Attributes:
        actions: uint8 `[max_steps]`, all that was done since the level's start; the first bytes.
        num_steps: int32 `[]`, how many actions that is.
        score: float32 `[]`, the sum of their rewards.
        inner: the environment's own state.
    """

    actions: jax.Array
    num_steps: jax.Array
    score: jax.Array
    inner: PyTree


def num_bytes(tree: PyTree) -> int:
    """The length of `to_bytes` of a tree of arrays, or of shapes and dtypes."""
    return sum(math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def to_bytes(tree: PyTree) -> jax.Array:
    """All leaves one after another, as uint8 `[bytes]`."""

    def of_leaf(x: jax.Array) -> jax.Array:
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(-1)

    return jnp.concatenate([of_leaf(x) for x in jax.tree.leaves(tree)])


def from_bytes(shapes: PyTree, data: jax.Array) -> PyTree:
    """What `to_bytes` was given; `shapes` has its shapes and dtypes.

    >>> tree = {"a": jnp.float32(2.5), "b": jnp.array([True, False])}
    >>> from_bytes(jax.eval_shape(lambda: tree), to_bytes(tree))["b"].tolist()
    [True, False]
    """
    leaves, structure = jax.tree.flatten(shapes)
    made, begin = [], 0
    for x in leaves:
        dtype = np.dtype(x.dtype)
        end = begin + math.prod(x.shape) * dtype.itemsize
        part = data[begin:end]
        begin = end
        if dtype == np.bool_:
            made.append(part.reshape(x.shape) != 0)
        elif dtype.itemsize == 1:
            made.append(jax.lax.bitcast_convert_type(part.reshape(x.shape), dtype))
        else:
            wide = part.reshape(*x.shape, dtype.itemsize)
            made.append(jax.lax.bitcast_convert_type(wide, dtype))
    return jax.tree.unflatten(structure, made)


def check_restorable(sampler: str, env: Environment) -> RestorableLevel:
    """The shapes of a level of an environment that can go back to its states.

    Raises:
        ConfigError: it cannot.
    """
    level = jax.eval_shape(env.sample_level, jax.random.key(0))
    if not isinstance(level, RestorableLevel):
        name = env.spec().name
        raise ConfigError(
            f"{sampler} goes back to states that were reached, which {name} cannot: wrap it, as"
            f" restorable/{name} or xplore.envs.restorable.Restorable(env)"
        )
    return level
