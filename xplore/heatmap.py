"""Where a run goes and what its bonus pays there, cell by cell, over training time."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import (
    Bonus,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    PyTree,
    RunSpec,
    Trajectory,
)
from xplore.envs.families.world import GridFamily
from xplore.envs.minigrid.engine import MiniGrid
from xplore.loop import rollout as ro
from xplore.loop.config import Config
from xplore.loop.update import TrainState, make_train
from xplore.parts.levels import levels_from_ids, train_ids


@final
@component
class PerCell:
    """Another bonus, unchanged; its state also sums visits and pay over each position."""

    bonus: Bonus

    def reads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.bonus.reads(), "position")))

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        space = spec.env.privileged["position"]
        assert isinstance(space, Discrete)
        nothing = jnp.zeros(space.num, jnp.float32)
        return self.bonus.init(key, spec), nothing, nothing

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        inner, visits, paid = state
        inner, r_int = self.bonus.reward(inner, traj)
        cell = traj.next_privileged["position"]
        return (inner, visits.at[cell].add(1.0), paid.at[cell].add(r_int)), r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        inner, visits, paid = state
        inner, metrics = self.bonus.update(key, inner, traj)
        return (inner, visits, paid), metrics


@final
@component
class OneLevel:
    """A world sampler of one level, number `level`, as `xplore play` counts them."""

    level: int = 0

    def init(self, key: Key, env: Environment) -> PyTree:
        return ()

    def sample(
        self, key: Key, state: PyTree, env: Environment, num_levels: int
    ) -> tuple[PyTree, LevelBatch]:
        index = jnp.full(num_levels, self.level, jnp.uint32)
        return state, levels_from_ids(env, train_ids(0, index))

    def update(self, state: PyTree, batch: LevelBatch, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return state, {}


class Heat(NamedTuple):
    """What was seen in each of K slices of a run.

    Attributes:
        visits: float32 `[K, H, W]`, how often each cell was entered.
        paid: float32 `[K, H, W]`, the mean bonus of entering it; NaN where it never was.
        env_steps: `[K]`, env steps done at the end of each slice.
    """

    visits: npt.NDArray[np.float32]
    paid: npt.NDArray[np.float32]
    env_steps: tuple[int, ...]


def grid_shape(env: Environment) -> tuple[int, int]:
    """`(height, width)` of the map of an environment's positions.

    Raises:
        ConfigError: the environment does not tell a position.
    """
    spec = env.spec()
    space = dict(spec.privileged.items).get("position")
    if not isinstance(space, Discrete):
        raise ConfigError(
            f"{spec.name} does not tell where the agent is, so that there is no map of it: choose"
            " a grid task, such as MiniGrid-FourRooms-v0 or DeepSea-20-v0"
        )
    grid = minigrid_within(env)
    if grid is not None:
        return grid.task.height, grid.task.width
    side = math.isqrt(space.num)
    return (side, side) if side * side == space.num else (1, space.num)


def minigrid_within(env: Any) -> MiniGrid | None:
    """The MiniGrid task that `env` is, or wraps."""
    if isinstance(env, MiniGrid):
        return env
    if isinstance(env, GridFamily):
        return env.engine
    fields = dataclasses.fields(env) if dataclasses.is_dataclass(env) else ()
    inner = [getattr(env, field.name) for field in fields if field.name == "env"]
    return minigrid_within(inner[0]) if inner else None


def measure_heat(config: Config, *, seed: int = 0, num_slices: int = 5) -> tuple[Heat, TrainState]:
    """Trains one seed and sums up `num_slices` equal parts of its run.

    Args:
        config: of the run; give it a `fixed` world sampler of one level for a map of that level.
        seed: of the run.
        num_slices: K.

    Returns:
        What was seen, and the final state of the run, its bonus that of `PerCell`.

    Raises:
        ConfigError: there is no map, or fewer updates than slices.
    """
    shape = grid_shape(config.env)
    whole = config.budget_steps // config.steps_per_update
    if num_slices < 1 or whole < num_slices:
        raise ConfigError(
            f"a run of {whole} updates cannot be shown in {num_slices} slices: give between 1 and"
            f" {whole}, or a larger budget"
        )
    watched: Any = PerCell(config.bonus)
    train = make_train(replace(config, bonus=watched))

    def advance(state: TrainState, updates: jax.Array) -> TrainState:
        return jax.lax.fori_loop(0, updates, lambda _, s: train.update(s)[0], state)

    run = jax.jit(advance, donate_argnums=0)
    state = jax.jit(train.init)(jax.random.key(seed))
    edges = np.linspace(0, whole, num_slices + 1).round().astype(int)
    before = np.zeros((2, *shape), np.float32)
    visits, paid = [], []
    for count in np.diff(edges):
        state = run(state, jnp.int32(count))
        now = np.stack([np.asarray(x).reshape(shape) for x in state.bonus[1:]])
        visits.append(now[0] - before[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            paid.append((now[1] - before[1]) / visits[-1])
        before = now
    steps = tuple(int(e) * config.steps_per_update for e in edges[1:])
    return Heat(np.stack(visits), np.stack(paid), steps), state


class Trace(NamedTuple):
    """One episode with what its steps were paid: states `[T + 1, ...]`, the others `[T]`."""

    states: PyTree
    reward: npt.NDArray[np.float32]
    r_int: npt.NDArray[np.float32]


def trace_episode(config: Config, state: TrainState, *, level: int = 0, seed: int = 0) -> Trace:
    """Plays an episode as the trained agent does, and scores it as the trained bonus would.

    All envs of the run begin the level `level` together, and the first env's episode is told: what
    episodic memories and lifelong counts see is what they see in training.

    Args:
        config: as it was trained, its bonus unwrapped.
        state: as `measure_heat` leaves it.
        level: number of the level, as in `xplore play`.
        seed: of what the agent draws.

    Raises:
        ConfigError: steps draw at random, so that an episode cannot be played again for its states,
            or episodes have no time limit.
    """
    env, spec = config.env, config.env.spec()
    if spec.stochastic or spec.max_steps < 1:
        raise ConfigError(
            f"{spec.name} {'draws at random in its steps' if spec.stochastic else 'has no end'}:"
            " an episode is traced where steps are deterministic and a time limit is set"
        )
    ids = train_ids(0, jnp.full(config.num_envs, level, jnp.uint32))
    watched = PerCell(config.bonus)
    reads = watched.reads()

    @jax.jit
    def play(state: TrainState, key: Key) -> tuple[PyTree, ...]:
        key_start, key_play = jax.random.split(key)
        starts = ro.start(env, reads, key_start, levels_from_ids(env, ids))
        carry = config.agent.initial_carry(config.num_envs)
        _, _, traj, _ = ro.rollout(
            key_play, env, config.agent, reads, state.agent, carry, starts, starts, spec.max_steps
        )
        _, r_int = watched.reward(state.bonus, traj)
        first = jax.tree.map(lambda x: x[0], starts.state)

        def again(now: PyTree, action: PyTree) -> tuple[PyTree, PyTree]:
            now, _ = env.step(key_play, now, action)
            return now, now

        _, states = jax.lax.scan(again, first, jax.tree.map(lambda x: x[:, 0], traj.action))
        states = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, states)
        ended = (traj.terminated | traj.truncated)[:, 0]
        return states, traj.reward[:, 0], r_int[:, 0], jnp.argmax(ended) + 1

    states, reward, r_int, length = jax.device_get(play(state, jax.random.key(seed)))
    kept = jax.tree.map(lambda x: x[: length + 1], states)
    return Trace(kept, reward[:length], r_int[:length])


def heat_path(path: str | Path, *endings: str) -> Path:
    """`path`, if it ends as it should.

    Raises:
        ConfigError: it does not.
    """
    target = Path(path)
    if target.suffix.lower() not in endings or target.is_dir():
        named = " or ".join(endings)
        raise ConfigError(
            f"'{target}' is no name for this picture: give a file that ends in {named}"
        )
    return target
