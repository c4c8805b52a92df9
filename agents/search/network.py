"""The network of a tree search: what a state is worth, and what is likely to be done there."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from xplore.agents.networks import MLP, Activation, Symbols, Torso, dense, torso_of
from xplore.contracts.spaces import Space
from xplore.contracts.types import PyTree


class Foreseen(NamedTuple):
    """What is said of latent states `[B, D]`.

    Attributes:
        logits: `[B, A]`, of the search's policy.
        value: `[B, 2]`, of the rewards of the task, and of those for exploring.
        novelty: `[B, A, 2]`, of each action 1 / sqrt(1 + its visits), and the probability that
            there are none; 0 where there is no model to need it.
    """

    logits: jax.Array
    value: jax.Array
    novelty: jax.Array


class SearchNetwork(nn.Module):
    """Observations to latent states `[B, D]`; those to values; and, as a `model`, to others.

    A latent state has mean 0 and variance 1 over its D numbers. Each action has a first layer of
    its own in the model, so that what one was seen to do says little of the others.
    """

    space: Space
    num_actions: int
    model: bool
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64,)
    latent_size: int = 64
    activation: Activation = "relu"

    def setup(self) -> None:
        self.encoder, self.cnn = torso_of(self.torso, self.space, self.symbols)
        sizes = self.hidden_sizes if self.cnn is None else self.hidden_sizes[-1:]
        self.trunk = MLP(sizes, self.activation)
        self.latent = _unlike(self.latent_size, 1.0)
        self.heads = MLP(self.hidden_sizes[-1:], self.activation)
        self.logits = dense(self.num_actions, 0.01)
        self.values = dense(2, 0.01)
        if self.model:
            size = self.hidden_sizes[-1]
            self.acted = _unlike(self.num_actions * size, 2.0**0.5)
            self.after = dense(self.latent_size, 1.0)
            self.rewards = dense(2, 0.01)
            self.new = MLP(self.hidden_sizes[-1:], self.activation)
            self.novelty = dense(self.num_actions * 2, 0.01)

    def represent(self, obs: PyTree) -> jax.Array:
        x = self.encoder(obs)
        x = x if self.cnn is None else self.cnn(x)
        return _standard(self.latent(self.trunk(x)))

    def foresee(self, latent: jax.Array) -> Foreseen:
        x = self.heads(latent)
        logits = self.logits(x)
        novelty = jnp.zeros((*logits.shape, 2))
        if self.model:
            # Near 1 before anything is known.
            novelty = nn.sigmoid(self.novelty(self.new(latent)) + 2.0).reshape(novelty.shape)
        return Foreseen(logits, self.values(x), novelty)

    def imagine(self, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The latent state after an action, and its two rewards `[B, 2]`."""
        x = self.acted(latent).reshape(*latent.shape[:-1], self.num_actions, -1)
        x = nn.relu(jnp.take_along_axis(x, action[..., None, None], axis=-2)[..., 0, :])
        return _standard(self.after(x)), self.rewards(x)

    def __call__(self, obs: PyTree, action: jax.Array) -> PyTree:
        """Uses all there is, which makes the parameters."""
        latent = self.represent(obs)
        return self.foresee(latent), self.imagine(latent, action) if self.model else ()


def _unlike(size: int, scale: float) -> nn.Dense:
    """A layer whose biases differ: of an observation of zeros nothing could be learned else."""
    return nn.Dense(
        size,
        kernel_init=nn.initializers.orthogonal(scale),
        bias_init=nn.initializers.normal(0.1),
    )


def _standard(x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.var(x, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5)
