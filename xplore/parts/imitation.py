"""Fitting a policy to examples of what to do."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.types import Key, Metrics, Policy, PyTree
from xplore.parts.fitting import Fitted, fit


class Examples(NamedTuple):
    """What was seen and what was done: leaves `[M, ...]`, and int32 `[M]`."""

    obs: PyTree
    action: jax.Array


def imitate(
    key: Key,
    policy: Policy,
    optimiser: PyTree,
    examples: Examples,
    *,
    learning_rate: float | jax.Array,
    batch_size: int,
    num_steps: int,
    num_filled: jax.Array | None = None,
) -> tuple[Fitted, Metrics]:
    """Takes `num_steps` steps of Adam on -log pi(a | s), on batches drawn with replacement.

    Args:
        key: consumed.
        policy: what to fit, from where it is.
        optimiser: the state of `optax.adam` for the policy's parameters.
        examples: `[M]` of them.
        learning_rate: of Adam.
        batch_size: B, examples of a step.
        num_steps: gradient steps, at least 1.
        num_filled: int32 `[]`: how many examples there are, the first ones; with 0 nothing moves.
            None: all.

    Returns:
        Parameters and optimiser, and means over the steps: the loss, and how often the likeliest
        action was the example's.
    """

    def loss(params: PyTree, rows: Examples, key: Key) -> tuple[jax.Array, Metrics]:
        logits = policy.logits(params, rows.obs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows.action)
        agrees = jnp.mean(jnp.argmax(logits, axis=-1) == rows.action)
        mean = jnp.mean(losses)
        return mean, {"imitation_loss": mean, "imitation_accuracy": agrees}

    before = Fitted(policy.params, optimiser)
    after, metrics = fit(
        key,
        before,
        loss,
        examples,
        learning_rate=learning_rate,
        fraction=batch_size * num_steps / examples.action.shape[0],
        num_minibatches=num_steps,
        num_filled=None if num_filled is None else jnp.maximum(num_filled, 1),
    )
    if num_filled is None:
        return after, metrics
    there = num_filled > 0
    after = jax.tree.map(lambda new, old: jnp.where(there, new, old), after, before)
    return after, jax.tree.map(lambda x: jnp.where(there, x, 0.0), metrics)
