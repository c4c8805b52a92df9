"""Deep Q-learning from a replay on the device."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso, init_params
from xplore.agents.q_networks import QNetwork, make_q_network
from xplore.contracts.component import component, replace
from xplore.contracts.errors import check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.exploration import (
    Exploration,
    Repeats,
    check_exploration,
    epsilon_at,
    explore,
    no_repeats,
)
from xplore.parts.fitting import clipped
from xplore.parts.quantiles import quantile_loss, take_quantiles
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
class DQNState:
    """What was learned, and what it is learned from; the network itself is static."""

    learned: Learned
    replay: PyTree
    env_steps: jax.Array
    network: QNetwork = dataclasses.field(metadata={"static": True})


@register_agent("dqn")
@register_agent("qr_dqn", num_quantiles=32)
@final
@component
class DQN:
    """Fits Q(s_t, a_t) to R_t + gamma^n Q'(s_{t+n}, argmax_a Q(s_{t+n}, a)), Q' an older Q.

    R_t sums the rewards of n steps. After every rollout, which goes into the replay, it takes
    `updates_per_rollout` gradient steps on batches drawn from it uniformly: so every transition is
    learned from `updates_per_rollout * batch_size / (num_envs * num_steps)` times.

    With M > 1 quantiles (the id `qr_dqn`) the network has M numbers for each action, the quantiles
    of the return, whose mean is its value; all M of Q' are targets, fitted by quantile regression.

    Attributes:
        discount: gamma.
        num_quantiles: M; 1: the value itself.
        n_step: n. Where a rollout ends before, it is what is left of it.
        double: the action is chosen by Q and valued by Q'; else Q' does both.
        batch_size: rows of a gradient step.
        replay_size: transitions that are kept, in the dtype of the observations, for each seed.
        warmup_steps: transitions that are stored before the first gradient step.
        target_period: gradient steps between two copies of Q to Q'.
        max_grad_norm: global-norm clip; 0 for none.
        exploration: "epsilon", "ladder", "epsilon_z", "sticky" or "noisy"; what they are, and what
            their options mean, is said in `xplore.parts.exploration`.
        epsilon_start, epsilon_end, epsilon_steps: epsilon falls linearly over so many env steps.
        intrinsic_weight: of the intrinsic reward, which is added to the reward and stored with it.
        torso: "mlp", "cnn", "impala", "auto" by the shape of the observation, or a flax module.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        layer_norm: normalise what each layer gives. Without it, and with many gradient steps for
            each env step, values can grow without bound.
        deterministic: act greedily.

    Reference: Mnih et al. (2015), Human-level control through deep reinforcement learning, Nature
    518; double: van Hasselt et al. (2016), arXiv:1509.06461; quantiles: Dabney et al. (2018),
    arXiv:1710.10044.
    Deviations from the papers: Adam, layer normalisation; sizes for small networks and many envs;
    32 quantiles, not 200.
    """

    learning_rate: float = 5e-4
    discount: float = 0.99
    num_quantiles: int = 1
    n_step: int = 1
    double: bool = True
    batch_size: int = 128
    replay_size: int = 32_768
    warmup_steps: int = 1_000
    updates_per_rollout: int = 64
    target_period: int = 32
    max_grad_norm: float = 10.0
    exploration: Exploration = "epsilon"
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 50_000
    ladder_power: float = 7.0
    zeta_exponent: float = 2.0
    max_duration: int = 128
    stickiness: float = 0.25
    intrinsic_weight: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_exploration("dqn", self)
        check_least("dqn", self, num_quantiles=1, n_step=1, updates_per_rollout=1, target_period=1)

    def init(self, key: Key, spec: RunSpec) -> DQNState:
        noisy = self.exploration == "noisy"
        network = make_q_network("dqn", self, spec.env, noisy=noisy, num_numbers=self.num_quantiles)
        check_replay("dqn", self._replay, spec)
        params = init_params(network, key, spec.env.observation)
        learned = unlearned(params, self._optimizer())
        return DQNState(learned, self._replay.init(spec.env), jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> Repeats:
        return no_repeats(num_envs)

    def act(
        self, key: Key, state: DQNState, carry: Repeats, obs: PyTree, first: jax.Array
    ) -> tuple[Repeats, jax.Array, PyTree]:
        key_noise, key_explore = jax.random.split(key)
        noise = self.exploration == "noisy" and not self.deterministic
        values = self._means(_outputs(state.network, state.learned.params, obs, noise, key_noise))
        best = jnp.argmax(values, axis=-1).astype(jnp.int32)
        if self.deterministic:
            return carry, best, ()
        carry, action = explore(
            key_explore, self, carry, best, first,
            num_actions=state.network.num_actions, env_steps=state.env_steps,
        )  # fmt: skip
        return carry, action, ()

    def update(
        self, key: Key, state: DQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[DQNState, Metrics]:
        reward = traj.reward + self.intrinsic_weight * r_int
        rows = n_step_transitions(traj, reward, num_steps=self.n_step, discount=self.discount)
        replay = self._replay.add(state.replay, rows)

        def step(learned: Learned, batch: Transition, key: Key) -> tuple[Learned, Metrics]:
            return self._step(state.network, learned, batch, key)

        learned, metrics = self._replay.learn(
            key, replay, state.learned, step, self.updates_per_rollout
        )
        steps = state.env_steps + reward.size
        state = dataclasses.replace(state, learned=learned, replay=replay, env_steps=steps)
        return state, {**metrics, "epsilon": epsilon_at(self, steps)}

    def greedy(self) -> DQN:
        return replace(self, deterministic=True)

    @property
    def _replay(self) -> Replay:
        return Replay(self.replay_size, self.batch_size, self.warmup_steps)

    def _means(self, outputs: jax.Array) -> jax.Array:
        """Values `[B, A]`."""
        return outputs if self.num_quantiles == 1 else jnp.mean(outputs, axis=-1)

    def _optimizer(self) -> optax.GradientTransformation:
        return clipped(optax.adam(self.learning_rate), self.max_grad_norm)

    def _step(
        self, network: QNetwork, learned: Learned, batch: Transition, key: Key
    ) -> tuple[Learned, Metrics]:
        """One gradient step, and the copy to the target network when it is due."""
        noise = self.exploration == "noisy"
        key_online, key_target, key_loss = jax.random.split(key, 3)
        older = _outputs(network, learned.target_params, batch.next_obs, noise, key_target)
        chooser = older
        if self.double:
            chooser = _outputs(network, learned.params, batch.next_obs, noise, key_online)
        best = jnp.argmax(self._means(chooser), axis=-1)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            outputs = _outputs(network, params, batch.obs, noise, key_loss)
            if self.num_quantiles > 1:
                done = take_quantiles(outputs, batch.action)
                following = batch.discount[:, None] * take_quantiles(older, best)
                target = batch.reward[:, None] + following
                each = quantile_loss(done, target)
            else:
                done = take_values(outputs, batch.action)
                target = batch.reward + batch.discount * take_values(older, best)
                each = optax.huber_loss(done - target)
            metrics = {"value": jnp.mean(done), "td_error": jnp.mean(jnp.abs(done - target))}
            return jnp.mean(each), {"loss": jnp.mean(each), **metrics}

        gradient, metrics = jax.grad(loss, has_aux=True)(learned.params)
        return descend(learned, gradient, self._optimizer(), self.target_period), metrics


def _outputs(network: QNetwork, params: PyTree, obs: PyTree, noise: bool, key: Key) -> jax.Array:
    outputs: Any = network.apply(params, obs, noise, rngs={"noise": key})
    return outputs
