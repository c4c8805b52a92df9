"""A tree search by mctx, and what its agents have as options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, get_args

import jax
import jax.numpy as jnp
import mctx as untyped_mctx

from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.types import Key, PyTree
from xplore.parts.hashing import hash_pytree

Policy = Literal["gumbel", "puct"]
mctx: Any = untyped_mctx  # its dataclasses are none to type checkers


class Options(Protocol):
    """What the agents with a search have in common as fields."""

    @property
    def policy(self) -> Policy: ...
    @property
    def num_simulations(self) -> int: ...
    @property
    def dirichlet_fraction(self) -> float: ...
    @property
    def temperature(self) -> float: ...
    @property
    def novelty_bonus(self) -> float: ...
    @property
    def deterministic(self) -> bool: ...


class Extras(NamedTuple):
    """What acting leaves for learning: `policy` `[N, A]`, the search's."""

    policy: jax.Array


class Arrival(NamedTuple):
    """What a model says of one step: all `[N]`, but `logits` `[N, A]`."""

    reward: jax.Array
    discount: jax.Array
    logits: jax.Array
    value: jax.Array


def check_options(agent: str, options: Options, sizes: tuple[str, ...]) -> None:
    """Checks the search's own options, and that those named `sizes` are at least 1.

    Raises:
        ConfigError: one of them makes no sense.
    """
    if options.policy not in get_args(Policy):
        raise ConfigError(f"{agent}: policy is {options.policy!r}: use 'gumbel' or 'puct'")
    check_least(agent, options, **dict.fromkeys(("num_simulations", *sizes), 1))


def search(
    options: Options,
    key: Key,
    logits: jax.Array,
    value: jax.Array,
    root: PyTree,
    step: Callable[[jax.Array, PyTree], tuple[Arrival, PyTree]],
) -> tuple[jax.Array, Extras]:
    """The actions `[N]` that a search is for, and its policy.

    Args:
        options: of the agent; without noise if it is `deterministic`.
        key: consumed.
        logits: `[N, A]`, of the policy at the root.
        value: `[N]`, of the root.
        root: where the search starts, leaves `[N, ...]`.
        step: of `(action [N], node)`: what a step earns, and the node it leads to.
    """

    def recurrent(params: PyTree, key: Key, action: jax.Array, node: PyTree) -> tuple[Any, PyTree]:
        found, node = step(action, node)
        return mctx.RecurrentFnOutput(
            reward=found.reward,
            discount=found.discount,
            prior_logits=found.logits,
            value=found.value,
        ), node

    quiet = options.deterministic
    start = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=root)
    common = {
        "params": (),
        "rng_key": jax.random.key(0) if quiet else key,
        "root": start,
        "recurrent_fn": recurrent,
        "num_simulations": options.num_simulations,
    }
    # mctx adds arrays of different ranks, which a strict user of NumPy's ranks has forbidden; and
    # in plain Python each of its loops would be compiled anew at every simulation.
    with jax.numpy_rank_promotion("allow"), jax.disable_jit(False):
        if options.policy == "gumbel":
            out = mctx.gumbel_muzero_policy(**common, gumbel_scale=0.0 if quiet else 1.0)
        else:
            out = mctx.muzero_policy(
                **common,
                dirichlet_fraction=0.0 if quiet else options.dirichlet_fraction,
                temperature=0.0 if quiet else options.temperature,
            )
    return out.action.astype(jnp.int32), Extras(out.action_weights)


def rows_of(obs: PyTree, batch_ndim: int, num_rows: int) -> jax.Array:
    """The rows of observations in a table of visits, int32."""
    return (hash_pytree(obs, batch_ndim) % jnp.uint32(num_rows)).astype(jnp.int32)


def novelty(visits: jax.Array, rows: jax.Array) -> jax.Array:
    """Of all actions `[..., A, 2]`: 1 / sqrt(1 + N(o, a)), and whether N(o, a) is 0.

    Args:
        visits: `[M, A]`, the table of N.
        rows: int32 `[...]`, of observations.
    """
    here = visits[rows]
    return jnp.stack([jax.lax.rsqrt(1.0 + here), (here == 0.0).astype(here.dtype)], axis=-1)
