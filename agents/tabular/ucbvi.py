"""UCBVI: value iteration in the empirical model, with the bonuses of its confidence bounds."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, RunSpec, Trajectory
from xplore.parts.planning import Local, backward_induction, estimates, expected, variance
from xplore.parts.tabular import Extras, Layout, Planned, act_by_table, learn, steps, unplanned

_CHOICES = {"variant": ("hoeffding", "bernstein"), "form": ("practical", "paper")}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UCBVIState:
    """What planners keep, and int32 `[H, L]`, the visits of each state at each time."""

    planned: Planned
    occupied: jax.Array


class _Ahead(NamedTuple):
    """At each time: `[H, L + 1]`, the visits of the states that follow, and of the end."""

    visits: jax.Array


@register_agent("ucbvi")
@final
@component
class UCBVI:
    """Q_h(s, a) = min(V_max, r^ + E_P^[V_{h+1}] + b), V_max where n(s, a) = 0; n = n(s, a).

    With V = min(V_max, H - h) the most that is left after step h, i = log(2 + k) in update k and
    Var the variance of V_{h+1} over the empirical successors, the practical bonuses are

    * "hoeffding": b = c (1 + V) sqrt(2 i / n), the scale of the reward and of what follows;
    * "bernstein": b = c (sqrt(2 i / n) + sqrt(2 i Var / n) + V i / n).

    Those of the paper, with V_max = H, X = ln(5 S A T / delta) and N' the visits of a successor at
    its time, are c times

    * "hoeffding": 7 H X / sqrt(n);
    * "bernstein": sqrt(8 X Var / n) + 14 H X / (3 n)
      + sqrt(8 / n E_P^[min(10^4 H^3 S^2 A X^2 / N', H^2)]).

    It replans after every rollout: with `num_envs=1` and `num_steps` the length of an episode, once
    an episode, as in the paper. `greedy()` leaves the bonus out.

    Attributes:
        bonus: c; the paper's own constants are c = 1.
        variant, form: see above.
        value_max: V_max of the practical form.
        episodes: T / H, how many are planned, for X.
        failure_probability: delta.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.

    Reference: Azar, Osband & Munos (2017), Minimax regret bounds for reinforcement learning,
    arXiv:1703.05449.
    Deviations from the paper: the practical form, which is the default; rewards are learned too;
    values may rise from one plan to the next.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    bonus: float = 0.02
    variant: Literal["hoeffding", "bernstein"] = "hoeffding"
    form: Literal["practical", "paper"] = "practical"
    value_max: float = 1.0
    episodes: int = 1000
    failure_probability: float = 0.05
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    max_successors: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"ucbvi: {name} is {getattr(self, name)!r}: use one of {', '.join(choices)}"
                )

    def init(self, key: Key, spec: RunSpec) -> UCBVIState:
        planned = unplanned(spec, "ucbvi", self.horizon_steps, self.max_successors)
        return self._plan(UCBVIState(planned, jnp.zeros(planned.layout.shape[:2], jnp.int32)))

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: UCBVIState, carry: jax.Array, obs: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, Extras]:
        planned = state.planned
        q = planned.estimate if self.deterministic else planned.q
        ties = not self.deterministic
        return act_by_table(key, planned.layout, q, carry, obs, first, ties_at_random=ties)

    def update(
        self, key: Key, state: UCBVIState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[UCBVIState, Metrics]:
        seen = steps(state.planned.layout, traj, r_int, self.intrinsic_weight)
        planned, metrics = learn(state.planned, traj, r_int, self.intrinsic_weight)
        occupied = state.occupied.at[seen.time, seen.state].add(1)
        return self._plan(UCBVIState(planned, occupied)), metrics

    def greedy(self) -> UCBVI:
        return replace(self, deterministic=True)

    def _plan(self, state: UCBVIState) -> UCBVIState:
        planned = state.planned
        layout = planned.layout
        ahead = jnp.zeros((layout.horizon, layout.num_local + 1))
        ahead = ahead.at[:-1, :-1].set(state.occupied[1:])

        def plan(optimism: jax.Array) -> jax.Array:
            def backup(value: jax.Array, at: Local, ahead: _Ahead, left: jax.Array) -> jax.Array:
                most = self.value_max if self.form == "practical" else layout.horizon
                bonus = self._bonus(layout, planned.updates, value, at, ahead.visits, left)
                q = at.reward + expected(at, value) + optimism * bonus
                return jnp.where(at.visits > 0, jnp.minimum(q, most), optimism * most)

            return backward_induction(layout, backup, estimates(planned.model), _Ahead(ahead))

        # With the bonus, and without.
        q, estimate = jax.vmap(plan)(jnp.array([1.0, 0.0]))
        return UCBVIState(dataclasses.replace(planned, q=q, estimate=estimate), state.occupied)

    def _bonus(
        self,
        layout: Layout,
        updates: jax.Array,
        value: jax.Array,
        at: Local,
        ahead: jax.Array,
        left: jax.Array,
    ) -> jax.Array:
        n, spread = jnp.maximum(at.visits, 1.0), variance(at, value)
        if self.form == "practical":
            most, iota = jnp.minimum(self.value_max, left - 1.0), jnp.log(2.0 + updates)
            if self.variant == "hoeffding":
                return self.bonus * (1.0 + most) * jnp.sqrt(2.0 * iota / n)
            scale = 1.0 + jnp.sqrt(spread)
            return self.bonus * (scale * jnp.sqrt(2.0 * iota / n) + most * iota / n)
        horizon, num_actions = layout.horizon, layout.num_actions
        total = 5.0 * layout.num_states * num_actions * horizon * self.episodes
        log = jnp.log(total / jnp.asarray(self.failure_probability, jnp.float32))
        if self.variant == "hoeffding":
            return self.bonus * 7.0 * horizon * log / jnp.sqrt(n)
        rare = 1e4 * float(horizon) ** 3 * float(layout.num_states) ** 2 * num_actions * log**2
        unsure = jnp.minimum(rare / jnp.maximum(ahead, 1.0), float(horizon) ** 2)
        unsure = unsure.at[-1].set(0.0)  # the value of the end is known
        bonus = jnp.sqrt(8.0 * log * spread / n) + 14.0 * horizon * log / (3.0 * n)
        return self.bonus * (bonus + jnp.sqrt(8.0 * expected(at, unsure) / n))
