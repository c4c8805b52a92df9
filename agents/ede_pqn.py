"""EDE without a replay: PQN's targets, an ensemble of return distributions, and its ignorance."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.pqn import pqn_optimizer
from xplore.agents.q_networks import QNetwork, init_heads, make_q_network, of_heads
from xplore.contracts.component import component, later, replace
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EDEPQNState:
    """What K heads learned, leaves `[K, ...]`; the network itself is static.

    `prior_params` `[K, ...]` never change, and are `()` without priors.
    """

    params: PyTree
    opt_state: PyTree
    prior_params: PyTree
    env_steps: jax.Array
    network: QNetwork = dataclasses.field(metadata={"static": True})


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
    the same steps, in orders of their own; they differ by where they started, by what they
    bootstrap from, and by their priors if they have them.

    Attributes:
        discount, trace: gamma and lambda.
        num_heads, num_quantiles: K and M.
        ucb_coefficient, ucb_base, ucb_power: phi_i = ucb_coefficient ucb_base^(1 + ucb_power i /
            (N - 1)).
        acting: "ucb", as above, "thompson" or "ids"; what they are is said in
            `xplore.parts.quantiles`.
        prior_scale: of random functions that are never learned, one for each head, which it adds to
            its quantiles and learns on top of, as in `xplore.agents.ede.EDE`; 0 for none.
        max_grad_norm: global-norm clip, over all heads; 0 for none.
        anneal_steps: env steps over which the learning rate falls linearly to 0; 0: it is constant.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        torso, symbols, layer_norm: as in PQN.
        deterministic: act on the mean alone.

    Reference: Jiang et al. (2023), arXiv:2306.05483; learning: Gallici et al. (2025),
    arXiv:2407.04811; priors: Osband et al. (2018), arXiv:1806.03335.
    Deviations from the papers: together they are in none; heads are whole networks.
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
    prior_scale: float = later(default=0.0, static=True)
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

    def init(self, key: Key, spec: RunSpec) -> EDEPQNState:
        check_minibatches("ede_pqn", spec.num_envs, self.num_minibatches)
        network = make_q_network("ede_pqn", self, spec.env, num_numbers=self.num_quantiles)
        params = init_heads(network, self.num_heads, key, spec.env.observation)
        prior_params: PyTree = ()
        if self.prior_scale:  # from a stream that no head is drawn from
            key_prior, prior = jax.random.fold_in(key, self.num_heads), network.clone(num_numbers=1)
            prior_params = init_heads(prior, self.num_heads, key_prior, spec.env.observation)
        opt_state = pqn_optimizer(self, 0).init(params)
        return EDEPQNState(params, opt_state, prior_params, jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: EDEPQNState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, Extras]:
        quantiles = self._quantiles(state, obs)
        believed = beliefs(quantiles)
        score = believed.mean
        if not self.deterministic:
            phi = self.ucb_coefficient * ladder(self.ucb_base, self.ucb_power, first.shape[0])
            score = scores(key, self.acting, believed, phi)
        action = jnp.argmax(score, axis=-1).astype(jnp.int32)
        return carry, action, Extras(_of_the_best(quantiles))

    def update(
        self, key: Key, state: EDEPQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[EDEPQNState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        samples = flatten_rollout((traj.obs, traj.action))
        # [T*N, K, M] -> [K, T*N, M]
        target = jnp.swapaxes(flatten_rollout(self._targets(state, traj, r_int)), 0, 1)
        prior = None
        if self.prior_scale:  # what is learned is what the priors leave
            prior = take_quantiles(self._prior(state, samples[0]), samples[1])
            target = target - jnp.broadcast_to(prior, target.shape)
        optimizer, network = pqn_optimizer(self, state.env_steps), state.network

        def loss(params: PyTree, rows: tuple[PyTree, jax.Array]) -> tuple[jax.Array, Metrics]:
            (obs, action), target = rows
            quantiles: Any = network.apply(params, obs)
            done = take_quantiles(quantiles, action)
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
        metrics = jax.tree.map(jnp.mean, metrics)
        if prior is not None:
            metrics["value"] = metrics["value"] + jnp.mean(prior)
        steps = state.env_steps + num_steps * num_envs
        return EDEPQNState(params, opt_state, state.prior_params, steps, network), metrics

    def greedy(self) -> EDEPQN:
        return replace(self, deterministic=True)

    def _targets(self, state: EDEPQNState, traj: Trajectory, r_int: jax.Array) -> jax.Array:
        """Returns `[T, N, K, M]`."""
        value = traj.extras.value
        following = successor_values(
            lambda obs: _of_the_best(self._quantiles(state, obs)),
            value,
            traj.next_obs,
            traj.truncated,
        )
        reward = traj.reward + self.intrinsic_weight * r_int
        return lambda_returns(
            reward, value, following, traj.terminated, traj.truncated,
            discount=self.discount, trace=self.trace,
        )  # fmt: skip

    def _prior(self, state: EDEPQNState, obs: PyTree) -> jax.Array:
        """What the priors add to every quantile, `[K, B, A, 1]`."""
        prior = of_heads(state.network.clone(num_numbers=1), state.prior_params, obs)
        return self.prior_scale * prior[..., None]

    def _quantiles(self, state: EDEPQNState, obs: PyTree) -> jax.Array:
        """What all heads say, `[K, B, A, M]`."""
        quantiles = of_heads(state.network, state.params, obs)
        if not self.prior_scale:
            return quantiles
        return quantiles + jnp.broadcast_to(self._prior(state, obs), quantiles.shape)


def _of_the_best(quantiles: jax.Array) -> jax.Array:
    """Those of each head's own best action, `[B, K, M]`, of `[K, B, A, M]`."""
    best = jnp.argmax(jnp.mean(quantiles, axis=-1), axis=-1)
    return jnp.swapaxes(take_quantiles(quantiles, best), 0, 1)
