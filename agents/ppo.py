"""Proximal policy optimisation, feed-forward."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.agents.networks import (
    Activation,
    ActorCritic,
    Symbols,
    Torso,
    init_params,
    resolve_torso,
)
from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, Policy, PyTree, RunSpec, Trajectory
from xplore.parts import policy_gradient as pg
from xplore.parts.fitting import flatten_rollout
from xplore.parts.minibatch import mean_gradient, shuffled_index
from xplore.parts.returns import successor_values


class Extras(NamedTuple):
    """What acting leaves for learning: `log_prob` `[N]`, `value` `[N, value_heads]`."""

    log_prob: jax.Array
    value: jax.Array


@register_agent("ppo")
@final
@component
class PPO:
    """Clipped-surrogate actor-critic on the sum of extrinsic and intrinsic reward.

    Maximises E[min(rho A, clip(rho, 1-eps, 1+eps) A)] + entropy bonus - value loss, with advantages
    normalised per minibatch and a time limit bootstrapped from the true successor.

    With `value_heads=2` the intrinsic stream has a value head, a discount and a horizon of its own:
    A = extrinsic_coefficient A_ext + A_int, as in RND. Its size comes from the bonus.

    Attributes:
        discount, trace: gamma and lambda of generalised advantage estimation.
        value_heads: 1 (sum of the rewards) or 2.
        intrinsic_discount, intrinsic_episodic: of the second head.
        extrinsic_coefficient: weight of the extrinsic reward (one head) or advantage (two heads).
        max_grad_norm: global-norm clip; 0 for none.
        anneal_steps: env steps over which the learning rate falls linearly to 0; 0: it is constant.
        torso: "mlp", "cnn", "impala", "auto" by the shape of the observation, or a flax module.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        deterministic: act with the most likely action.

    Reference: Schulman et al. (2017), arXiv:1707.06347; two heads: Burda et al. (2019),
    arXiv:1810.12894.
    Deviations from the paper: value clipping is off by default. With a non-episodic intrinsic head
    the last step of a rollout bootstraps from its true successor even if the episode ended there.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    entropy_coefficient: float = 0.005
    value_coefficient: float = 0.5
    max_grad_norm: float = 0.5
    adam_epsilon: float = 1e-5
    num_epochs: int = 4
    num_minibatches: int = 8
    clip_value: bool = False
    anneal_steps: int = 0
    value_heads: int = 1
    intrinsic_discount: float = 0.99
    intrinsic_episodic: bool = False
    extrinsic_coefficient: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    deterministic: bool = False

    def __post_init__(self) -> None:
        pg.check_options("ppo", self)

    def init(self, key: Key, spec: RunSpec) -> pg.LearnerState:
        actions = pg.check_run("ppo", self, spec)
        resolve_torso(self.torso, spec.env.observation)
        network = ActorCritic(
            space=spec.env.observation,
            num_actions=actions.num,
            value_heads=self.value_heads,
            torso=self.torso,
            symbols=self.symbols,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
        )
        params = init_params(network, key, spec.env.observation)
        opt_state = pg.optimizer_of(self, 0).init(params)
        return pg.LearnerState(params, opt_state, jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: pg.LearnerState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, Extras]:
        logits, value = state.network.apply(state.params, obs)
        action, log_prob = pg.choose(key, logits, deterministic=self.deterministic)
        return carry, action, Extras(log_prob, value)

    def update(
        self, key: Key, state: pg.LearnerState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[pg.LearnerState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        kept: Extras = traj.extras
        successor = self._successor_values(state, traj, kept.value)
        advantage, target = pg.advantages(self, traj, r_int, kept.value, successor)
        taken = pg.Taken(traj.action, kept.log_prob, kept.value, target)
        samples, advantage = flatten_rollout(((traj.obs, taken), advantage))

        def loss(params: PyTree, rows: tuple[Any, jax.Array]) -> tuple[jax.Array, Metrics]:
            (obs, taken), advantage = rows
            logits, value = state.network.apply(params, obs)
            return pg.clipped_loss(self, logits, value, taken, advantage)

        def gradient(params: PyTree, index: jax.Array) -> tuple[PyTree, Metrics]:
            scaled = pg.standardised(advantage[index])
            rows = state.network.cpu_rows
            return mean_gradient(loss, params, samples, index, scaled, cpu_rows=rows)

        def order(key: Key) -> jax.Array:
            return shuffled_index(key, num_steps, num_envs)

        return pg.descend(key, self, state, order, gradient, num_steps * num_envs)

    def greedy(self) -> PPO:
        return replace(self, deterministic=True)

    def policy(self, state: pg.LearnerState) -> Policy:
        return pg.policy_of(state)

    @staticmethod
    def _successor_values(state: pg.LearnerState, traj: Trajectory, value: jax.Array) -> jax.Array:
        def value_of(obs: PyTree) -> jax.Array:
            values: jax.Array = state.network.apply(state.params, obs, method="value")
            return values

        return successor_values(value_of, value, traj.next_obs, traj.truncated)
