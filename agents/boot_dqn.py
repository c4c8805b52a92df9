"""Bootstrapped DQN with randomised prior functions: an ensemble that disagrees where it must."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.q_networks import QNetwork, init_heads, make_q_network, of_heads
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.replay import (
    Learned,
    Replay,
    Transition,
    check_replay,
    descend,
    n_step_transitions,
    unlearned,
)
from xplore.parts.returns import take_values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BootDQNState:
    """What was learned, `[K, ...]`, and from what; `prior_params` `[K, ...]` never change."""

    learned: Learned
    prior_params: PyTree
    replay: PyTree
    env_steps: jax.Array
    network: QNetwork = dataclasses.field(metadata={"static": True})


@register_agent("boot_dqn")
@final
@component
class BootDQN:
    """K networks, each with a target of its own; one of them, drawn anew, acts through an episode.

    Q_k(s, a) = f_k(s, a) + prior_scale p_k(s, a), where p_k is a network that stays as it was
    drawn. f_k is fitted to r + gamma max_a' Q'_k(s', a') - prior_scale p_k(s, a), in which Q'_k has
    an older f_k and the same p_k. A transition is learned from by head k with probability
    `mask_probability`, decided when it is stored.

    `greedy()` takes the action that most heads are for.

    Attributes:
        discount: gamma.
        num_heads: K.
        prior_scale: 0 for none.
        mask_probability: with 1, heads differ by where they start and by their priors alone.
        batch_size: rows of a gradient step, the same for all heads.
        replay_size: transitions that are kept, in the dtype of the observations, for each seed.
        warmup_steps: transitions that are stored before the first gradient step.
        updates_per_rollout: gradient steps after each rollout.
        target_period: gradient steps between two copies of f_k to its older self.
        intrinsic_weight: of the intrinsic reward, which is added to the reward and stored with it.
        torso: "mlp", "cnn", "impala", "auto" by the shape of the observation, or a flax module.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        layer_norm: normalise what each layer of f_k and p_k gives.
        deterministic: act greedily.

    Reference: Osband et al. (2016), arXiv:1602.04621; priors: Osband et al. (2018),
    arXiv:1806.03335.
    Deviations from the paper: no noise on rewards; masks are Bernoulli, never double-or-nothing.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    num_heads: int = 10
    prior_scale: float = 3.0
    mask_probability: float = 1.0
    batch_size: int = 128
    replay_size: int = 10_000
    warmup_steps: int = 128
    updates_per_rollout: int = 32
    target_period: int = 4
    intrinsic_weight: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (50, 50)
    activation: Activation = "relu"
    layer_norm: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_least("boot_dqn", self, num_heads=1, updates_per_rollout=1, target_period=1)
        if isinstance(self.mask_probability, float) and not 0.0 < self.mask_probability <= 1.0:
            raise ConfigError(
                f"boot_dqn: mask_probability is {self.mask_probability}: it must be above 0 and at"
                " most 1"
            )

    def init(self, key: Key, spec: RunSpec) -> BootDQNState:
        network = make_q_network("boot_dqn", self, spec.env)
        check_replay("boot_dqn", self._replay, spec)
        key_params, key_prior = jax.random.split(key)
        params = init_heads(network, self.num_heads, key_params, spec.env.observation)
        prior_params = init_heads(network, self.num_heads, key_prior, spec.env.observation)
        learned = unlearned(params, self._optimizer())
        replay = self._replay.init(spec.env, extra=jnp.zeros(self.num_heads, bool))
        return BootDQNState(learned, prior_params, replay, jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: BootDQNState, carry: jax.Array, obs: PyTree, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, PyTree]:
        prior = self._prior(state, obs)
        best = jnp.argmax(of_heads(state.network, state.learned.params, obs) + prior, axis=-1)
        if self.deterministic:
            votes = jnp.sum(jax.nn.one_hot(best, prior.shape[-1]), axis=0)
            return carry, jnp.argmax(votes, axis=-1).astype(jnp.int32), ()
        num_envs = first.shape[0]
        drawn = jax.random.randint(key, (num_envs,), 0, self.num_heads, jnp.int32)
        head = jnp.where(first, drawn, carry)
        return head, best[head, jnp.arange(num_envs)].astype(jnp.int32), ()

    def update(
        self, key: Key, state: BootDQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[BootDQNState, Metrics]:
        key_mask, key_learn = jax.random.split(key)
        reward = traj.reward + self.intrinsic_weight * r_int
        shape = (*reward.shape, self.num_heads)
        mask = jax.random.uniform(key_mask, shape) < self.mask_probability
        rows = n_step_transitions(traj, reward, num_steps=1, discount=self.discount, extra=mask)
        replay = self._replay.add(state.replay, rows)

        def step(learned: Learned, batch: Transition, key: Key) -> tuple[Learned, Metrics]:
            return self._step(state, learned, batch)

        learned, metrics = self._replay.learn(
            key_learn, replay, state.learned, step, self.updates_per_rollout
        )
        steps = state.env_steps + reward.size
        return dataclasses.replace(state, learned=learned, replay=replay, env_steps=steps), metrics

    def greedy(self) -> BootDQN:
        return replace(self, deterministic=True)

    @property
    def _replay(self) -> Replay:
        return Replay(self.replay_size, self.batch_size, self.warmup_steps)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _prior(self, state: BootDQNState, obs: PyTree) -> jax.Array:
        """What the priors add, `[K, B, A]`."""
        return self.prior_scale * of_heads(state.network, state.prior_params, obs)

    def _step(
        self, state: BootDQNState, learned: Learned, batch: Transition
    ) -> tuple[Learned, Metrics]:
        """One gradient step of all heads; the loss is a sum over them: each is for itself."""
        network = state.network
        older = of_heads(network, learned.target_params, batch.next_obs)
        following = jnp.max(older + self._prior(state, batch.next_obs), axis=-1)
        target = batch.reward[None] + batch.discount[None] * following
        prior = self._prior(state, batch.obs)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            values = of_heads(network, params, batch.obs) + prior
            error = take_values(values, batch.action) - target
            total = 0.5 * jnp.sum(jnp.mean(batch.extra.T * jnp.square(error), axis=1))
            metrics = {
                "loss": total / self.num_heads,
                "value": jnp.mean(values),
                "td_error": jnp.mean(jnp.abs(error)),
                "ensemble_std": jnp.mean(jnp.std(values, axis=0)),
            }
            return total, metrics

        gradient, metrics = jax.grad(loss, has_aux=True)(learned.params)
        return descend(learned, gradient, self._optimizer(), self.target_period), metrics
