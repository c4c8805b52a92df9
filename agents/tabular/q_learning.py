"""Q-learning in tables, with the explorations that know nothing of what they explore."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, RunSpec, Trajectory
from xplore.parts.exploration import zeta_durations
from xplore.parts.tabular import Extras, Layout, Step, layout, pick, steps

Exploration = Literal["epsilon", "boltzmann", "epsilon_z"]
_EXPLORATIONS = ("epsilon", "boltzmann", "epsilon_z")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QState:
    """`q` float32 `[H, L, A]` (H = 1 if stationary); the layout is static."""

    q: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})


class Carry(NamedTuple):
    """Of each env, int32 `[N]`.

    Attributes:
        clock: steps since the start of the episode.
        left: steps for which `action` is still to be repeated.
        action: what is repeated.
    """

    clock: jax.Array
    left: jax.Array
    action: jax.Array


@register_agent("q_learning")
@register_agent(
    "optimistic_q", initial_value=1.0, learning_rate=1.0, epsilon=0.0, exploration="epsilon"
)
@final
@component
class QLearning:
    """Q(s, a) += alpha (r + gamma max_a' Q(s', a') - Q(s, a)), learned step by step in time order.

    `optimistic_q` is the same with Q_0 = 1, alpha = 1 and no other exploration: what has not been
    tried is taken to be worth the most there is, and ties are broken at random.

    Acting is on the table of the last update: with `num_steps=1` it is the online method.

    Attributes:
        learning_rate: alpha.
        discount: gamma.
        initial_value: Q_0.
        exploration: "epsilon" (a uniform action with probability epsilon), "boltzmann" (an action
            with probability proportional to exp(Q / temperature)) or "epsilon_z" (with probability
            epsilon a uniform action, repeated for n steps, n drawn from p(n) ~ n^-zeta_exponent).
        max_duration: the largest n.
        stationary: one table for all times, as for a discounted task without a horizon.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        deterministic: act greedily, the first of equal actions.

    Reference: Watkins & Dayan (1992), Q-learning; epsilon-z: Dabney, Ostrovski & Barreto (2021),
    arXiv:2006.01782; optimistic values: Even-Dar & Mansour (2001).
    Deviations from the paper: epsilon-z forgets what it repeats at the end of an episode.
    """

    learning_rate: float = 0.5
    discount: float = 1.0
    initial_value: float = 0.0
    exploration: Exploration = "epsilon"
    epsilon: float = 0.1
    temperature: float = 0.1
    zeta_exponent: float = 2.0
    max_duration: int = 128
    stationary: bool = False
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.exploration not in _EXPLORATIONS:
            raise ConfigError(
                f"q_learning: exploration is {self.exploration!r}: use one of"
                f" {', '.join(map(repr, _EXPLORATIONS))}"
            )
        if self.max_duration < 1:
            raise ConfigError(f"q_learning: max_duration is {self.max_duration}: at least 1")

    def init(self, key: Key, spec: RunSpec) -> QState:
        # A stationary table has no use for time: any horizon will do.
        found = layout(spec, "q_learning", self.horizon_steps or int(self.stationary))
        if self.stationary and not found.layered:
            found = dataclasses.replace(found, horizon=1)
        return QState(jnp.full(found.shape, self.initial_value, jnp.float32), found)

    def initial_carry(self, num_envs: int) -> Carry:
        zeros = jnp.zeros(num_envs, jnp.int32)
        return Carry(zeros, zeros, zeros)

    def act(
        self, key: Key, state: QState, carry: Carry, obs: jax.Array, first: jax.Array
    ) -> tuple[Carry, jax.Array, Extras]:
        clock = jnp.where(first, 0, carry.clock)
        time = state.layout.time(obs, clock)
        q = state.q[time, obs % state.layout.num_local]
        carry = Carry(clock, jnp.where(first, 0, carry.left), carry.action)
        left, action = self._explored(key, q, carry)
        return Carry(clock + 1, left, action), action, Extras(time)

    def update(
        self, key: Key, state: QState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[QState, Metrics]:
        found = state.layout
        endless = self.stationary and not found.layered

        def one(q: jax.Array, x: Step) -> tuple[jax.Array, jax.Array]:
            after = x.time if endless else x.time + 1
            nothing = (x.successor == found.num_local) | (after == found.horizon)
            following = jnp.max(q[after, x.successor], axis=-1)  # clipped into the table
            target = x.reward + self.discount * jnp.where(nothing, 0.0, following)
            error = target - q[x.time, x.state, x.action]
            return q.at[x.time, x.state, x.action].add(self.learning_rate * error), error

        q, error = jax.lax.scan(one, state.q, steps(found, traj, r_int, self.intrinsic_weight))
        return dataclasses.replace(state, q=q), {"td_error": jnp.mean(jnp.abs(error))}

    def greedy(self) -> QLearning:
        return replace(self, deterministic=True)

    def _explored(self, key: Key, q: jax.Array, carry: Carry) -> tuple[jax.Array, jax.Array]:
        """Steps left to repeat, and the action, both `[N]`."""
        if self.deterministic:
            return carry.left, pick(key, q, ties_at_random=False)
        k_ties, k_explore, k_uniform, k_duration = jax.random.split(key, 4)
        if self.exploration == "boltzmann":
            drawn = jax.random.categorical(k_explore, q / self.temperature)
            return carry.left, drawn.astype(jnp.int32)
        greedy, shape = pick(k_ties, q), q.shape[:1]
        starts = jax.random.bernoulli(k_explore, self.epsilon, shape)
        uniform = jax.random.randint(k_uniform, shape, 0, q.shape[-1], jnp.int32)
        if self.exploration == "epsilon":
            return carry.left, jnp.where(starts, uniform, greedy)
        goes_on = carry.left > 0
        starts = starts & ~goes_on
        duration = zeta_durations(k_duration, shape, self.zeta_exponent, self.max_duration)
        action = jnp.where(goes_on, carry.action, jnp.where(starts, uniform, greedy))
        left = jnp.where(goes_on, carry.left - 1, jnp.where(starts, duration - 1, 0))
        return left, action
