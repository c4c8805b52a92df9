"""Advantages and returns, with termination and truncation kept apart."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xplore.contracts.types import PyTree


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: float | jax.Array,
    trace: float | jax.Array,
    episodic: bool = True,
) -> jax.Array:
    """Generalised advantage estimates `[T, N]`.

    delta_t = r_t + discount (1 - terminated_t) v(s_{t+1}) - v(s_t);
    A_t = delta_t + discount * trace * (1 - ended_t) A_{t+1}. A time limit bootstraps from the true
    successor.

    Args:
        reward: `[T, N]`.
        value: `[T, N]`, of the observations acted on.
        next_value: `[T, N]`, of their true successors.
        terminated: bool `[T, N]`.
        truncated: bool `[T, N]`.
        discount: gamma.
        trace: lambda.
        episodic: if False the stream goes on over episode ends, as RND's intrinsic return does;
            then `next_value[t]` must be the value of what is seen next, the new episode's start.

    Reference: Schulman et al. (2016), arXiv:1506.02438.
    """
    if episodic:
        alive, linked = 1.0 - terminated, 1.0 - (terminated | truncated)
    else:
        alive = linked = jnp.ones_like(reward)
    delta = reward + discount * alive * next_value - value

    def one_step(
        advantage: jax.Array, step: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        delta, linked = step
        advantage = delta + discount * trace * linked * advantage
        return advantage, advantage

    _, advantages = jax.lax.scan(
        one_step, jnp.zeros_like(delta[0]), (delta, linked.astype(jnp.float32)), reverse=True
    )
    return advantages


def lambda_returns(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    *,
    discount: float | jax.Array,
    trace: float | jax.Array,
) -> jax.Array:
    """Returns `[T, N, ...]`, each of the last axes with values of its own.

    G_t = r_t + discount [trace G_{t+1} + (1 - trace) v(s_{t+1})], as advantages over `value`, plus
    these. Of quantiles, each is mixed with those of its own number: the mean is what the means
    alone would give.

    Args:
        reward: `[T, N]`.
        value: `[T, N, ...]`, of the observations acted on.
        next_value: `[T, N, ...]`, of their true successors.
        terminated: bool `[T, N]`.
        truncated: bool `[T, N]`.
        discount: gamma.
        trace: lambda.
    """

    def one(value: jax.Array, next_value: jax.Array) -> jax.Array:
        advantage = gae(
            reward, value, next_value, terminated, truncated, discount=discount, trace=trace
        )
        return advantage + value

    for _ in range(value.ndim - reward.ndim):
        one = jax.vmap(one, in_axes=-1, out_axes=-1)
    return one(value, next_value)


def successor_values(
    evaluate: Callable[[PyTree], jax.Array],
    value: jax.Array,
    next_obs: PyTree,
    truncated: jax.Array,
) -> jax.Array:
    """Values `[T, N, ...]` of the true successors, evaluated only where they are not known.

    Within an episode they are the next step's values; only truncated steps and the last one of the
    rollout need the network. A while loop goes through those, N at a time.

    Args:
        evaluate: values `[N, ...]` of observations, leaves `[N, ...]`.
        value: `[T, N, ...]`, of the observations acted on.
        next_obs: leaves `[T, N, ...]`.
        truncated: bool `[T, N]`.
    """
    num_steps, num_envs = truncated.shape
    total = num_steps * num_envs
    needed = truncated.at[-1].set(True).reshape(total)
    # Positions of the needed steps come first, in any order.
    order = jnp.argsort(~needed, stable=True)
    count = jnp.sum(needed)
    flat_obs = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), next_obs)
    known = jnp.concatenate([value[1:], value[-1:]]).reshape(total, *value.shape[2:])

    def fill(loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start, values = loop
        index = jax.lax.dynamic_slice(order, (start,), (num_envs,))
        new = evaluate(jax.tree.map(lambda x: x[index], flat_obs))
        # The last slice may reach past the needed steps: those keep their known values.
        asked = needed[index].reshape(num_envs, *[1] * (new.ndim - 1))
        new = jnp.where(asked, new, values[index])
        return start + num_envs, values.at[index].set(new)

    _, values = jax.lax.while_loop(lambda loop: loop[0] < count, fill, (jnp.int32(0), known))
    return values.reshape(value.shape)


def take_values(values: jax.Array, action: jax.Array) -> jax.Array:
    """The values `[..., B]` of actions int32 `[B]` among `values` `[..., B, A]`.

    By a mask and a sum: the gradient of a look-up is a scatter, which a CPU does row by row.

    >>> take_values(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 0])).tolist()
    [2.0, 3.0]
    """
    done = jnp.arange(values.shape[-1])[None] == action[:, None]
    return jnp.sum(jnp.where(jnp.broadcast_to(done, values.shape), values, 0.0), axis=-1)
