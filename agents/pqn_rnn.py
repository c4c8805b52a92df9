"""PQN with a memory."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso
from xplore.agents.pqn import PQNState, pqn_optimizer
from xplore.agents.q_networks import check_q_run
from xplore.agents.recurrent import (
    RecurrentQNetwork,
    after,
    init_recurrent,
    lead,
    swapped,
    told_last,
)
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError, check_least
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
from xplore.parts.minibatch import check_minibatches, mean_gradient
from xplore.parts.returns import lambda_returns, successor_values, take_values


class Carry(NamedTuple):
    """What is remembered: `memory` `[N, D]`, the last action, and its reward `[N]`."""

    memory: jax.Array
    last: Repeats
    reward: jax.Array


class Extras(NamedTuple):
    """What acting leaves for learning.

    Attributes:
        value: `[N]`, that of the best action.
        memory: `[N, D]`, after the step.
    """

    value: jax.Array
    memory: jax.Array


class Segment(NamedTuple):
    """What an env's rollout is learned from: leaves `[N, T, ...]`, but `[N, D]` of `memory`."""

    obs: PyTree
    told: jax.Array
    first: jax.Array
    action: jax.Array
    target: jax.Array
    memory: jax.Array


@register_agent("pqn_rnn")
@final
@component
class PQNRNN:
    """PQN whose values come from a gated recurrent unit, for tasks that ask for a memory.

    Targets are those of `xplore.agents.pqn.PQN`. Learning goes through each env's rollout as acting
    did, from the memory the rollout began with and with the memory forgotten where `first` holds; a
    minibatch is some envs' whole rollouts.

    Attributes:
        memory_size: units of the memory.
        last_action, last_reward: whether these are seen beside the observation: one-hot, and the
            extrinsic reward as it is.
        hidden_sizes: layers before the memory, but the last, which is behind it.
        exploration: as in PQN, but for "noisy".
        discount, trace, max_grad_norm, anneal_steps, epsilon_start, epsilon_end, epsilon_steps,
            intrinsic_weight, torso, symbols, layer_norm, deterministic: as in PQN.

    Reference: Gallici et al. (2025), Simplifying deep temporal difference learning,
    arXiv:2407.04811.
    Deviations from the paper: no memory of the rollout before is replayed to warm the unit up: it
    starts from what acting had.
    """

    learning_rate: float = 5e-4
    discount: float = 0.99
    trace: float = 0.65
    max_grad_norm: float = 10.0
    num_epochs: int = 4
    num_minibatches: int = 8
    anneal_steps: int = 0
    exploration: Exploration = "epsilon"
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 50_000
    ladder_power: float = 7.0
    zeta_exponent: float = 2.0
    max_duration: int = 128
    stickiness: float = 0.25
    intrinsic_weight: float = 1.0
    memory_size: int = 64
    last_action: bool = True
    last_reward: bool = False
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_exploration("pqn_rnn", self)
        if self.exploration == "noisy":
            raise ConfigError("pqn_rnn has no noisy layers: explore by 'epsilon', or use 'pqn'")
        check_least("pqn_rnn", self, num_epochs=1, num_minibatches=1, memory_size=1)

    def init(self, key: Key, spec: RunSpec) -> PQNState:
        check_minibatches("pqn_rnn", spec.num_envs, self.num_minibatches)
        network = RecurrentQNetwork(
            space=spec.env.observation,
            num_actions=check_q_run("pqn_rnn", self.torso, spec.env).num,
            torso=self.torso,
            symbols=self.symbols,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            layer_norm=self.layer_norm,
            memory_size=self.memory_size,
        )
        carry = self.initial_carry(1)
        told = self._told(network, carry.last.action, carry.reward, jnp.ones(1, bool))
        params = init_recurrent(network, key, told)
        return PQNState(params, pqn_optimizer(self, 0).init(params), jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> Carry:
        memory = jnp.zeros((num_envs, self.memory_size))
        return Carry(memory, no_repeats(num_envs), jnp.zeros(num_envs))

    def act(
        self, key: Key, state: PQNState, carry: Carry, obs: PyTree, first: jax.Array
    ) -> tuple[Carry, jax.Array, Extras]:
        rows = (obs, carry.last.action, carry.reward, carry.memory)
        values, memory = self._one_step(state, rows, first)
        best = jnp.argmax(values, axis=-1).astype(jnp.int32)
        last, action = Repeats(best, jnp.zeros_like(best)), best
        if not self.deterministic:
            last, action = explore(
                key, self, carry.last, best, first,
                num_actions=state.network.num_actions, env_steps=state.env_steps,
            )  # fmt: skip
        carry = Carry(memory, last, jnp.zeros_like(carry.reward))
        return carry, action, Extras(jnp.max(values, axis=-1), memory)

    def see_reward(self, carry: Carry, reward: jax.Array) -> Carry:
        return carry._replace(reward=reward) if self.last_reward else carry

    def update(
        self, key: Key, state: PQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PQNState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        segments = self._segments(state, traj, r_int)
        optimizer = pqn_optimizer(self, state.env_steps)
        cpu_rows = max(1, state.network.cpu_rows // num_steps)

        def loss(params: PyTree, rows: tuple[Segment, PyTree]) -> tuple[jax.Array, Metrics]:
            return _loss(state.network, params, rows[0])

        def minibatch(
            learned: tuple[PyTree, PyTree], index: jax.Array
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = learned
            gradient, metrics = mean_gradient(loss, params, segments, index, cpu_rows=cpu_rows)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(
            learned: tuple[PyTree, PyTree], key: Key
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            order = jax.random.permutation(key, num_envs)
            return jax.lax.scan(minibatch, learned, order.reshape(self.num_minibatches, -1))

        keys = jax.random.split(key, self.num_epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        steps = state.env_steps + num_steps * num_envs
        metrics = {**jax.tree.map(jnp.mean, metrics), "epsilon": epsilon_at(self, steps)}
        return PQNState(params, opt_state, steps, state.network), metrics

    def greedy(self) -> PQNRNN:
        return replace(self, deterministic=True)

    def _segments(self, state: PQNState, traj: Trajectory, r_int: jax.Array) -> Segment:
        began: Carry = traj.carry
        kept: Extras = traj.extras

        def value_of(rows: tuple[Any, ...]) -> jax.Array:
            going_on = jnp.zeros(rows[1].shape, bool)
            return jnp.max(self._one_step(state, rows, going_on)[0], axis=-1)

        successors = (traj.next_obs, traj.action, traj.reward, kept.memory)
        target = lambda_returns(
            traj.reward + self.intrinsic_weight * r_int,
            kept.value,
            successor_values(value_of, kept.value, successors, traj.truncated),
            traj.terminated,
            traj.truncated,
            discount=self.discount,
            trace=self.trace,
        )
        action, reward = after(began.last.action, traj.action), after(began.reward, traj.reward)
        told = self._told(state.network, action, reward, traj.first)
        obs, told, first, done, target = swapped((traj.obs, told, traj.first, traj.action, target))
        return Segment(obs, told, first, done, target, began.memory)

    def _told(
        self, network: Any, action: jax.Array, reward: jax.Array, first: jax.Array
    ) -> jax.Array:
        said = (action if self.last_action else None, reward if self.last_reward else None)
        return told_last(*said, first, network.num_actions)

    def _one_step(
        self, state: PQNState, rows: tuple[Any, ...], first: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Values `[N, A]` and the memory after `rows`: observation, last action, reward, memory."""
        obs, action, reward, memory = rows
        told = self._told(state.network, action, reward, first)
        out: Any = state.network.apply(state.params, *lead((obs, told, first)), memory)
        return out[0][0], out[1][0]


def _loss(network: Any, params: PyTree, segment: Segment) -> tuple[jax.Array, Metrics]:
    by_time = swapped((segment.obs, segment.told, segment.first))
    values, _ = network.apply(params, *by_time, segment.memory)
    action, target = swapped((segment.action, segment.target))
    done = take_values(values.reshape(-1, values.shape[-1]), action.reshape(-1))
    error = done - target.reshape(-1)
    loss = 0.5 * jnp.mean(jnp.square(error))
    metrics = {"loss": loss, "value": jnp.mean(done), "td_error": jnp.mean(jnp.abs(error))}
    return loss, metrics
