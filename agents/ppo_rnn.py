"""Proximal policy optimisation with a memory."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.agents.networks import Activation, Symbols, Torso, resolve_torso
from xplore.agents.recurrent import (
    Outputs,
    RecurrentActorCritic,
    after,
    init_recurrent,
    lead,
    swapped,
    told_last,
)
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts import policy_gradient as pg
from xplore.parts.minibatch import mean_gradient
from xplore.parts.returns import successor_values


class Carry(NamedTuple):
    """What is remembered: `memory` `[N, D]`, the last action int32 `[N]`, its reward `[N]`."""

    memory: jax.Array
    action: jax.Array
    reward: jax.Array


class Extras(NamedTuple):
    """What acting leaves for learning: as in PPO, and the `memory` `[N, D]` after the step."""

    log_prob: jax.Array
    value: jax.Array
    memory: jax.Array


class Segment(NamedTuple):
    """What an env's rollout is learned from: leaves `[N, T, ...]`, but `[N, D]` of `memory`."""

    obs: PyTree
    told: jax.Array
    first: jax.Array
    taken: pg.Taken
    memory: jax.Array


@register_agent("ppo_rnn")
@final
@component
class PPORNN:
    """PPO whose actor and critic share a gated recurrent unit, for tasks that ask for a memory.

    Learning goes through each env's rollout as acting did, from the memory the rollout began with
    and with the memory forgotten where `first` holds; a minibatch is some envs' whole rollouts. So
    gradients reach `num_steps` back in time, and memories further.

    The memory is forgotten at the start of an episode, the last action and reward with it.

    Attributes:
        memory_size: units of the memory.
        last_action, last_reward: whether these are seen beside the observation: one-hot, and the
            extrinsic reward as it is (an intrinsic one is not known while acting).
        hidden_sizes: layers before the memory, but the last, which actor and critic have behind it.
        discount, trace, clip, value_heads, intrinsic_discount, intrinsic_episodic,
            extrinsic_coefficient, max_grad_norm, anneal_steps, torso, symbols, deterministic: as in
            `xplore.agents.ppo.PPO`.

    Reference: Schulman et al. (2017), arXiv:1707.06347; last action and reward: Duan et al. (2016),
    arXiv:1611.02779.
    Deviations from the paper: as PPO's; memories last an episode, not a task of several.
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
    memory_size: int = 64
    last_action: bool = True
    last_reward: bool = False
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    deterministic: bool = False

    def __post_init__(self) -> None:
        pg.check_options("ppo_rnn", self)
        if self.memory_size < 1:
            raise ConfigError(f"ppo_rnn: memory_size is {self.memory_size}: it must be at least 1")

    def init(self, key: Key, spec: RunSpec) -> pg.LearnerState:
        actions = pg.check_run("ppo_rnn", self, spec)
        resolve_torso(self.torso, spec.env.observation)
        network = RecurrentActorCritic(
            space=spec.env.observation,
            num_actions=actions.num,
            value_heads=self.value_heads,
            torso=self.torso,
            symbols=self.symbols,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
            memory_size=self.memory_size,
        )
        carry = self.initial_carry(1)
        told = self._told(network, carry.action, carry.reward, jnp.ones(1, bool))
        params = init_recurrent(network, key, told)
        opt_state = pg.optimizer_of(self, 0).init(params)
        return pg.LearnerState(params, opt_state, jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> Carry:
        memory = jnp.zeros((num_envs, self.memory_size))
        return Carry(memory, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs))

    def act(
        self, key: Key, state: pg.LearnerState, carry: Carry, obs: PyTree, first: jax.Array
    ) -> tuple[Carry, jax.Array, Extras]:
        out = self._one_step(state, obs, carry.action, carry.reward, first, carry.memory)
        action, log_prob = pg.choose(key, out.logits, deterministic=self.deterministic)
        carry = Carry(out.memory, action, jnp.zeros_like(carry.reward))
        return carry, action, Extras(log_prob, out.value, out.memory)

    def see_reward(self, carry: Carry, reward: jax.Array) -> Carry:
        return carry._replace(reward=reward) if self.last_reward else carry

    def update(
        self, key: Key, state: pg.LearnerState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[pg.LearnerState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        kept: Extras = traj.extras
        successor = self._successor_values(state, traj)
        advantage, target = pg.advantages(self, traj, r_int, kept.value, successor)
        taken = pg.Taken(traj.action, kept.log_prob, kept.value, target)
        segments = self._segments(state.network, traj, taken)
        advantage = advantage.T

        def loss(params: PyTree, rows: tuple[Segment, jax.Array]) -> tuple[jax.Array, Metrics]:
            segment, advantage = rows
            out = _replay(state.network, params, segment)
            taken = swapped(segment.taken)
            return pg.clipped_loss(self, out.logits, out.value, taken, advantage.T)

        def gradient(params: PyTree, index: jax.Array) -> tuple[PyTree, Metrics]:
            scaled = pg.standardised(advantage[index])
            rows = max(1, state.network.cpu_rows // num_steps)
            return mean_gradient(loss, params, segments, index, scaled, cpu_rows=rows)

        def order(key: Key) -> jax.Array:
            return jax.random.permutation(key, num_envs)

        return pg.descend(key, self, state, order, gradient, num_steps * num_envs)

    def greedy(self) -> PPORNN:
        return replace(self, deterministic=True)

    def _segments(
        self, network: RecurrentActorCritic, traj: Trajectory, taken: pg.Taken
    ) -> Segment:
        began: Carry = traj.carry
        action, reward = after(began.action, traj.action), after(began.reward, traj.reward)
        told = self._told(network, action, reward, traj.first)
        obs, told, first, taken = swapped((traj.obs, told, traj.first, taken))
        return Segment(obs, told, first, taken, began.memory)

    def _told(
        self,
        network: RecurrentActorCritic,
        action: jax.Array,
        reward: jax.Array,
        first: jax.Array,
    ) -> jax.Array:
        said = (action if self.last_action else None, reward if self.last_reward else None)
        return told_last(*said, first, network.num_actions)

    def _one_step(
        self,
        state: pg.LearnerState,
        obs: PyTree,
        action: jax.Array,
        reward: jax.Array,
        first: jax.Array,
        memory: jax.Array,
    ) -> Outputs:
        told = self._told(state.network, action, reward, first)
        out = state.network.apply(state.params, *lead((obs, told, first)), memory)
        one: Outputs = jax.tree.map(lambda x: x[0], out)
        return one

    def _successor_values(self, state: pg.LearnerState, traj: Trajectory) -> jax.Array:
        kept: Extras = traj.extras

        def value_of(rows: tuple[Any, ...]) -> jax.Array:
            obs, action, reward, memory = rows
            going_on = jnp.zeros(reward.shape, bool)
            return self._one_step(state, obs, action, reward, going_on, memory).value

        successors = (traj.next_obs, traj.action, traj.reward, kept.memory)
        return successor_values(value_of, kept.value, successors, traj.truncated)


def _replay(network: RecurrentActorCritic, params: PyTree, segment: Segment) -> Outputs:
    """What acting did, by `params`: from the memory it began with, `[T, N, ...]`."""
    told = swapped((segment.obs, segment.told, segment.first))
    out: Any = network.apply(params, *told, segment.memory)
    return Outputs(*out)
