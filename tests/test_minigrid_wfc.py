"""Banks of WFC layouts: where they come from, and that the package makes the same."""

from __future__ import annotations

import functools
import hashlib
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from minigrid.envs.wfc import wfcenv
from minigrid.envs.wfc.wfclogic import adjacency, control, solver
from scipy import ndimage

from xplore.benchmarks import minigrid_wfc, minigrid_wfc_pictures
from xplore.benchmarks.minigrid_wfc import generator, make_bank, walls_of, walls_of_seed
from xplore.benchmarks.minigrid_wfc_faster import faster
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import list_envs, make
from xplore.envs.minigrid import cells, wfc_bank
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.wfc import WaveFunctionCollapse
from xplore.parts.levels import levels_from_ids

Array = npt.NDArray[Any]
PRESETS = wfc_bank.PRESETS
QUICK = "ObstaclesBlackdots"
package = functools.cache(lambda preset: generator(preset, None))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_bank_says_where_it_comes_from(preset: str) -> None:
    walls, origin = wfc_bank.read(wfc_bank.path(preset))
    _, made_now = package(preset)
    assert {key: origin[key] for key in made_now} == made_now
    pixels = minigrid_wfc_pictures.pixels(origin["picture"])
    assert origin["picture_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
    assert "not compared" in origin["picture_from"]
    assert origin["num_seeds"] == len(walls) + len(origin["seeds_without_level"])
    assert len(walls) >= 1_000


@pytest.mark.parametrize("preset", PRESETS)
def test_a_bank_is_of_layouts_whose_free_cells_hang_together(preset: str) -> None:
    walls, _ = wfc_bank.read(wfc_bank.path(preset))
    parts = [ndimage.label(~layout)[1] for layout in walls]
    assert set(parts) == {1}
    assert ((~walls).sum((1, 2)) > 1).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_bank_is_what_the_package_makes(preset: str) -> None:
    walls, origin = wfc_bank.read(wfc_bank.path(preset))
    env, _ = package(preset)
    seed = next(i for i in itertools.count() if i not in origin["seeds_without_level"])
    env.reset(seed=seed)
    np.testing.assert_array_equal(walls_of(env), walls[0])
    np.testing.assert_array_equal(walls_of_seed(env, seed), walls[0])


@pytest.mark.parametrize("preset", [QUICK, pytest.param("ObstaclesHogs3", marks=pytest.mark.slow)])
def test_the_faster_way_makes_the_same(preset: str) -> None:
    env, _ = package(preset)
    env.reset(seed=1)
    mine = env.grid.encode(), env.agent_pos, env.agent_dir
    plain = type(env).__mro__[1](wfc_config=env.config)
    assert "Faster" not in type(plain).__name__
    plain.reset(seed=1)
    np.testing.assert_array_equal(plain.grid.encode(), mine[0])
    assert (plain.agent_pos, plain.agent_dir) == mine[1:]


@pytest.mark.parametrize("axis", [0, 1])
def test_of_two_parts_of_one_size_the_packages_is_kept(
    axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.full((wfc_bank.SIDE, wfc_bank.SIDE, 3), 255, np.uint8)
    np.moveaxis(picture, axis, 0)[wfc_bank.SIDE // 2] = 0
    for module in (control, wfcenv):
        monkeypatch.setattr(module, "execute_wfc", lambda **_: (picture, {}))
    env, _ = package(QUICK)
    env.reset(seed=0)
    assert walls_of(env).mean() > 0.5
    np.testing.assert_array_equal(walls_of_seed(env, 0), walls_of(env))


@pytest.mark.parametrize("periodic", [False, True])
def test_narrowing_is_the_packages(periodic: bool) -> None:
    """By random sets and adjacencies, of which many contradict each other."""
    slowly, key, outcomes = solver.propagate, np.random.default_rng(0), []
    for _ in range(60):
        num = int(key.integers(2, 12))
        rows = {way: key.random((num, num)) < 0.5 for way in [(0, 1), (1, 0)]}
        adj = rows | {(-y, -x): allowed.T for (y, x), allowed in rows.items()}
        wave = key.random((num, 5, 7)) < 0.9
        with faster():
            for _ in range(4):  # more is decided each time, as the package does
                theirs, ours = wave.copy(), wave.copy()
                failed = []
                for propagate, mine in ((slowly, theirs), (solver.propagate, ours)):
                    try:
                        propagate(mine, adj, periodic)
                        failed.append(False)
                    except solver.Contradiction:
                        failed.append(True)
                assert failed[0] == failed[1]
                outcomes.append(failed[0])
                if failed[0]:
                    break
                np.testing.assert_array_equal(ours, theirs)
                wave = ours
                y, x = key.integers(5), key.integers(7)
                chosen = key.choice(np.flatnonzero(wave[:, y, x]))
                wave[:, y, x] = np.arange(num) == chosen
    assert 0.1 < np.mean(outcomes) < 0.9
    assert solver.propagate is slowly
    assert vars(control)["adjacency_extraction"] is adjacency.adjacency_extraction


@pytest.mark.parametrize("preset", PRESETS)
def test_levels_are_a_banks_with_ends_of_their_own(preset: str) -> None:
    walls, _ = wfc_bank.read(wfc_bank.path(preset))
    known = {layout.tobytes() for layout in walls}
    env = make(f"MiniGrid-WFC-{preset}-v0")
    assert isinstance(env, MiniGrid)
    levels = jax.jit(lambda i: levels_from_ids(env, i).levels)(jnp.arange(200, dtype=jnp.uint32))
    grid = np.asarray(levels.grid).reshape(-1, env.task.height, env.task.width)
    drawn = grid[:, 1:-1, 1:-1] == cells.GREY_WALL
    assert {layout.tobytes() for layout in drawn} <= known
    assert len({layout.tobytes() for layout in drawn}) > 150
    assert ((grid == cells.GREEN_GOAL).sum((1, 2)) == 1).all()
    at_agent = grid.reshape(len(grid), -1)[np.arange(len(grid)), levels.position]
    assert (at_agent == cells.NOTHING).all()
    assert set(np.asarray(levels.direction).tolist()) == {0, 1, 2, 3}


def test_all_presets_are_ids() -> None:
    ours = {id for id in list_envs() if id.startswith("MiniGrid-WFC-")}
    assert ours == {f"MiniGrid-WFC-{preset}-v0" for preset in PRESETS}


def test_a_bank_is_gone_on_from_and_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = wfc_bank.path(QUICK, tmp_path)
    make_bank(file, QUICK, 2, None)
    made: list[int] = []

    def gives_up(env: Any, seed: int) -> Array:
        made.append(seed)
        if seed == 2:
            raise RuntimeError("no layout")
        return walls_of_seed(env, seed)

    monkeypatch.setattr(minigrid_wfc, "walls_of_seed", gives_up)
    make_bank(file, QUICK, 4, None)
    walls, origin = wfc_bank.read(file)
    assert (made, len(walls)) == ([2, 3], 3)
    assert (origin["num_seeds"], origin["seeds_without_level"]) == (4, [2])
    np.testing.assert_array_equal(walls[:2], wfc_bank.read(wfc_bank.path(QUICK))[0][:2])
    wfc_bank.write(file, walls, {**origin, "picture_sha256": "another"})
    with pytest.raises(ConfigError, match="another"):
        make_bank(file, QUICK, 5, None)
    with pytest.raises(ConfigError, match=r"Blackdots\.png is missing"):
        generator(QUICK, tmp_path)


def test_a_preset_must_be_known() -> None:
    with pytest.raises(ConfigError, match="ObstaclesHogs3"):
        WaveFunctionCollapse("Hogs")
