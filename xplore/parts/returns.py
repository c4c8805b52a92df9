"""Advantages and returns, with termination and truncation kept apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp


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
