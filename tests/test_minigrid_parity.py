"""Step for step, our MiniGrid is upstream's: grid, view, agent, reward and end of every step."""

from __future__ import annotations

from typing import Any, cast, final

import gymnasium
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  (registers its environments)
import numpy as np
import pytest
from minigrid.core import world_object
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.minigrid_env import MiniGridEnv

from xplore.contracts.component import component
from xplore.contracts.registry import make
from xplore.envs.minigrid import engine
from xplore.envs.minigrid.engine import Level, MiniGrid
from xplore.envs.minigrid.upstream import level_from_minigrid, snapshot

# Not typed upstream.
things: Any = world_object

FAMILIES = {
    "MiniGrid-Empty-Random-6x6-v0": 80,
    "MiniGrid-DoorKey-8x8-v0": 40,
    "MiniGrid-FourRooms-v0": 32,
    "MiniGrid-MultiRoom-N4-S5-v1": 60,
}
NUM_STEPS = 120
DOOR_STATES = ((True, False), (False, False), (False, True))


class Clutter(MiniGridEnv):
    """Everything that exists, everywhere, in a grid that is not square."""

    def __init__(self) -> None:
        mission = MissionSpace(mission_func=lambda: "")
        super().__init__(mission_space=mission, width=12, height=9, max_steps=100)

    def _thing(self) -> Any:
        colour = self._rand_color()
        hidden = self._rand_color()
        content = self._rand_elem([None, things.Key(hidden), things.Ball(hidden)])
        doors = [things.Door(colour, is_open=o, is_locked=k) for o, k in DOOR_STATES]
        ends = [things.Lava(), things.Goal()] if self._rand_int(0, 6) == 0 else []
        boxes = [things.Box(colour, content), things.Box(colour)]
        others = [things.Wall(), things.Key(colour), things.Ball(colour), things.Floor(colour)]
        return self._rand_elem([*doors, *ends, *boxes, *others])

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        for _ in range(28):
            self.place_obj(self._thing())
        cast(Any, self).place_agent()


@final
@component
class OfSize:
    """Says the size of a grid; its levels come from elsewhere."""

    width: int
    height: int
    name: str = "test"

    def sample_level(self, key: jax.Array) -> Level:
        raise NotImplementedError


def wise_action(env: Any, key: np.random.Generator) -> int:
    """Random, but likelier to do something with what is in front, so that doors are passed."""
    ahead = env.grid.get(*env.front_pos)
    if key.random() < 0.6:
        if ahead is not None and ahead.type == "door" and not ahead.is_open:
            return engine.TOGGLE
        if ahead is not None and ahead.can_pickup():
            return engine.PICK_UP if key.random() < 0.7 else engine.TOGGLE
        if ahead is None and env.carrying and key.random() < 0.2:
            return engine.DROP
        if ahead is None or (ahead.can_overlap() and ahead.type != "lava"):
            return engine.FORWARD
    return int(key.choice(7, p=[0.25, 0.25, 0.25, 0.07, 0.04, 0.07, 0.07]))


def play_upstream(env: Any, num_levels: int) -> tuple[list[Level], list[dict[str, Any]]]:
    """Plays an episode in each level; a record per level of arrays over its steps."""
    key = np.random.default_rng(0)
    levels, records = [], []
    for seed in range(num_levels):
        obs, _ = env.reset(seed=seed)
        levels.append(level_from_minigrid(env))
        steps: list[dict[str, Any]] = []
        first = obs["image"]
        while len(steps) < NUM_STEPS:
            action = wise_action(env, key)
            obs, reward, terminated, truncated, _ = env.step(action)
            held = env.carrying
            steps.append(
                {
                    "action": action,
                    "image": obs["image"],
                    "grid": env.grid.encode(),
                    "agent": (*env.agent_pos, env.agent_dir),
                    "carrying": held.encode() if held else (0, 0, 0),
                    "reward": reward,
                    "terminated": terminated,
                    "truncated": truncated,
                }
            )
            if terminated or truncated:
                break
        record = {name: np.array([s[name] for s in steps]) for name in steps[0]}
        records.append({"first": first, **record})
    return levels, records


def assert_same_steps(env: MiniGrid, levels: list[Level], records: list[dict[str, Any]]) -> int:
    """Replays the recorded actions in ours, all levels at once; returns the steps compared."""
    key = jax.random.key(0)

    @jax.jit
    @jax.vmap
    def replay(level: Level, actions: jax.Array) -> Any:
        def one_step(state: engine.State, action: jax.Array) -> Any:
            state, step = env.step(key, state, action)
            return state, (state, step)

        state, obs = env.reset_to_level(key, level)
        return obs, jax.lax.scan(one_step, state, actions)[1]

    actions = np.zeros((len(levels), NUM_STEPS), np.int32)
    for row, record in zip(actions, records, strict=True):
        row[: len(record["action"])] = record["action"]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *levels)
    first, (states, ours) = jax.device_get(replay(batch, actions))

    for i, record in enumerate(records):
        length = len(record["action"])
        np.testing.assert_array_equal(first[i], record["first"])
        np.testing.assert_array_equal(ours.obs[i, :length], record["image"])
        np.testing.assert_array_equal(ours.terminated[i, :length], record["terminated"])
        np.testing.assert_array_equal(ours.truncated[i, :length], record["truncated"])
        np.testing.assert_allclose(ours.reward[i, :length], record["reward"], rtol=1e-6)
        np.testing.assert_array_equal(ours.info["success"][i, :length], record["reward"] > 0)
        for t in range(length):
            now = snapshot(env, jax.tree.map(lambda x: x[i, t], states))  # noqa: B023
            np.testing.assert_array_equal(now["grid"], record["grid"][t])
            assert (*now["agent_pos"], now["agent_dir"]) == tuple(record["agent"][t])
            assert (now["carrying"] or (0, 0, 0)) == tuple(record["carrying"][t])
            assert now["step_count"] == t + 1
    return sum(len(record["action"]) for record in records)


@pytest.mark.parametrize(("id", "num_levels"), FAMILIES.items())
def test_steps_are_upstreams(id: str, num_levels: int) -> None:
    theirs: Any = gymnasium.make(id).unwrapped
    ours = make(id)
    assert isinstance(ours, MiniGrid)
    assert (ours.generator.width, ours.generator.height) == (theirs.width, theirs.height)
    levels, records = play_upstream(theirs, num_levels)
    num_steps = assert_same_steps(ours, levels, records)
    assert num_steps > 2000
    assert any(r["terminated"][-1] for r in records) or "Multi" in id
    if "Door" in id or "Multi" in id:  # the play went through doors
        opened = [(r["grid"][-1][..., 2] != r["grid"][0][..., 2]).any() for r in records]
        assert sum(opened) > 10


def test_steps_are_upstreams_among_every_kind_of_thing() -> None:
    theirs = Clutter()
    levels, records = play_upstream(theirs, 60)
    seen = {tuple(v) for r in records for v in r["image"][..., 0:3:2].reshape(-1, 2)}
    assert {object for object, _ in seen} == set(range(10))  # every symbol but the agent's
    assert {(4, 0), (4, 1), (4, 2)} <= seen
    held = {int(v) for r in records for v in r["carrying"][:, 0]}
    assert held == {0, 5, 6, 7}
    assert_same_steps(MiniGrid(OfSize(12, 9), 100), levels, records)
