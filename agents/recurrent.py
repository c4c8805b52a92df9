"""Networks with a memory: a gated recurrent unit between a torso and the heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xplore.agents.networks import (
    MLP,
    Activation,
    Symbols,
    Torso,
    activate,
    cpu_rows,
    dense,
    torso_of,
)
from xplore.contracts.spaces import Space
from xplore.contracts.types import Key, PyTree
from xplore.parts.initializers import orthogonal

_NUM_GATES = 3


def _gates(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Orthogonal weights of each gate by itself, side by side."""
    rows, columns = shape
    init = orthogonal(1.0)
    # Drawn side by side: one loop to compile, not three.
    each = jax.vmap(lambda k: init(k, (rows, columns // _NUM_GATES), dtype))(
        jax.random.split(key, _NUM_GATES)
    )
    return jnp.concatenate(list(each), axis=-1)


class GRU(nn.Module):
    """A gated recurrent unit over time: `x [T, N, D] -> h [T, N, size]`, from `h [N, size]`.

    With r, z = sigma(W x + U h) and n = tanh(W x + r (U h + b)): h <- (1 - z) n + z h, where h is 0
    if `first`. All steps' W x are one product, and a step's U h another: flax's cell, which these
    equations are those of, makes six products a step.

    Reference: Cho et al. (2014), arXiv:1406.1078.
    """

    size: int

    @nn.compact
    def __call__(self, x: jax.Array, first: jax.Array, memory: jax.Array) -> jax.Array:
        from_input = nn.Dense(_NUM_GATES * self.size, kernel_init=_gates)(x)
        kernel = self.param("kernel", _gates, (self.size, _NUM_GATES * self.size))
        bias = self.param("bias", nn.initializers.zeros, (self.size,))

        def step(h: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            inputs, first = now
            h = jnp.where(first[:, None], 0.0, h)
            r, z, n = jnp.split(inputs, _NUM_GATES, axis=-1)
            of_r, of_z, of_n = jnp.split(h @ kernel, _NUM_GATES, axis=-1)
            r, z = nn.sigmoid(r + of_r), nn.sigmoid(z + of_z)
            h = (1.0 - z) * nn.tanh(n + r * (of_n + bias[None])) + z * h
            return h, h

        return jax.lax.scan(step, memory, (from_input, first))[1]


class Outputs(NamedTuple):
    """`logits` `[T, N, A]`, `value` `[T, N, value_heads]`, and the `memory` `[T, N, size]`."""

    logits: jax.Array
    value: jax.Array
    memory: jax.Array


class RecurrentActorCritic(nn.Module):
    """Torso, memory, heads: actor and critic share the first two, and have a layer each.

    What an agent is told beside its observation goes into the memory with the torso's features.
    """

    space: Space
    num_actions: int
    value_heads: int = 1
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = "tanh"
    memory_size: int = 64

    def setup(self) -> None:
        self.encoder, self.cnn = torso_of(self.torso, self.space, self.symbols)
        self.body = MLP(self.hidden_sizes[:-1] or self.hidden_sizes, self.activation)
        self.memory = GRU(self.memory_size)
        self.actor = MLP(self.hidden_sizes[-1:], self.activation)
        self.critic = MLP(self.hidden_sizes[-1:], self.activation)
        self.logits = dense(self.num_actions, 0.01)
        self.values = dense(self.value_heads, 1.0)

    def __call__(
        self, obs: PyTree, told: jax.Array, first: jax.Array, memory: jax.Array
    ) -> Outputs:
        """Goes through T steps of N envs.

        Args:
            obs: leaves `[T, N, ...]`.
            told: float32 `[T, N, D]`, D may be 0.
            first: bool `[T, N]`.
            memory: `[N, memory_size]`, from before the first step.
        """
        x = self.encoder(obs)
        x = self.body(x if self.cnn is None else self.cnn(x))
        memory = self.memory(jnp.concatenate([x, told], axis=-1), first, memory)
        return Outputs(self.logits(self.actor(memory)), self.values(self.critic(memory)), memory)

    @property
    def cpu_rows(self) -> int:
        """Rows whose activations stay in the cache of a core."""
        return cpu_rows(self.torso, self.space)


class RecurrentQNetwork(nn.Module):
    """Torso, memory, a dense layer, values: `[T, N, A]`, and the memory `[T, N, size]`.

    With `layer_norm`, what a layer gives, the torso and the memory too, is normalised.
    """

    space: Space
    num_actions: int
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    memory_size: int = 64

    @nn.compact
    def __call__(
        self, obs: PyTree, told: jax.Array, first: jax.Array, memory: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Goes through T steps of N envs; the arguments are those of `RecurrentActorCritic`."""
        encoder, cnn = torso_of(self.torso, self.space, self.symbols)
        x = encoder(obs)
        x = x if cnn is None else cnn(x)
        for size in self.hidden_sizes[:-1] or self.hidden_sizes:
            x = activate(self.activation, self._normal(dense(size)(x)))
        memory = GRU(self.memory_size)(jnp.concatenate([x, told], axis=-1), first, memory)
        x = dense(self.hidden_sizes[-1])(self._normal(memory))
        x = activate(self.activation, self._normal(x))
        return dense(self.num_actions, 1.0)(x), memory

    def _normal(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm()(x) if self.layer_norm else x

    @property
    def cpu_rows(self) -> int:
        """Rows whose activations stay in the cache of a core."""
        return cpu_rows(self.torso, self.space)


def init_recurrent(network: Any, key: Key, told: jax.Array) -> PyTree:
    """Parameters of a network of this file that is told `[1, D]` beside its observation."""
    key_params, key_obs = jax.random.split(key)
    obs = jax.tree.map(lambda x: x[None], network.space.sample(key_obs))
    memory = jnp.zeros((1, network.memory_size))
    return network.init(key_params, *lead((obs, told, jnp.ones(1, bool))), memory)


def told_last(
    action: jax.Array | None, reward: jax.Array | None, first: jax.Array, num_actions: int
) -> jax.Array:
    """The last action, one-hot, and its reward as inputs `[..., D]`, 0 where `first` holds.

    Args:
        action: int32 `[...]`, or None if it is not told.
        reward: `[...]`, or None.
        first: bool `[...]`.
        num_actions: A.
    """
    told = [jnp.zeros((*first.shape, 0))]
    if action is not None:
        told.append(jax.nn.one_hot(action, num_actions))
    if reward is not None:
        told.append(reward[..., None])
    return jnp.where(first[..., None], 0.0, jnp.concatenate(told, axis=-1))


def after(first: jax.Array, steps: jax.Array) -> jax.Array:
    """What was there one step before, `[T, N]`: `first` `[N]`, then all but the last of `steps`."""
    return jnp.concatenate([first[None], steps[:-1]])


def swapped(tree: PyTree) -> PyTree:
    """Leaves `[T, N, ...]` as `[N, T, ...]`, and back."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)


def lead(tree: PyTree) -> PyTree:
    """One step as a rollout of length 1."""
    return jax.tree.map(lambda x: x[None], tree)
