"""Pictures of states and films of episodes, for tasks that can be drawn: those of MiniGrid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from PIL import Image

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Agent, Environment, Key, PyTree
from xplore.envs.families.world import GridFamily
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.render import picture
from xplore.parts.levels import level_from_id
from xplore.parts.play import choose, select, tell_reward
from xplore.record.files import new_file, unwritable, writable_folder

TILE_SIZES = (3, 64)
FRAME_RATES = (1, 50)  # browsers slow down a GIF that asks for more
_LAST_FRAME_MS = 1500
_PICTURES_AT_ONCE = 16


class Episode(NamedTuple):
    """One episode as it was played.

    Attributes:
        states: leaves `[T + 1, ...]`, from the first state to the last; after the episode's end the
            last one is repeated.
        length: int32 `[]`, its steps, at most T.
        total: float32 `[]`, its return.
        success: bool `[]`, whether the task was accomplished.
        ended: bool `[]`, whether it ended within T steps.
    """

    states: PyTree
    length: jax.Array
    total: jax.Array
    success: jax.Array
    ended: jax.Array


def drawable(env: Environment, tile_size: int) -> MiniGrid:
    """Returns `env`, if its states can be drawn with tiles of `tile_size` pixels.

    Raises:
        ConfigError: it is no task of MiniGrid, or the tiles are too small or too large.
    """
    if isinstance(env, GridFamily):
        env = env.engine
    if not isinstance(env, MiniGrid):
        raise ConfigError(
            f"{env.spec().name} cannot be drawn: pictures are made of tasks of MiniGrid alone"
        )
    if not TILE_SIZES[0] <= tile_size <= TILE_SIZES[1]:
        raise ConfigError(
            f"tile_size is {tile_size}: it must be {TILE_SIZES[0]} to {TILE_SIZES[1]} pixels"
        )
    return env


def render(env: Environment, state: PyTree, tile_size: int = 32) -> jax.Array:
    """A picture of a state, what the agent sees lit up, to the pixel as MiniGrid draws it.

    Pure: may be jitted, and vmapped over `state`.

    Args:
        env: a task of MiniGrid.
        state: of one env.
        tile_size: pixels of a side of a cell, 3 to 64.

    Returns:
        uint8 `[height * tile_size, width * tile_size, 3]`.

    Raises:
        ConfigError: it cannot be drawn.
    """
    grid = drawable(env, tile_size)
    shape = (grid.task.width, grid.task.height)
    through = grid.view.sees_through_walls(grid.task)
    return picture(shape, state, tile_size, grid.view.size, see_through_walls=through)


def record(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    level_id: jax.Array,
    *,
    key: Key,
    max_steps: int,
) -> Episode:
    """Plays the level `level_id` (uint32 `[]`) for `max_steps` steps or to the episode's end.

    Pure: may be jitted.
    """

    def one_step(loop: _Loop, key: Key) -> tuple[_Loop, PyTree]:
        key_act, key_env = jax.random.split(key)
        now = loop.episode
        one: PyTree = jax.tree.map(lambda x: x[None], (loop.obs, now.length == 0, now.states))
        obs, first, states = one
        carry, actions, _ = choose(agent, key_act, agent_state, loop.carry, obs, first, env, states)
        state, ts = env.step(key_env, now.states, jax.tree.map(lambda x: x[0], actions))
        carry = tell_reward(agent, carry, ts.reward[None])
        going_on = Episode(
            states=state,
            length=now.length + 1,
            total=now.total + ts.reward,
            success=now.success | ts.info["success"],
            ended=ts.terminated | ts.truncated,
        )
        # An ended episode stays where it was: what follows its end means nothing.
        episode, obs = select(now.ended, (now, loop.obs), (going_on, ts.obs))
        return _Loop(episode, obs, carry), episode.states

    key_reset, key = jax.random.split(key)
    state, obs = env.reset_to_level(key_reset, level_from_id(env, level_id))
    none = Episode(state, jnp.int32(0), jnp.float32(0), jnp.bool_(False), jnp.bool_(False))
    start = _Loop(none, obs, agent.initial_carry(1))
    last, states = jax.lax.scan(one_step, start, jax.random.split(key, max_steps))
    states = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), state, states)
    return last.episode._replace(states=states)


class _Loop(NamedTuple):
    """Between two steps; the `states` of `episode` are one state, the present one."""

    episode: Episode
    obs: PyTree
    carry: PyTree


def film(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    level_id: int | jax.Array,
    path: str | Path,
    *,
    key: Key,
    max_steps: int | None = None,
    tile_size: int = 32,
    frame_rate: int = 8,
) -> Episode:
    """Plays one episode on the level `level_id` and writes it to `path` as a GIF.

    The file appears whole or not at all, and takes the place of one of that name. The last picture
    stays longer.

    Args:
        env: a task of MiniGrid.
        agent: acts as it is; give `agent.greedy()` to film it without the noise it acts with.
        agent_state: what it has learned.
        level_id: `parts.levels.train_ids` and `held_out_ids` give ids.
        path: of the GIF; its folder is made if it is not there.
        key: consumed.
        max_steps: the film is cut here; by default the environment's own limit.
        tile_size: pixels of a side of a cell, 3 to 64.
        frame_rate: steps in a second, 1 to 50.

    Returns:
        The episode, its states as NumPy arrays `[length + 1, ...]`.

    Raises:
        ConfigError: the environment cannot be drawn, or a number is out of its range.
        ResultsError: `path` cannot be written.
    """
    limit = env.spec().max_steps
    check_film(env, path, limit if max_steps is None else max_steps, tile_size, frame_rate)
    steps = limit if max_steps is None else min(max_steps, limit)

    def play(agent_state: PyTree, level_id: jax.Array, key: Key) -> Episode:
        return record(env, agent, agent_state, level_id, key=key, max_steps=steps)

    episode = jax.device_get(jax.jit(play)(agent_state, jnp.uint32(level_id), key))
    num_frames = int(episode.length) + 1
    episode = episode._replace(states=jax.tree.map(lambda x: x[:num_frames], episode.states))
    _write(Path(path), pictures(env, episode.states, tile_size), num_frames, frame_rate)
    return episode


def check_film(
    env: Environment, path: str | Path, max_steps: int, tile_size: int, frame_rate: int
) -> None:
    """Says before an episode is played, or a policy trained for it, whether it can be filmed.

    Raises:
        ConfigError, ResultsError: as `film` does.
    """
    drawable(env, tile_size)
    if max_steps < 1:
        raise ConfigError(f"max_steps is {max_steps}: a film needs at least 1")
    if not FRAME_RATES[0] <= frame_rate <= FRAME_RATES[1]:
        raise ConfigError(
            f"frame_rate is {frame_rate}: it must be {FRAME_RATES[0]} to {FRAME_RATES[1]} a second"
        )
    target = Path(path)
    if target.suffix.lower() != ".gif" or target.is_dir():
        raise ConfigError(f"'{target}' is no name for a film: give a file that ends in .gif")
    writable_folder(target.parent)


def pictures(
    env: Environment, states: PyTree, tile_size: int = 32
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pictures of `states`, leaves `[n, ...]`, one after the other.

    They are made some at a time: a long film would fill the memory.
    """
    draw = jax.jit(jax.vmap(lambda state: render(env, state, tile_size)))
    num = len(jax.tree.leaves(states)[0])
    for begin in range(0, num, _PICTURES_AT_ONCE):
        index = np.arange(begin, begin + _PICTURES_AT_ONCE).clip(max=num - 1)  # one shape for all
        made = np.asarray(draw(jax.tree.map(lambda x, index=index: x[index], states)))
        yield from made[: num - begin]


def _write(
    path: Path, frames: Iterator[npt.NDArray[np.uint8]], num_frames: int, frame_rate: int
) -> None:
    images = (Image.fromarray(frame) for frame in frames)
    durations = [round(1000 / frame_rate)] * (num_frames - 1) + [_LAST_FRAME_MS]
    try:
        with new_file(path, replace=True) as stream:
            first = next(images)
            first.save(
                stream, "GIF", save_all=True, append_images=images, duration=durations, loop=0
            )
    except OSError as error:
        raise unwritable(path, error) from error
