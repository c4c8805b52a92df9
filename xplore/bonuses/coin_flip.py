"""Coin-flip network: the mean of n fair coins has variance 1/n, and a network can learn means."""

from __future__ import annotations

import dataclasses
import math
from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Scale
from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.spaces import shape_dtype
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.predictors import MLP, Inputs

_STORED_AT_MOST = 16  # one rollout takes at most this part of the replay


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CoinFlipState:
    """Networks, and the last visits with their coins.

    Attributes:
        inputs: how observations are seen.
        prior: `(w [D, d], b [d])`, fixed.
        fitted: the network that learns, and its optimiser.
        obs: observations `[M, ...]`.
        coins: int8 `[M, d]`, -1 or 1.
        stored: int32 `[]`, visits stored so far, modulo M once there were M (then M to 2M - 1).
    """

    inputs: InputState
    prior: tuple[jax.Array, jax.Array]
    fitted: Fitted
    obs: PyTree
    coins: jax.Array
    stored: jax.Array


@final
@component
class CoinFlip:
    """`r = sqrt(mean_i f(s')_i^2)`, about `1 / sqrt(N(s'))`.

    Each visit that is stored gets `num_coins` coins of its own, once, and f is fitted to the coins
    of all that is stored. At a state with n visits the best f is the mean of their coins, the mean
    square of which is 1/n. `f = prior + network`, `prior_i(x) = sqrt(2) cos(w_i x + b_i)` has mean
    square 1 everywhere and the network starts at 0: what was never visited has N = 1.

    Of each rollout `update_fraction` is stored, at most a 16th of `replay_size`, and the last
    `replay_size` visits stay: N is a count among those, and what was not visited for long is new
    again.
    """

    num_coins: int = 20
    hidden_size: int = 64
    learning_rate: float = 1e-3
    update_fraction: float = static(default=0.25)
    num_minibatches: int = 8
    replay_size: int = 1 << 14
    inputs: Inputs = "codes"

    def __post_init__(self) -> None:
        if not 0 < self.update_fraction <= 1:
            raise ConfigError(
                f"coin_flip(update_fraction={self.update_fraction}): must be in (0, 1]"
            )
        for name in ("num_coins", "hidden_size", "num_minibatches", "replay_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"coin_flip({name}={getattr(self, name)}): must be at least 1")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        k_inputs, k_w, k_b, k_network = jax.random.split(key, 4)
        inputs = init_inputs(k_inputs, spec.env.observation, self.inputs)
        size = num_inputs(inputs)
        params = self._network().init(k_network, jnp.zeros(size))
        # Nothing of its own at first, so that what it has not learned has the prior's size.
        params["params"]["Dense_1"] = jax.tree.map(jnp.zeros_like, params["params"]["Dense_1"])
        w = jax.random.normal(k_w, (size, self.num_coins)) / math.sqrt(size)
        b = jax.random.uniform(k_b, (self.num_coins,), maxval=2 * math.pi)
        return CoinFlipState(
            inputs=inputs,
            prior=(w, b),
            fitted=init_fitted(params, self.learning_rate),
            obs=jax.tree.map(
                lambda x: jnp.zeros((self.replay_size, *x.shape), x.dtype),
                shape_dtype(spec.env.observation),
            ),
            coins=jnp.zeros((self.replay_size, self.num_coins), jnp.int8),
            stored=jnp.int32(0),
        )

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state = dataclasses.replace(state, inputs=observe_inputs(state.inputs, traj.next_obs))
        numbers = num_inputs(state.inputs) + self.hidden_size

        def size(obs: PyTree) -> jax.Array:
            mean = self._mean(state, state.fitted.params, obs)
            return jnp.sqrt(jnp.mean(jnp.square(mean), axis=-1))

        return state, map_time(size, traj.next_obs, numbers)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Stores and learns; `coin_loss` is 1 less what f explains, about `1 - mean 1/N`."""
        key_store, key_fit = jax.random.split(key)
        return self._learn(key_fit, self._store(key_store, state, traj), traj)

    def _learn(
        self, key: Key, state: CoinFlipState, traj: Trajectory
    ) -> tuple[CoinFlipState, Metrics]:
        def loss(params: PyTree, rows: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            obs, coins = rows
            error = self._mean(state, params, obs) - coins.astype(jnp.float32)
            total = jnp.mean(jnp.square(error))
            return total, {"coin_loss": total}

        fitted, metrics = fit(
            key,
            state.fitted,
            loss,
            (state.obs, state.coins),
            learning_rate=self.learning_rate,
            fraction=traj.first.size * self.update_fraction / self.replay_size,
            num_minibatches=self.num_minibatches,
            num_filled=jnp.minimum(state.stored, self.replay_size),
        )
        return dataclasses.replace(state, fitted=fitted), metrics

    def _store(self, key: Key, state: CoinFlipState, traj: Trajectory) -> CoinFlipState:
        key_rows, key_coins = jax.random.split(key)
        size, num_steps = self.replay_size, traj.first.size
        most = max(1, size // _STORED_AT_MOST)
        num = min(max(1, round(num_steps * self.update_fraction)), most)
        rows = jax.random.permutation(key_rows, num_steps)[:num]
        coins = jax.random.rademacher(key_coins, (num, self.num_coins), jnp.int8)
        place = (state.stored + jnp.arange(num)) % size
        new = jax.tree.map(lambda x: x[rows], flatten_rollout(traj.next_obs))
        put = jax.tree.map(
            lambda old, x: old.at[place].set(x, unique_indices=True),
            (state.obs, state.coins),
            (new, coins),
        )
        stored = state.stored + num
        stored = jnp.where(stored >= 2 * size, stored - size, stored)
        return dataclasses.replace(state, obs=put[0], coins=put[1], stored=stored)

    def _mean(self, state: CoinFlipState, params: PyTree, obs: PyTree) -> jax.Array:
        x = inputs_of(state.inputs, obs)
        w, b = state.prior
        learned: jax.Array = self._network().apply(params, x)  # type: ignore[assignment]
        phase = x @ w
        return learned + math.sqrt(2.0) * jnp.cos(phase + jnp.expand_dims(b, range(phase.ndim - 1)))

    def _network(self) -> MLP:
        return MLP((self.hidden_size, self.num_coins))


@register_bonus("coin_flip")
def coin_flip(
    coefficient: float = 0.1,
    num_coins: int = 20,
    hidden_size: int = 64,
    learning_rate: float = 1e-3,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    replay_size: int = 1 << 14,
    inputs: Inputs = "codes",
) -> Scale:
    """Coin-flip network: `r = coefficient * sqrt(mean_i f(s')_i^2)`, about `1 / sqrt(N(s'))`.

    Args:
        coefficient: about the bonus of a first visit.
        num_coins: per visit; more of them make the count less noisy.
        hidden_size: width of the network.
        learning_rate: of its Adam.
        update_fraction: part of each rollout that is stored, and the size of what is learned from.
        num_minibatches: gradient steps per rollout.
        replay_size: visits that are kept with their coins.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Lobel, Bagaria and Konidaris (2023), Flipping coins to estimate pseudocounts for
    exploration in reinforcement learning, arXiv:2306.03186.

    Deviations from the paper: the prior is of cosines, whose size needs no running statistics; a
    small replay, drawn from uniformly, not by novelty.
    """
    core = CoinFlip(
        num_coins, hidden_size, learning_rate, update_fraction, num_minibatches, replay_size, inputs
    )
    return Scale(core, coefficient)
