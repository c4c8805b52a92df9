"""Step for step, our MiniGrid is upstream's: all that is observed, and all that comes of a step.

The same comparison over many more levels is `python -m xplore.benchmarks.minigrid_parity`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, final

import jax
import numpy as np
import pytest
from minigrid.core import world_object
from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.minigrid_env import MiniGridEnv

from xplore.benchmarks.minigrid_parity import compare, compare_envs, minigrid_ids, upstream_env
from xplore.contracts.component import component
from xplore.contracts.registry import list_envs, make
from xplore.envs.minigrid import cells, render
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.task import Task
from xplore.envs.minigrid.upstream import level_from_minigrid, thing_from_byte

# Not typed upstream.
things: Any = world_object
DOOR_STATES = ((True, False), (False, False), (False, True))
SHARED = [id for id in minigrid_ids() if id in list_envs()]
ignore_legacy_ids = pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")


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
class OfSize(Task):
    """Says the size of a grid; its levels come from elsewhere."""

    columns: int
    rows: int

    @property
    def name(self) -> str:
        return "test"

    @property
    def width(self) -> int:
        return self.columns

    @property
    def height(self) -> int:
        return self.rows

    @property
    def max_steps(self) -> int:
        return 100

    @property
    def missions(self) -> tuple[str, ...]:
        return ("",)


def one_of_each_family() -> list[str]:
    families: dict[str, str] = {}
    for id in SHARED:
        families.setdefault(str(type(make(id).task)), id)  # type: ignore[attr-defined]
    return sorted(families.values())


@ignore_legacy_ids
@pytest.mark.parametrize("id", one_of_each_family())
def test_a_family_steps_as_upstream(id: str) -> None:
    parity = compare(id, 4, 100)
    assert (parity.mismatches, parity.what_differed) == (0, ())
    assert parity.steps == 8 * 2 * 100


@pytest.mark.slow
@ignore_legacy_ids
@pytest.mark.parametrize("id", SHARED)
def test_every_id_steps_as_upstream(id: str) -> None:
    parity = compare(id, 6, 200, seed=1)
    assert (parity.mismatches, parity.what_differed) == (0, ())


def test_steps_are_upstreams_among_every_kind_of_thing() -> None:
    ours = MiniGrid(OfSize(12, 9))
    parity = compare_envs(Clutter(), ours, 60, 0, 120)
    assert (parity.mismatches, parity.what_differed) == (0, ())
    assert parity.episodes > 20


@pytest.mark.parametrize("what", ["grid", "position", "direction"])
def test_the_comparison_sees_a_difference(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative control: our level is not quite the one the package plays."""
    from xplore.benchmarks import minigrid_parity

    def spoilt(env: Any, task: Task | None = None) -> Any:
        level = level_from_minigrid(env, task)
        bad = {
            "grid": level.grid.at[13].set(level.grid[14]).at[14].set(level.grid[13]),
            "position": level.position + 1,
            "direction": (level.direction + 1) % 4,
        }
        return level._replace(**{what: bad[what]})

    def play(theirs: Any, ours: MiniGrid, level: Any, *rest: Any) -> Any:
        theirs.reset(seed=0)
        return minigrid_parity_play(theirs, ours, level_from_minigrid(theirs, ours.task), *rest)

    minigrid_parity_play = minigrid_parity._play
    monkeypatch.setattr(minigrid_parity, "level_from_minigrid", spoilt)
    monkeypatch.setattr(minigrid_parity, "_play", play)
    ours = make("MiniGrid-DoorKey-5x5-v0")
    assert isinstance(ours, MiniGrid)
    parity = compare_envs(upstream_env("MiniGrid-DoorKey-5x5-v0"), ours, 1, 0, 20)
    assert parity.mismatches > 0


@pytest.mark.parametrize("size", [8, pytest.param(32, marks=pytest.mark.slow)])
def test_tiles_are_upstreams_to_the_pixel(size: int) -> None:
    kinds = (
        cells.FLOOR, cells.KEY, cells.BALL, cells.BOX, cells.WALL,
        cells.OPEN_DOOR, cells.CLOSED_DOOR, cells.LOCKED_DOOR,
    )  # fmt: skip
    bytes_ = [cells.cell(kind, colour) for kind in kinds for colour in range(6)]
    bytes_ += [cells.NOTHING, cells.GREEN_GOAL, cells.cell(cells.LAVA, cells.RED)]
    tiles = render.tiles(size)
    for byte in bytes_:
        for agent in range(render.NO_AGENT + 1):
            for lit in (False, True):
                direction = None if agent == render.NO_AGENT else agent
                theirs = Grid.render_tile(thing_from_byte(byte), direction, lit, size)
                np.testing.assert_array_equal(tiles[int(lit), agent, byte], theirs.astype(np.uint8))


@pytest.mark.parametrize("id", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-Empty-Random-6x6-v0"])
def test_pictures_are_upstreams_to_the_pixel(id: str) -> None:
    theirs, ours = upstream_env(id), make(id)
    assert isinstance(ours, MiniGrid)
    task = ours.task
    shape = task.width, task.height
    through = task.see_through_walls
    for seed in range(5):
        theirs.reset(seed=seed)
        state, _ = ours.reset_to_level(jax.random.key(0), level_from_minigrid(theirs, task))
        whole = render.picture(shape, state, 32, see_through_walls=through)
        np.testing.assert_array_equal(whole, theirs.get_frame(tile_size=32))
        plain = render.picture(shape, state, 32, see_through_walls=through, highlight=False)
        np.testing.assert_array_equal(plain, theirs.get_frame(tile_size=32, highlight=False))
        seen = View(image="rgb").observe(task, state)
        np.testing.assert_array_equal(seen, theirs.get_frame(tile_size=8, agent_pov=True))


def test_the_published_comparison_found_no_difference() -> None:
    path = Path(__file__).parents[1] / "results" / "minigrid" / "parity.json"
    if not path.exists():
        pytest.skip("results/minigrid is not published yet")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(found) == SHARED
    assert all(p["mismatches"] == 0 and p["steps"] >= 240_000 for p in found.values())
