"""Q-learning with upper confidence bounds: provably efficient without a model."""

from __future__ import annotations

import dataclasses
from typing import Literal, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, RunSpec, Trajectory
from xplore.parts.tabular import Extras, Layout, Step, act_by_table, layout, steps

_FORMS = ("practical", "hoeffding")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class UCBQState:
    """`q` float32 and `visits` int32, both `[H, L, A]`; the layout is static."""

    q: jax.Array
    visits: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})


@register_agent("ucb_q")
@final
@component
class UCBQ:
    """Q_h(s,a) <- (1 - alpha_t) Q_h(s,a) + alpha_t (r + min(V_max, max_a' Q_{h+1}(s',a')) + b_t).

    t counts the visits of (h, s, a), this one included, and alpha_t = (H + 1) / (H + t). The
    practical bonus is b_t = c / sqrt(t) and Q starts at V_max; the paper's is
    b_t = c sqrt(H^3 iota / t) with iota = log(S A T / p), and Q starts at H.

    Learned step by step in time order, acted by from update to update: with `num_envs=1` and
    `num_steps` the length of an episode it is the method of the paper.

    Attributes:
        bonus: c.
        form: "practical" or "hoeffding", see above.
        value_max: V_max of the practical form.
        clip: False leaves the minimum with V_max out.
        episodes: T / H, how many are planned, for iota.
        failure_probability: p.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        horizon_steps: H where the state does not tell the time; 0: the environment's time limit.
        deterministic: act by the first of the best actions.

    Reference: Jin et al. (2018), Is Q-learning provably efficient?, arXiv:1807.03765.
    Deviations from the paper: the practical form, which is the default.
    """

    bonus: float = 0.05
    form: Literal["practical", "hoeffding"] = "practical"
    value_max: float = 1.0
    clip: bool = True
    episodes: int = 1000
    failure_probability: float = 0.05
    intrinsic_weight: float = 1.0
    horizon_steps: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.form not in _FORMS:
            raise ConfigError(f"ucb_q: form is {self.form!r}: use one of {', '.join(_FORMS)}")

    def init(self, key: Key, spec: RunSpec) -> UCBQState:
        found = layout(spec, "ucb_q", self.horizon_steps)
        q = jnp.full(found.shape, self._most(found), jnp.float32)
        return UCBQState(q, jnp.zeros(found.shape, jnp.int32), found)

    def initial_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs, jnp.int32)

    def act(
        self, key: Key, state: UCBQState, carry: jax.Array, obs: jax.Array, first: jax.Array
    ) -> tuple[jax.Array, jax.Array, Extras]:
        ties = not self.deterministic
        return act_by_table(key, state.layout, state.q, carry, obs, first, ties_at_random=ties)

    def update(
        self, key: Key, state: UCBQState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[UCBQState, Metrics]:
        found, most = state.layout, self._most(state.layout)
        scale = self._scale(found)

        def one(
            tables: tuple[jax.Array, jax.Array], x: Step
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            q, visits = tables
            place = (x.time, x.state, x.action)
            t = visits[place] + 1
            rate = (found.horizon + 1) / (found.horizon + t)
            nothing = (x.successor == found.num_local) | (x.time + 1 == found.horizon)
            following = jnp.max(q[x.time + 1, x.successor], axis=-1)
            if self.clip:
                following = jnp.minimum(most, following)
            target = x.reward + jnp.where(nothing, 0.0, following) + scale / jnp.sqrt(t)
            q = q.at[place].add(rate * (target - q[place]))
            return (q, visits.at[place].set(t)), None

        seen = steps(found, traj, r_int, self.intrinsic_weight)
        (q, visits), _ = jax.lax.scan(one, (state.q, state.visits), seen)
        state = dataclasses.replace(state, q=q, visits=visits)
        return state, {"pairs_visited": jnp.sum(visits > 0)}

    def greedy(self) -> UCBQ:
        return replace(self, deterministic=True)

    def _most(self, layout: Layout) -> float:
        return self.value_max if self.form == "practical" else float(layout.horizon)

    def _scale(self, layout: Layout) -> jax.Array:
        """sqrt(t) times the bonus."""
        if self.form == "practical":
            return jnp.asarray(self.bonus, jnp.float32)
        pairs = layout.horizon * layout.num_local * layout.num_actions
        pairs = pairs // layout.horizon if not layout.layered else pairs
        total = pairs * layout.horizon * self.episodes
        iota = jnp.log(total / jnp.asarray(self.failure_probability, jnp.float32))
        return self.bonus * jnp.sqrt(layout.horizon**3 * iota)
