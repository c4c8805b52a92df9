"""What is to be learned of values from a replay of rollouts."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.search.network import Foreseen, SearchNetwork
from xplore.agents.search.plan import Options, novelty, rows_of
from xplore.contracts.types import PyTree


class LearnOptions(Options, Protocol):
    """What is learned by, beside the options of the search."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def discount(self) -> float: ...
    @property
    def trace(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def replay_size(self) -> int: ...
    @property
    def updates_per_rollout(self) -> int: ...
    @property
    def target_period(self) -> int: ...
    @property
    def intrinsic_weight(self) -> float: ...
    @property
    def intrinsic_episodic(self) -> bool: ...
    @property
    def table_size(self) -> int: ...
    @property
    def torso(self) -> Torso: ...
    @property
    def symbols(self) -> Symbols: ...
    @property
    def hidden_sizes(self) -> tuple[int, ...]: ...
    @property
    def latent_size(self) -> int: ...
    @property
    def activation(self) -> Activation: ...


class Segment(NamedTuple):
    """A rollout of one env, leaves `[T, ...]`; `reward` `[T, 2]`: the task's, and intrinsic.

    A rollout shorter than T is filled up with steps that are not `valid`.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    next_obs: PyTree
    terminated: jax.Array
    truncated: jax.Array
    valid: jax.Array
    policy: jax.Array


def taken(values: jax.Array, action: jax.Array) -> jax.Array:
    """Of `values` `[..., A]` those of the actions `[...]`."""
    return jnp.take_along_axis(values, action[..., None], axis=-1)[..., 0]


def targets(
    options: LearnOptions,
    network: SearchNetwork,
    params: PyTree,
    visits: jax.Array,
    batch: Segment,
    start_value: jax.Array,
    untried_value: float | jax.Array = 0.0,
) -> jax.Array:
    """What is to be learned of values, `[B, T, 2]`: lambda-returns of both rewards.

    Exploring does not end with an episode: what follows one is `start_value`.

    What exploring earns is what it would earn now, by the present counts. With a model in the
    network, what follows a step is worth what the best action is, and the return goes on only
    where that was taken: older ways of acting do not weigh on what is known by now.
    """
    rows = rows_of(batch.obs, 2, options.table_size)
    paid = options.novelty_bonus * taken(novelty(visits, rows)[..., 0], batch.action)
    reward = batch.reward + jnp.stack([jnp.zeros_like(paid), paid], axis=-1)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch.next_obs)
    after = foresee_obs(network, params, flat).value.reshape(reward.shape)
    ended = batch.terminated | batch.truncated
    follows = jnp.pad(batch.valid[:, 1:], ((0, 0), (0, 1))) & ~ended
    if network.model:
        promised = jnp.where(
            untried_value > 0.0, untried_value + options.discount * start_value, 0.0
        )
        worth, best = _best(options, network, params, visits, flat, promised)
        # A time limit leaves states in which nothing was ever done: they promise nothing.
        after = jnp.where(ended[..., None], after, worth.reshape(after.shape))
        best = best.reshape(ended.shape)
        follows &= jnp.pad(batch.action[:, 1:], ((0, 0), (0, 1))) == best

    ends = jnp.stack([after[..., 0], jnp.broadcast_to(start_value, ended.shape)], axis=-1)
    after = jnp.where(ended[..., None], ends, after)

    def back(total: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        reward, after, goes_on, follows = x
        mixed = jnp.where(follows, options.trace * total + (1.0 - options.trace) * after, after)
        total = reward + options.discount * jnp.where(goes_on, mixed, 0.0)
        return total, total

    goes_on = jnp.stack([~batch.terminated, jnp.ones_like(ended)], axis=-1)
    steps = (reward, after, goes_on, follows[..., None])
    by_time = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
    _, totals = jax.lax.scan(back, jnp.zeros_like(after[:, 0]), by_time, reverse=True)
    return jnp.swapaxes(totals, 0, 1)


def _best(
    options: LearnOptions,
    network: SearchNetwork,
    params: PyTree,
    visits: jax.Array,
    obs: PyTree,
    promised: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What the best action is worth by the model, `[R, 2]`, at observations; and which it is.

    One that was never taken is worth `promised`, if that is not 0.
    """
    latent: Any = network.apply(params, obs, method="represent")
    new = novelty(visits, rows_of(obs, 1, options.table_size))  # [R, A, 2]

    def act(action: jax.Array) -> jax.Array:
        acted = jnp.full(latent.shape[:1], action)
        led: Any = network.apply(params, latent, acted, method="imagine")
        found: Any = network.apply(params, led[0], method="foresee")
        return led[1] + options.discount * Foreseen(*found).value

    q = jnp.moveaxis(jax.vmap(act)(jnp.arange(network.num_actions)), 0, 1)  # [R, A, 2]
    paid = options.novelty_bonus * new[..., 0]
    q = q + jnp.stack([jnp.zeros_like(paid), paid], axis=-1)
    unknown = (new[..., 1] > 0.0) & (promised > 0.0)
    instead = jnp.stack([jnp.zeros_like(paid), jnp.full_like(paid, promised)], axis=-1)
    q = jnp.where(unknown[..., None], instead, q)
    best = jnp.argmax(jnp.sum(q, axis=-1), axis=-1).astype(jnp.int32)
    return jnp.take_along_axis(q, best[:, None, None], axis=1)[:, 0], best


def foresee_obs(network: SearchNetwork, params: PyTree, obs: PyTree) -> Foreseen:
    """What is said of observations `[B, ...]`."""
    latent = network.apply(params, obs, method="represent")
    found: Any = network.apply(params, latent, method="foresee")
    return Foreseen(*found)
