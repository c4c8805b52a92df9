"""What the networks of a bonus see: encoded observations, standardised by running moments."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from xplore.contracts.spaces import Space, shape_dtype
from xplore.contracts.types import Key, PyTree
from xplore.parts.normalisers import Moments, add_values, init_moments, standardise
from xplore.parts.predictors import Inputs, encode, init_codes

_STATISTICS_ROWS = 1 << 15


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InputState:
    """How observations of `space` become inputs `[..., D]`.

    Attributes:
        codes: what symbols are encoded by, fixed.
        moments: `[D]`, of the inputs seen so far; None where they are taken as they are.
        space: of one observation, static.
        kind: how symbols are encoded, static.
    """

    codes: PyTree
    moments: Moments | None
    space: Space = dataclasses.field(metadata={"static": True})
    kind: Inputs = dataclasses.field(metadata={"static": True})


def init_inputs(
    key: Key, space: Space, kind: Inputs = "codes", *, normalise: bool = True
) -> InputState:
    """Nothing seen yet; with `normalise=False` inputs are never standardised."""
    codes = init_codes(key, space)
    moments = init_moments((_num_inputs(space, codes, kind),)) if normalise else None
    return InputState(codes, moments, space, kind)


def _num_inputs(space: Space, codes: PyTree, kind: Inputs) -> int:
    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape_dtype(space))
    return int(jax.eval_shape(lambda obs: encode(space, codes, obs, kind), blank).shape[-1])


def num_inputs(state: InputState) -> int:
    """The D of `inputs_of`."""
    return _num_inputs(state.space, state.codes, state.kind)


def observe_inputs(state: InputState, obs: PyTree) -> InputState:
    """Takes observations `[T, N, ...]` into the moments (of many, envs that make 32,768 steps)."""
    if state.moments is None:
        return state
    num_steps, num_envs = jax.tree.leaves(obs)[0].shape[:2]
    most = max(1, _STATISTICS_ROWS // num_steps)
    some = jax.tree.map(lambda x: x[:, : min(num_envs, most)], obs)
    seen = encode(state.space, state.codes, some, state.kind)
    return dataclasses.replace(state, moments=add_values(state.moments, seen))


def inputs_of(state: InputState, obs: PyTree) -> jax.Array:
    """Inputs `[..., D]` of observations: `clip((x - mean) / max(std, 0.01), -5, 5)`."""
    x = encode(state.space, state.codes, obs, state.kind)
    return x if state.moments is None else standardise(state.moments, x)
