"""Dyna: every real step is learned from, and many more that a learned model remembers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.tabular import (
    Extras,
    Layout,
    Model,
    Step,
    empty_model,
    layout,
    observe,
    pick,
    steps,
)


class Known(NamedTuple):
    """What Dyna has in mind; S states by their own number.

    Attributes:
        model: what was seen of the dynamics.
        values: float32 `[2, S, A]`, what is acted by, and the same without the bonus of time.
        tried: int32 `[S, A]`, the real step at which a pair was last tried.
        met: int32 `[S]`, the states that were acted in, in the order they were met.
        num_met: int32 `[]`, how many those are.
        priority: float32 `[S, A]`, by how much a backup would change a pair.
        clock: int32 `[]`, real steps so far.
    """

    model: Model
    values: jax.Array
    tried: jax.Array
    met: jax.Array
    num_met: jax.Array
    priority: jax.Array
    clock: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DynaState:
    """`model_steps` float32 `[]`: backups made of the model's steps, beside the real ones."""

    known: Known
    model_steps: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})


@register_agent("dyna_q")
@final
@component
class DynaQ:
    """Q-learning that, after each real step, makes `planning_steps` backups of a learned model.

    A backup of a pair is Q(s, a) += alpha (r + gamma E[max_a' Q(s', a')] - Q(s, a)), by what the
    pair was seen to earn and to lead to. Pairs are drawn at random among those that were tried; or,
    `prioritized`, the one is taken whose backup changes most, and then what leads there.

    With a `time_bonus` kappa it is Dyna-Q+: in a backup a pair earns kappa sqrt(tau) more, tau real
    steps after it was last tried; an action that was never tried leads nowhere, as far as is known,
    and earns that bonus. `greedy()` acts by values without the bonus.

    Attributes:
        learning_rate: alpha, of real steps and backups.
        discount: gamma; one table serves all times.
        planning_steps: k, for each real step.
        prioritized: prioritized sweeping.
        least_priority: changes below this are not worth a backup.
        time_bonus: kappa; 0 for Dyna-Q.
        epsilon: probability of a uniform action.
        initial_value: Q_0.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        max_successors: successors kept of each pair; 0: 1 where nothing is random, else 8.
        deterministic: act greedily.

    Reference: Sutton (1990), Integrated architectures for learning, planning, and reacting;
    Sutton & Barto (2018), sections 8.2 to 8.4; Moore & Atkeson (1993), Prioritized sweeping.
    Deviations from the paper: a backup takes the mean over the successors seen, not one of them.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    learning_rate: float = 1.0
    discount: float = 0.99
    planning_steps: int = 20
    prioritized: bool = False
    least_priority: float = 1e-4
    time_bonus: float = 0.0
    epsilon: float = 0.1
    initial_value: float = 0.0
    intrinsic_weight: float = 1.0
    max_successors: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("planning_steps", "max_successors"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"dyna_q: {name} is {getattr(self, name)}: it must not be negative"
                )
        if self.prioritized and isinstance(self.time_bonus, float) and self.time_bonus != 0.0:
            raise ConfigError(
                "dyna_q: with a time_bonus all values change at every step, and no pair has"
                " priority: give prioritized or time_bonus, not both"
            )

    def init(self, key: Key, spec: RunSpec) -> DynaState:
        # One table serves all times, so that any horizon will do.
        found = layout(spec, "dyna_q", 1)
        if not found.layered:
            found = dataclasses.replace(found, horizon=1)
        slots = self.max_successors or (8 if spec.env.stochastic else 1)
        pairs, zero = (found.num_states, found.num_actions), jnp.zeros((), jnp.int32)
        known = Known(
            model=empty_model(found, slots),
            values=jnp.full((2, *pairs), self.initial_value, jnp.float32),
            tried=jnp.zeros(pairs, jnp.int32),
            met=jnp.zeros(found.num_states, jnp.int32),
            num_met=zero,
            priority=jnp.zeros(pairs, jnp.float32),
            clock=zero,
        )
        return DynaState(known, jnp.float32(0), found)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def act(
        self, key: Key, state: DynaState, carry: tuple[()], obs: jax.Array, first: jax.Array
    ) -> tuple[tuple[()], jax.Array, Extras]:
        time = jnp.zeros_like(obs)
        if self.deterministic:
            best = pick(key, state.known.values[1, obs], ties_at_random=False)
            return (), best, Extras(time)
        k_ties, k_explore, k_uniform = jax.random.split(key, 3)
        best = pick(k_ties, state.known.values[0, obs])
        explores = jax.random.bernoulli(k_explore, self.epsilon, best.shape)
        uniform = jax.random.randint(k_uniform, best.shape, 0, state.layout.num_actions, jnp.int32)
        return (), jnp.where(explores, uniform, best), Extras(time)

    def update(
        self, key: Key, state: DynaState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[DynaState, Metrics]:
        seen = steps(state.layout, traj, r_int, self.intrinsic_weight)

        def one(known: Known, x: tuple[Step, Key]) -> tuple[Known, jax.Array]:
            step, key = x
            known, error = self._experience(state.layout, known, step)
            return self._plan(key, state.layout, known), error

        keys = jax.random.split(key, seen.action.shape[0])
        known, error = jax.lax.scan(one, state.known, (seen, keys))
        planned = state.model_steps + self.planning_steps * seen.action.shape[0]
        metrics = {
            "td_error": jnp.mean(jnp.abs(error)),
            "pairs_visited": jnp.sum(known.model.visits > 0),
            "successors_missed": known.model.missed,
            "model_steps": planned,
        }
        return dataclasses.replace(state, known=known, model_steps=planned), metrics

    def greedy(self) -> DynaQ:
        return replace(self, deterministic=True)

    def _experience(self, found: Layout, known: Known, step: Step) -> tuple[Known, jax.Array]:
        """Learns from one real step, and remembers it."""
        row, pair = step.row, (step.row, step.action)
        is_new = ~jnp.any(known.model.visits[row] > 0)
        model = observe(known.model, jax.tree.map(lambda x: x[None], step))
        following = _following(found, known.values, row, step.successor)
        target = step.reward + self.discount * following
        error = target - known.values[(slice(None), *pair)]
        values = known.values.at[(slice(None), *pair)].add(self.learning_rate * error)
        clock = known.clock + 1
        known = known._replace(
            model=model,
            values=values,
            tried=known.tried.at[pair].set(clock),
            met=known.met.at[known.num_met].set(jnp.where(is_new, row, known.met[known.num_met])),
            num_met=known.num_met + is_new,
            clock=clock,
        )
        if self.prioritized:
            # One step is a sample: what all that was seen of the pair says may be something else.
            left = self._backup(found, known, row, step.action)[1] / self.learning_rate
            known = known._replace(priority=known.priority.at[pair].set(self._worth(left)))
        return self._sweep_back(found, known, row, error[0]), error[0]

    def _plan(self, key: Key, found: Layout, known: Known) -> Known:
        def one(known: Known, key: Key) -> tuple[Known, None]:
            row, action = self._choose(key, found, known)
            values, change = self._backup(found, known, row, action)
            known = known._replace(values=values)
            if self.prioritized:
                left = self._worth(change * (1.0 / self.learning_rate - 1.0))
                priority = known.priority.at[row, action].set(left)
                known = self._sweep_back(found, known._replace(priority=priority), row, change)
            return known, None

        return jax.lax.scan(one, known, jax.random.split(key, self.planning_steps))[0]

    def _choose(self, key: Key, found: Layout, known: Known) -> tuple[jax.Array, jax.Array]:
        """The pair to back up."""
        if self.prioritized:
            flat = jnp.argmax(known.priority)
            return flat // found.num_actions, flat % found.num_actions
        k_state, k_action = jax.random.split(key)
        row = known.met[jax.random.randint(k_state, (), 0, known.num_met)]
        allowed = (known.model.visits[row] > 0) | jnp.asarray(self.time_bonus > 0.0)
        return row, jax.random.categorical(k_action, jnp.where(allowed, 0.0, -jnp.inf))

    def _backup(
        self, found: Layout, known: Known, row: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The values after a backup, and by how much the first of them changed."""
        pair, model = (row, action), known.model
        visits, counts = model.visits[pair], model.counts[pair].astype(jnp.float32)
        weight = counts / jnp.maximum(jnp.sum(counts), 1.0)
        following = _following(found, known.values, row, model.successor[pair])  # [2, K]
        staying = jnp.max(known.values[:, row], axis=-1)
        following = jnp.where(visits > 0, following @ weight, staying)
        waited = jnp.sqrt((known.clock - known.tried[pair]).astype(jnp.float32))
        bonus = jnp.stack([self.time_bonus * waited, jnp.float32(0)])
        reward = model.reward[pair] / jnp.maximum(visits, 1)
        target = reward + bonus + self.discount * following
        change = self.learning_rate * (target - known.values[(slice(None), *pair)])
        return known.values.at[(slice(None), *pair)].add(change), change[0]

    def _sweep_back(self, found: Layout, known: Known, row: jax.Array, change: jax.Array) -> Known:
        """Gives priority to what leads to a state whose value changed."""
        if not self.prioritized:
            return known
        model = known.model
        rows = _rows(found, jnp.arange(found.num_states)[:, None, None], model.successor)
        leads = jnp.any((rows == row) & (model.counts > 0), axis=-1)
        raised = jnp.where(leads, self._worth(change), 0.0)
        return known._replace(priority=jnp.maximum(known.priority, raised))

    def _worth(self, change: jax.Array) -> jax.Array:
        """The priority of a change."""
        return jnp.where(jnp.abs(change) > self.least_priority, jnp.abs(change), 0.0)


def _rows(found: Layout, row: jax.Array, successor: jax.Array) -> jax.Array:
    """The own numbers of states given by local ones, as they follow `row`; S for the end."""
    after = (row // found.num_local + 1) * found.num_local if found.layered else 0
    return jnp.where(successor == found.num_local, found.num_states, after + successor)


def _following(found: Layout, values: jax.Array, row: jax.Array, successor: jax.Array) -> jax.Array:
    """What the successors are worth, `[2, ...]` of their local numbers `[...]`: 0 for the end."""
    number = _rows(found, row, successor)
    worth: PyTree = jnp.max(values, axis=-1).at[:, number].get(mode="fill", fill_value=0.0)
    return jnp.asarray(worth)
