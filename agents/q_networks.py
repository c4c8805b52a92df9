"""Networks of agents that learn the values of actions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from xplore.agents.networks import (
    Activation,
    Symbols,
    Torso,
    activate,
    cpu_rows,
    dense,
    init_params,
    resolve_torso,
    torso_of,
)
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, Space
from xplore.contracts.types import EnvSpec, Key, PyTree


class NoisyDense(nn.Module):
    """A dense layer whose weights are Gaussian: `y = (W + S (e_out e_in^T)) x + b + s e_out`.

    The noise is factorised, e = sgn(z) sqrt|z| with z ~ N(0, 1), from the stream "noise", and each
    row of a batch has its own. Without `noise` the means act alone.

    Reference: Fortunato et al. (2018), Noisy networks for exploration, arXiv:1706.10295.
    Deviations from the paper: one draw for each row, in place of each batch; W starts orthogonal.
    """

    size: int
    scale: float = math.sqrt(2.0)
    spread: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array, noise: bool) -> jax.Array:
        mean = dense(self.size, self.scale)(x)
        spread = nn.initializers.constant(self.spread / math.sqrt(x.shape[-1]))
        kernel = self.param("noise_kernel", spread, (x.shape[-1], self.size))
        bias = self.param("noise_bias", spread, (self.size,))
        if not noise:
            return mean
        key_in, key_out = jax.random.split(self.make_rng("noise"))
        e_in = _signed_root(jax.random.normal(key_in, x.shape))
        e_out = _signed_root(jax.random.normal(key_out, mean.shape))
        return mean + ((x * e_in) @ kernel + jnp.broadcast_to(bias, mean.shape)) * e_out


def _signed_root(z: jax.Array) -> jax.Array:
    return jnp.sign(z) * jnp.sqrt(jnp.abs(z))


class QNetwork(nn.Module):
    """Values of actions: `obs [B, ...] -> [B, A]`, or `[B, A, M]` with M > 1 numbers for each.

    With `layer_norm`, what a layer gives is normalised before the activation. With `noisy`, the
    dense layers are `NoisyDense`, and `noise` draws from the stream "noise".
    """

    space: Space
    num_actions: int
    num_numbers: int = 1
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = False
    noisy: bool = False

    @nn.compact
    def __call__(self, obs: PyTree, noise: bool = False) -> jax.Array:
        encoder, cnn = torso_of(self.torso, self.space, self.symbols, self.layer_norm)
        x = encoder(obs)
        x = x if cnn is None else cnn(x)
        sizes = tuple(self.hidden_sizes if cnn is None else self.hidden_sizes[-1:])
        for size in sizes:
            x = NoisyDense(size)(x, noise) if self.noisy else dense(size)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = activate(self.activation, x)
        size = self.num_actions * self.num_numbers
        x = NoisyDense(size, 1.0)(x, noise) if self.noisy else dense(size, 1.0)(x)
        if self.num_numbers == 1:
            return x
        return x.reshape(*x.shape[:-1], self.num_actions, self.num_numbers)

    @property
    def cpu_rows(self) -> int:
        """Rows whose activations stay in the cache of a core."""
        return cpu_rows(self.torso, self.space)


class QOptions(Protocol):
    """What an agent with a `QNetwork` has as fields."""

    @property
    def torso(self) -> Torso: ...
    @property
    def symbols(self) -> Symbols: ...
    @property
    def hidden_sizes(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def layer_norm(self) -> bool: ...


def make_q_network(
    agent: str, options: QOptions, env: EnvSpec, *, noisy: bool = False, num_numbers: int = 1
) -> QNetwork:
    """The network of an agent, named by its id, for an environment.

    Raises:
        ConfigError: the actions are not discrete, or the torso does not fit the observation.
    """
    actions = check_q_run(agent, options.torso, env)
    return QNetwork(
        space=env.observation,
        num_actions=actions.num,
        num_numbers=num_numbers,
        torso=options.torso,
        symbols=options.symbols,
        hidden_sizes=options.hidden_sizes,
        activation=options.activation,
        layer_norm=options.layer_norm,
        noisy=noisy,
    )


def init_heads(network: QNetwork, num_heads: int, key: Key, space: Space) -> PyTree:
    """Parameters of K networks, each drawn by itself, leaves `[K, ...]`."""
    keys = jax.random.split(key, num_heads)
    return jax.vmap(lambda k: init_params(network, k, space))(keys)


def of_heads(network: QNetwork, params: PyTree, obs: PyTree, *, sets: bool = False) -> jax.Array:
    """What K networks say, `[K, B, A]` or `[K, B, A, M]`.

    Args:
        network: of one.
        params: leaves `[K, ...]`.
        obs: leaves `[B, ...]`; with `sets` `[K, B, ...]`, of each network its own.
        sets: see `obs`.
    """
    said: Any = jax.vmap(network.apply, in_axes=(0, 0 if sets else None))(params, obs)
    return said


def check_q_run(agent: str, torso: Torso, env: EnvSpec) -> Discrete:
    """The actions of an environment, for an agent with a value for each.

    Raises:
        ConfigError: they are not discrete, or the torso does not fit the observation.
    """
    if not isinstance(env.action, Discrete):
        raise ConfigError(
            f"{agent} has a value for each action; {env.name} has {env.action}: choose an"
            " environment with discrete actions"
        )
    resolve_torso(torso, env.observation)
    return env.action
