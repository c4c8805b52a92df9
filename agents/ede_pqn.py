"""EDE without a replay: PQN's targets, an ensemble of return distributions, and its ignorance."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso, init_params
from xplore.agents.pqn import PQNState, pqn_optimizer
from xplore.agents.q_networks import make_q_network
from xplore.contracts.component import component, replace
from xplore.contracts.errors import check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.exploration import ladder
from xplore.parts.fitting import flatten_rollout
from xplore.parts.minibatch import check_minibatches, mean_gradient, shuffled_index
from xplore.parts.quantiles import (
    Acting,
    beliefs,
    check_acting,
    quantile_loss,
    scores,
    take_quantiles,
)
from xplore.parts.returns import lambda_returns, successor_values


class Extras(NamedTuple):
    """What acting leaves for learning: `value` `[N, K, M]`, of each head's own best action."""

    value: jax.Array


@register_agent("ede_pqn")
@final
@component
class EDEPQN:
    """argmax_a mean(s, a) + phi_i sigma(s, a), as `xplore.agents.ede.EDE`, learned from rollouts.

    Each of K heads fits M quantiles to the lambda-returns of its own best actions, as
    `xplore.agents.pqn.PQN` does with quantiles: no replay, no target network. All heads learn from
    the same steps, in orders of their own; they differ by where they started and by what they
    bootstrap from.

    Attributes:
        discount, trace: gamma and lambda.
        num_heads, num_quantiles: K and M.
        ucb_coefficient, ucb_base, ucb_power: phi_i = ucb_coefficient ucb_base^(1 + ucb_power i /
            (N - 1)).
        acting: "ucb", as above, "thompson" or "ids"; what they are is said in
            `xplore.parts.quantiles`.
        max_grad_norm: global-norm clip, over all heads; 0 for none.
        anneal_steps: env steps over which the learning rate falls linearly to 0; 0: it is constant.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        torso, symbols, layer_norm: as in PQN.
        deterministic: act on the mean alone.

    Reference: Jiang et al. (2023), arXiv:2306.05483; learning: Gallici et al. (2025),
    arXiv:2407.04811.
    Deviations from the papers: together they are in neither; heads are whole networks.
    """

    learning_rate: float = 5e-4
    discount: float = 0.99
    trace: float = 0.65
    num_heads: int = 5
    num_quantiles: int = 16
    ucb_coefficient: float = 30.0
    ucb_base: float = 0.6
    ucb_power: float = 7.0
    acting: Acting = "ucb"
    max_grad_norm: float = 10.0
    num_epochs: int = 4
    num_minibatches: int = 8
    anneal_steps: int = 0
    intrinsic_weight: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_acting("ede_pqn", self.acting)
        check_least("ede_pqn", self, num_heads=2, num_quantiles=2, num_epochs=1, num_minibatches=1)

    def init(self, key: Key, spec: RunSpec) -> PQNState:
        check_minibatches("ede_pqn", spec.num_envs, self.num_minibatches)
        network = make_q_network("ede_pqn", self, spec.env, num_numbers=self.num_quantiles)
        keys = jax.random.split(key, self.num_heads)
        params = jax.vmap(lambda k: init_params(network, k, spec.env.observation))(keys)
        return PQNState(params, pqn_optimizer(self, 0).init(params), jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: PQNState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, Extras]:
        quantiles = _quantiles(state, obs)
        believed = beliefs(quantiles)
        score = believed.mean
        if not self.deterministic:
            phi = self.ucb_coefficient * ladder(self.ucb_base, self.ucb_power, first.shape[0])
            score = scores(key, self.acting, believed, phi)
        action = jnp.argmax(score, axis=-1).astype(jnp.int32)
        return carry, action, Extras(_of_the_best(quantiles))

    def update(
        self, key: Key, state: PQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PQNState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        samples = flatten_rollout((traj.obs, traj.action))
        # [T*N, K, M] -> [K, T*N, M]
        target = jnp.swapaxes(flatten_rollout(self._targets(state, traj, r_int)), 0, 1)
        optimizer, network = pqn_optimizer(self, state.env_steps), state.network

        def loss(params: PyTree, rows: tuple[PyTree, jax.Array]) -> tuple[jax.Array, Metrics]:
            (obs, action), target = rows
            done = take_quantiles(network.apply(params, obs), action)
            value = jnp.mean(quantile_loss(done, target))
            return value, {"loss": value, "value": jnp.mean(done)}

        def of_head(params: PyTree, target: jax.Array, index: jax.Array) -> tuple[PyTree, Metrics]:
            return mean_gradient(
                loss, params, samples, index, target[index], cpu_rows=network.cpu_rows
            )

        def minibatch(
            learned: tuple[PyTree, PyTree], index: jax.Array
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = learned
            gradient, metrics = jax.vmap(of_head)(params, target, index)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(
            learned: tuple[PyTree, PyTree], key: Key
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            keys = jax.random.split(key, self.num_heads)
            orders = jax.vmap(lambda k: shuffled_index(k, num_steps, num_envs))(keys)
            orders = orders.reshape(self.num_heads, self.num_minibatches, -1)
            return jax.lax.scan(minibatch, learned, jnp.swapaxes(orders, 0, 1))

        keys = jax.random.split(key, self.num_epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        steps = state.env_steps + num_steps * num_envs
        return PQNState(params, opt_state, steps, network), jax.tree.map(jnp.mean, metrics)

    def greedy(self) -> EDEPQN:
        return replace(self, deterministic=True)

    def _targets(self, state: PQNState, traj: Trajectory, r_int: jax.Array) -> jax.Array:
        """Returns `[T, N, K, M]`."""
        value = traj.extras.value
        following = successor_values(
            lambda obs: _of_the_best(_quantiles(state, obs)), value, traj.next_obs, traj.truncated
        )
        reward = traj.reward + self.intrinsic_weight * r_int
        return lambda_returns(
            reward, value, following, traj.terminated, traj.truncated,
            discount=self.discount, trace=self.trace,
        )  # fmt: skip


def _quantiles(state: PQNState, obs: PyTree) -> jax.Array:
    """What all heads say, `[K, B, A, M]`."""
    heads: Any = jax.vmap(state.network.apply, in_axes=(0, None))
    quantiles: jax.Array = heads(state.params, obs)
    return quantiles


def _of_the_best(quantiles: jax.Array) -> jax.Array:
    """Those of each head's own best action, `[B, K, M]`, of `[K, B, A, M]`."""
    best = jnp.argmax(jnp.mean(quantiles, axis=-1), axis=-1)
    return jnp.swapaxes(take_quantiles(quantiles, best), 0, 1)
