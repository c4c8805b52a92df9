"""Tables over states, actions and time, and what is learned into them from a rollout.

One shape serves every finite-horizon method: `[H, L, A]`, time by local state by action. Where the
state tells the time (`EnvSpec.num_layers`, as in DeepSea: a state's number is `h * L + local`) that
is a table over the numbered states themselves; elsewhere the local state is the number of the
state, H is the time limit, and what is learned of the dynamics is shared over time.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, Metrics, RunSpec, Trajectory

_MOST_ENTRIES = 1 << 27


@dataclasses.dataclass(frozen=True)
class Layout:
    """How states, actions and time are laid out in tables; static.

    Attributes:
        num_states: S, the numbers an observation can have.
        num_actions: A.
        horizon: H, steps that are planned for.
        layered: the state tells the time.
    """

    num_states: int
    num_actions: int
    horizon: int
    layered: bool

    @property
    def num_local(self) -> int:
        """L, states that can be met at one time. As the number of a successor: the end."""
        return self.num_states // self.horizon if self.layered else self.num_states

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, L, A)`."""
        return self.horizon, self.num_local, self.num_actions

    def time(self, obs: jax.Array, clock: jax.Array) -> jax.Array:
        """The h of each observation; `clock` holds the steps since the start of the episode."""
        return obs // self.num_local if self.layered else clock % self.horizon


def layout(spec: RunSpec, agent: str, horizon_steps: int = 0) -> Layout:
    """The layout of an environment's tables.

    Args:
        spec: what `init` is given.
        agent: its id, for messages.
        horizon_steps: H in place of the time limit, where the state does not tell the time.
            Episodes that go on for longer are taken for several of this length in a row.

    Raises:
        ConfigError: observations or actions are not numbers, no horizon is known, or the tables
            would be too large.
    """
    env = spec.env
    if not isinstance(env.action, Discrete):
        raise ConfigError(
            f"{agent} acts in Discrete action spaces; {env.name} has {env.action}: choose an"
            " environment with discrete actions"
        )
    if not isinstance(env.observation, Discrete):
        raise ConfigError(
            f"{agent} learns tables over a Discrete observation; that of {env.name} is"
            f" {env.observation}: make it as tabular/ID, as in xplore.make('tabular/DeepSea-10-v0')"
        )
    num, layers = env.observation.num, env.num_layers
    if horizon_steps < 0:
        raise ConfigError(f"{agent}: horizon_steps is {horizon_steps}: it must not be negative")
    if layers and num % layers:
        raise ConfigError(
            f"{agent}: the {num} states of {env.name} do not divide into its {layers} layers"
        )
    horizon = layers or horizon_steps or env.max_steps
    if not horizon:
        raise ConfigError(
            f"{agent} plans for a finite horizon and {env.name} has no time limit: give"
            " horizon_steps, such as horizon_steps=100"
        )
    found = Layout(num, env.action.num, horizon, bool(layers))
    entries = found.horizon * found.num_local * found.num_actions
    if entries > _MOST_ENTRIES:
        raise ConfigError(
            f"{agent}: a table of {horizon} steps by {found.num_local} states by"
            f" {found.num_actions} actions has {entries:,} entries, above {_MOST_ENTRIES:,}: give a"
            " shorter horizon_steps, or choose a smaller environment"
        )
    return found


class Extras(NamedTuple):
    """What acting leaves for learning: `time` int32 `[N]`, h of each step."""

    time: jax.Array


def pick(key: Key, values: jax.Array, *, ties_at_random: bool = True) -> jax.Array:
    """The index of the largest of `values` `[N, A]`, int32 `[N]`: one of them at random, or the
    first.
    """
    if not ties_at_random:
        return jnp.argmax(values, axis=-1).astype(jnp.int32)
    best = values >= jnp.max(values, axis=-1, keepdims=True)
    order = jnp.where(best, jax.random.bits(key, values.shape, jnp.uint16) + jnp.int32(1), 0)
    return jnp.argmax(order, axis=-1).astype(jnp.int32)


def act_by_table(
    key: Key,
    layout: Layout,
    q: jax.Array,
    clock: jax.Array,
    obs: jax.Array,
    first: jax.Array,
    *,
    ties_at_random: bool,
) -> tuple[jax.Array, jax.Array, Extras]:
    """Acts by the largest of `q` `[H, L, A]`; what `Agent.act` returns, the clock as its carry."""
    clock = jnp.where(first, 0, clock)
    time = layout.time(obs, clock)
    action = pick(key, q[time, obs % layout.num_local], ties_at_random=ties_at_random)
    return clock + 1, action, Extras(time)


