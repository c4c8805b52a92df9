"""Our levels against those of the `minigrid` package: are they drawn from one distribution?

`python -m xplore.benchmarks.minigrid_levels results/minigrid` compares samples of every id by all
that `minigrid_statistics` measures: where everything is, in what colours and numbers, how it goes
together, rooms, walls, distances, what is asked for, and whether it can be done. No difference may
be found at an error rate of 1% for all statistics of all ids together. Ids already in the folder's
`levels.json` are not compared again.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import tyro

from xplore.benchmarks.homogeneity import homogeneity, p_values
from xplore.benchmarks.minigrid_parity import SLOW, minigrid_ids, package_env
from xplore.benchmarks.minigrid_reach import reach
from xplore.benchmarks.minigrid_statistics import Levels, statistics
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import list_envs, make
from xplore.envs.minigrid import cells, oracle
from xplore.envs.minigrid.engine import MiniGrid
from xplore.envs.minigrid.task import Level
from xplore.envs.minigrid.upstream import level_from_minigrid
from xplore.parts.levels import levels_from_ids

Array = npt.NDArray[Any]
# Which levels of an environment can be solved: bool `[n]`, or None: it cannot say.
Judge = Callable[[MiniGrid, Levels], Array | None]

FAMILY_WISE_ERROR: Final = 0.01
OURS_PER_THEIRS: Final = 4
# Far from seeds that levels of ours may have been made from.
_FIRST_SEED: Final = 1_500_000_000
# Levels solved at a time: some take the oracle tens of megabytes.
_CHUNK: Final = 16


class Comparison(NamedTuple):
    """What came of comparing an id's levels.

    Attributes:
        levels_of_package, levels_of_ours: in the samples.
        tests: statistics that could have told them apart.
        p_value: the smallest of theirs; statistic: whose it is.
        corrected: the same by Bonferroni, as Holm has it for the smallest, over the statistics of
            all ids of the file.
        reach_of_package, reach_of_ours: the rate of levels in which the goal, the doors and all
            things can be walked up to.
        judged: levels of each side that were solved exactly.
        solvable_of_package, solvable_of_ours: the rate of these that can be solved in time; None
            if the oracle cannot say.
        given_up_by_package: levels that the package gave up drawing, with an exception.
        seconds: the comparison took.
    """

    levels_of_package: int
    levels_of_ours: int
    tests: int
    p_value: float
    statistic: str
    corrected: float
    reach_of_package: float
    reach_of_ours: float
    judged: int
    solvable_of_package: float | None
    solvable_of_ours: float | None
    given_up_by_package: int
    seconds: float


def our_levels(env: MiniGrid, num_levels: int, *, first_id: int = 0) -> Levels:
    """The levels of `env` whose ids begin at `first_id`."""
    ids = jnp.arange(first_id, first_id + num_levels, dtype=jnp.uint32)

    @jax.jit
    def draw(ids: jax.Array) -> tuple[Level, jax.Array]:
        levels = levels_from_ids(env, ids).levels
        return levels, jax.vmap(lambda level: env.task.mission(level.extra))(levels)

    level, mission = jax.device_get(draw(ids))
    return _of(env, level, mission)


def their_levels(
    theirs: Any, env: MiniGrid, num_levels: int, *, first: int = 0
) -> tuple[Levels, int]:
    """Levels of the package, with what `env` of ours keeps of them; how many it gave up."""
    levels: list[Level] = []
    missions: list[int] = []
    seed = _FIRST_SEED + first
    while len(levels) < num_levels:
        seed += 1
        try:
            theirs.reset(seed=seed)
        except (RecursionError, RuntimeError):  # it found no place for something
            continue
        level = level_from_minigrid(theirs, env.task)
        levels.append(jax.tree.map(np.asarray, level))
        missions.append(env.task.missions.index(theirs.mission))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *levels)
    return _of(env, stacked, np.array(missions)), seed - _FIRST_SEED - first - num_levels


def _of(env: MiniGrid, level: Level, mission: Array) -> Levels:
    grid = np.asarray(level.grid).reshape(-1, env.task.height, env.task.width)
    position, direction = (np.asarray(x, np.int64) for x in (level.position, level.direction))
    mission = np.asarray(mission, np.int64)
    words = _words(env.task.missions)[mission]
    return Levels(grid, position, direction, mission, words, level.extra)


def _words(sentences: tuple[str, ...]) -> Array:
    """The words of each sentence `[m, k]` as numbers, from the last, where sentences differ."""
    split = [sentence.replace(",", "").split()[::-1] for sentence in sentences]
    longest = max(len(words) for words in split)
    known = [*cells.COLOURS, *sorted({word for words in split for word in words})]
    columns = []
    for i in range(longest):
        said = [words[i] if i < len(words) else "" for words in split]
        if len(set(said)) > 1:
            columns.append([known.index(word) if word else len(known) for word in said])
    return np.array(columns, np.int64).reshape(-1, len(sentences)).T


def different(levels: Levels) -> Levels:
    """The first of all levels that have the same walls.

    Where a sample is drawn from a bank of levels, what comes twice says nothing twice.
    """
    walls = (levels.grid >> 3 == cells.WALL).reshape(len(levels.grid), -1)
    _, first = np.unique(np.packbits(walls, axis=1), axis=0, return_index=True)
    return _part(levels, np.sort(first))


def compare(
    id: str,
    num_levels: int,
    *,
    num_judged: int = 0,
    judge: Judge | None = None,
    pictures: Path | None = None,
) -> Comparison:
    """Compares `num_levels` of the package with four times as many of ours.

    Args:
        id: of both sides.
        num_levels: of the package.
        num_judged: the most levels of each side to be solved.
        judge: says which of them can be; None: the oracle.
        pictures: see `package_env`.
    """
    begun = time.perf_counter()
    env = make(id)
    assert isinstance(env, MiniGrid)
    theirs, given_up = their_levels(package_env(id, pictures), env, num_levels)
    ours = our_levels(env, OURS_PER_THEIRS * num_levels)
    if id.startswith(SLOW):
        ours = different(ours)
    p = differences(ours, theirs)
    can_reach = [float(reach(side.grid, side.position).mean()) for side in (ours, theirs)]
    judged = [
        (judge or solved)(env, _part(side, slice(num_judged))) if num_judged else None
        for side in (ours, theirs)
    ]
    rates = [None if can is None else float(can.mean()) for can in judged]
    if judged[0] is not None and judged[1] is not None:
        p["solvable"] = homogeneity(judged[0], judged[1])
    statistic = min(p, key=p.__getitem__, default="none varies")
    p_value = p.get(statistic, 1.0)
    return Comparison(
        levels_of_package=len(theirs.grid),
        levels_of_ours=len(ours.grid),
        tests=len(p),
        p_value=p_value,
        statistic=statistic,
        corrected=min(1.0, p_value * len(p)),
        reach_of_package=can_reach[1],
        reach_of_ours=can_reach[0],
        judged=0 if rates[0] is None else min(num_judged, num_levels),
        solvable_of_package=rates[1],
        solvable_of_ours=rates[0],
        given_up_by_package=given_up,
        seconds=time.perf_counter() - begun,
    )


def differences(ours: Levels, theirs: Levels, *, seed: int = 0) -> dict[str, float]:
    """The p-value of every statistic of two samples of levels, smallest first."""
    both = [
        jax.tree.map(lambda a, b: np.concatenate([a, b]), *pair)
        for pair in zip(ours, theirs, strict=True)
    ]
    levels = Levels(*both)
    found = statistics(levels, np.random.default_rng(seed))
    found.unordered["reach"] = reach(levels.grid, levels.position)
    return p_values(found, np.arange(len(levels.grid)) < len(ours.grid))


def _part(levels: Levels, index: Any) -> Levels:
    return Levels(*(jax.tree.map(lambda x: x[index], field) for field in levels))


def solved(env: MiniGrid, levels: Levels) -> Array | None:
    """Whether success is possible within the time limit, exactly; None: the oracle cannot say."""
    num = len(levels.grid)
    parts = []
    for start in range(0, num, _CHUNK):
        # Every part has the same size, so that one program does for all.
        index = np.minimum(np.arange(start, start + _CHUNK), num - 1)
        part = _part(levels, index)
        position, direction = (jnp.asarray(x, jnp.int32) for x in (part.position, part.direction))
        grid = jnp.asarray(part.grid.reshape(len(index), -1))
        level = Level(grid, position, direction, part.extra)
        try:
            parts.append(np.asarray(_solve(env, level))[: num - start])
        except ConfigError:
            return None
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=0)
def _solve(env: MiniGrid, levels: Level) -> jax.Array:
    return jax.vmap(lambda level: oracle.solve(env, level).solvable)(levels)


def corrected(found: dict[str, Any]) -> dict[str, Any]:
    """The records with their smallest p-values corrected for the tests of all."""
    tests = sum(record["tests"] for record in found.values())
    return {
        id: {**record, "corrected": min(1.0, record["p_value"] * tests)}
        for id, record in sorted(found.items())
    }


def main(
    folder: tyro.conf.Positional[Path],
    ids: tuple[str, ...] = (),
    levels: int = 2000,
    slow_levels: int = 2000,
    judged: int = 200,
    pictures: Path | None = None,
) -> None:
    """Compares `ids` (all of both sides without any) and keeps `levels.json` in `folder`.

    Args:
        folder: of the file.
        ids: to compare.
        levels: of the package, of each id; of ours four times as many.
        slow_levels: the same for ids whose levels the package takes long to draw (WFC).
        judged: of each side, the most to be solved.
        pictures: a folder with those of the package's WFC presets; without it, ours.
    """
    path = folder / "levels.json"
    folder.mkdir(parents=True, exist_ok=True)
    ours = set(list_envs())
    for id in ids or [id for id in minigrid_ids() if id in ours]:
        if id not in _read(path):
            num_levels = slow_levels if id.startswith(SLOW) else levels
            found = compare(id, num_levels, num_judged=judged, pictures=pictures)
            # Another may have added to the file meanwhile.
            known = corrected({**_read(path), id: found._asdict()})
            path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            print(
                f"{id}: {found.tests} tests, p {found.p_value:.1e} ({found.statistic}),"
                f" {found.seconds:.0f} s",
                flush=True,
            )
    known = _read(path)
    unlike = [id for id, record in known.items() if record["corrected"] < FAMILY_WISE_ERROR]
    tests = sum(record["tests"] for record in known.values())
    print(f"{len(known)} ids, {tests:,} tests; unlike the package: {', '.join(unlike) or 'none'}")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    tyro.cli(main)