class Step(NamedTuple):
    """One transition as numbers, int32, float32 and bool `[]`, or more of them `[T * N]`.

    Attributes:
        time: h.
        state: local number of the state.
        row: the state's own number: its row in what is learned of the dynamics.
        action: what was done.
        reward: with the intrinsic reward.
        successor: local number of the successor, L where the episode terminated.
    """

    time: jax.Array
    state: jax.Array
    row: jax.Array
    action: jax.Array
    reward: jax.Array
    successor: jax.Array


def steps(
    layout: Layout, traj: Trajectory, r_int: jax.Array, intrinsic_weight: float | jax.Array
) -> Step:
    """The transitions of a rollout in time order, envs in turn; leaves `[T * N]`."""
    num_local = layout.num_local
    found = Step(
        time=traj.extras.time,
        state=traj.obs % num_local,
        row=traj.obs,
        action=traj.action,
        reward=traj.reward + intrinsic_weight * r_int,
        successor=jnp.where(traj.terminated, num_local, traj.next_obs % num_local),
    )
    return jax.tree.map(lambda x: x.reshape(-1), found)


class Model(NamedTuple):
    """What was seen of the dynamics, over the rows of states; K successors are kept of each pair.

    A table of all successors would be S times as large, and planning as slow; few follow a state.

    Attributes:
        visits: int32 `[S, A]`.
        reward: float32 `[S, A]`, sums.
        successor: int32 `[S, A, K]`, local numbers, L for the end of the episode.
        counts: int32 `[S, A, K]`, how often each was seen; 0: free.
        missed: int32 `[]`, transitions to a successor beyond the K-th: their reward counts, where
            they led does not.
    """

    visits: jax.Array
    reward: jax.Array
    successor: jax.Array
    counts: jax.Array
    missed: jax.Array


def empty_model(layout: Layout, max_successors: int) -> Model:
    """A model of which nothing has been seen, K = `max_successors`."""
    pairs = (layout.num_states, layout.num_actions)
    slots = (*pairs, max_successors)
    return Model(
        visits=jnp.zeros(pairs, jnp.int32),
        reward=jnp.zeros(pairs, jnp.float32),
        successor=jnp.full(slots, layout.num_local, jnp.int32),
        counts=jnp.zeros(slots, jnp.int32),
        missed=jnp.zeros((), jnp.int32),
    )


def observe(model: Model, seen: Step) -> Model:
    """Counts the steps of a rollout, leaves `[T * N]`, one after the other."""

    def one(model: Model, x: Step) -> tuple[Model, None]:
        pair = (x.row, x.action)
        known, count = model.successor[pair], model.counts[pair]
        match = (known == x.successor) & (count > 0)
        free = count == 0
        slot = jnp.argmax(2 * match + free)  # its own, or the first free one
        fits = match[slot] | free[slot]
        return Model(
            visits=model.visits.at[pair].add(1),
            reward=model.reward.at[pair].add(x.reward),
            successor=model.successor.at[(*pair, slot)].set(
                jnp.where(fits, x.successor, known[slot])
            ),
            counts=model.counts.at[(*pair, slot)].add(fits.astype(jnp.int32)),
            missed=model.missed + ~fits,
        ), None

    return jax.lax.scan(one, model, seen)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Planned:
    """The state of a method that plans with what it has seen.

    Attributes:
        model: what has been seen.
        q: float32 `[H, L, A]`, what is acted by.
        estimate: float32 `[H, L, A]`, the same without bonus or noise: what `greedy()` acts by.
        updates: int32 `[]`, plans made.
        layout: of the tables.
    """

    model: Model
    q: jax.Array
    estimate: jax.Array
    updates: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})


def unplanned(spec: RunSpec, agent: str, horizon_steps: int, max_successors: int) -> Planned:
    """The state of a planner before its first plan.

    Raises:
        ConfigError: see `layout`; or `max_successors` is negative.
    """
    if max_successors < 0:
        raise ConfigError(f"{agent}: max_successors is {max_successors}: give a number, or 0")
    found = layout(spec, agent, horizon_steps)
    # Where nothing is random one successor is all there is.
    slots = max_successors or (8 if spec.env.stochastic else 1)
    zeros = jnp.zeros(found.shape, jnp.float32)
    return Planned(empty_model(found, slots), zeros, zeros, jnp.zeros((), jnp.int32), found)


def learn(
    state: Planned, traj: Trajectory, r_int: jax.Array, intrinsic_weight: float | jax.Array
) -> tuple[Planned, Metrics]:
    """Counts a rollout into `state.model`; what is planned stays."""
    model = observe(state.model, steps(state.layout, traj, r_int, intrinsic_weight))
    metrics = {
        "pairs_visited": jnp.sum(model.visits > 0),
        "successors_missed": model.missed,
    }
    return dataclasses.replace(state, model=model, updates=state.updates + 1), metrics
