"""Heist, Miner, Chaser and Maze beside the games of Procgen: rules, and levels by many statistics.

`python -m xplore.benchmarks.procgen_levels results/procgen LEVELS.npz` compares what
`procgen_play levels` wrote (which runs elsewhere, see there) with four times as many levels of
ours, by the figures of the table and by all that `minigrid_statistics` measures. A difference
counts at an error rate of 1% for all statistics of all games together, corrected as Holm has it for
the smallest. Perfect mazes of ours are compared with Procgen's size by size, from its corner.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from xplore.benchmarks import procgen_boards as boards
from xplore.benchmarks import procgen_play as procgen
from xplore.benchmarks.homogeneity import homogeneity
from xplore.benchmarks.minigrid_levels import FAMILY_WISE_ERROR, OURS_PER_THEIRS, differences
from xplore.benchmarks.procgen_boards import Sample
from xplore.contracts.types import TimeStep
from xplore.envs.families import compass
from xplore.envs.families.maze import maze
from xplore.record.provenance import environment

_PLAYED: Final = 64
_CHUNK: Final = 500
_MANY: Final = 4  # rewards to be listed one by one


def compare(game: str, mode: str, drawn: dict[str, Any], most: int | None = None) -> dict[str, Any]:
    """All statistics of the levels of one mode of a game.

    Args:
        game: of Procgen.
        mode: "easy" or "hard".
        drawn: what `procgen_play.draw` made of it.
        most: of Procgen's levels, if not all.
    """
    begun = time.perf_counter()
    drawn = {name: array[:most] for name, array in drawn.items()}
    their = boards.theirs(game, drawn)
    found: dict[str, Any] = {"game": game, "mode": mode}
    if game == "miner":
        # Its exit may be where the agent is, which ends no episode before one has left and is back.
        apart = boards.goals(game, their) != their.position
        found["exit_at_agent_of_procgen"] = float(1 - apart.mean())
        their = Sample(their.grid[apart], their.position[apart])
    if game == "maze":
        sizes = boards.maze_sizes(drawn)
        our = boards.our_mazes(sizes, OURS_PER_THEIRS)
        found["sizes"] = _counts(sizes)
    else:
        our = boards.ours(game, mode, OURS_PER_THEIRS * len(their.grid))
        found |= _judged(game, mode, our, their)
    pair = [boards.as_minigrid(game, side) for side in (our, their)]
    shown = [boards.figures(game, side) for side in pair]
    found["figures"] = {
        name: {
            "ours": float(shown[0][name].mean()),
            "procgen": float(shown[1][name].mean()),
            "p_value": homogeneity(shown[0][name], shown[1][name], ordered=True),
        }
        for name in shown[0]
    }
    p = {name: figure["p_value"] for name, figure in found["figures"].items()}
    p |= differences(*pair)
    statistic = min(p, key=p.__getitem__)
    return found | {
        "levels_of_ours": len(our.grid),
        "levels_of_procgen": len(their.grid),
        "tests": len(p),
        "p_value": p[statistic],
        "statistic": statistic,
        "unlike": {n: x for n, x in p.items() if x * len(p) < FAMILY_WISE_ERROR},
        "seconds": time.perf_counter() - begun,
    }


def _judged(game: str, mode: str, our: Sample, their: Sample) -> dict[str, Any]:
    """Whether Procgen's levels are levels of ours, and how many steps both sides' take."""
    env = boards.family(game, mode)

    @jax.jit
    def judge(levels: Any) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(env.is_valid)(levels), jax.vmap(env.optimal_steps)(levels)

    found: dict[str, Any] = {}
    for name, side in (("ours", our), ("procgen", their)):
        levels = boards.as_levels(game, side)
        parts = []
        for first in range(0, len(side.grid), _CHUNK):
            index = np.minimum(np.arange(first, first + _CHUNK), len(side.grid) - 1)
            part = judge(jax.tree.map(lambda x, index=index: x[index], levels))
            parts.append([np.asarray(x)[: len(side.grid) - first] for x in part])
        valid, steps = (np.concatenate(x) for x in zip(*parts, strict=True))
        found[f"valid_of_{name}"] = float(valid.mean())
        found[f"fewest_steps_of_{name}"] = [float(np.mean(steps)), float(np.median(steps))]
    return found


def our_rules(game: str, mode: str) -> dict[str, Any]:
    """The time limit and the rewards that random play meets, of ours."""
    env: Any = maze(layout="kruskal") if game == "maze" else boards.family(game, mode)
    spec = env.spec()

    @jax.jit
    def play(key: jax.Array) -> jax.Array:
        key_level, key_run = jax.random.split(key)
        levels = jax.vmap(env.sample_level)(jax.random.split(key_level, _PLAYED))
        state, _ = jax.vmap(env.reset_to_level)(jax.random.split(key_level, _PLAYED), levels)

        def step(carry: Any, key: jax.Array) -> Any:
            state, over = carry
            actions = jax.random.randint(key, (_PLAYED,), 0, spec.action.num)
            state, ts = jax.vmap(env.step)(jax.random.split(key, _PLAYED), state, actions)
            reward = jnp.where(over, 0.0, ts.reward)
            return (state, over | ts.terminated | ts.truncated), reward

        begin = (state, jnp.zeros(_PLAYED, bool))
        return jax.lax.scan(step, begin, jax.random.split(key_run, spec.max_steps))[1]

    rewards = np.asarray(play(jax.random.key(0)))
    found = {
        "limit": spec.max_steps,
        "actions": spec.action.num,
        "rewards_at_random": _counts(np.round(rewards[rewards != 0].astype(float), 2)),
    }
    if game in ("chaser", "miner"):
        found["last_reward"] = _last_reward(game, env)
    return found


def _counts(values: Any) -> dict[str, int]:
    found, counts = np.unique(values, return_counts=True)
    return {f"{v:g}": int(n) for v, n in zip(found, counts, strict=True)}


def _last_reward(game: str, env: Any) -> float:
    """The reward for the last orb, or at the exit, for an agent that stands there."""

    @jax.jit
    def stay(key: jax.Array) -> TimeStep:
        level = env.sample_level(key)
        place = level.position if game == "chaser" else level.exit
        is_space = (np.arange(level.grid.size) != place) & (level.grid != 1)
        ended = level._replace(grid=jnp.where(is_space, jnp.uint8(0), level.grid), position=place)
        return env.step(key, env.reset_to_level(key, ended)[0], jnp.int32(compass.STAY))[1]

    ts = stay(jax.random.key(0))
    return float(ts.reward) if bool(ts.info["success"]) else 0.0


def corrected(measured: dict[str, Any]) -> dict[str, float]:
    """The smallest p-value of each comparison, times the number of all tests."""
    tests = sum(row["tests"] for row in measured["levels"].values())
    return {name: min(1.0, row["p_value"] * tests) for name, row in measured["levels"].items()}


def table(measured: dict[str, Any]) -> str:
    """Rules and levels side by side, as markdown."""
    rules: dict[str, list[str]] = {}
    for name, sides in measured["rules"].items():
        rules.setdefault(_rule(*sides), []).append(name)
    lines = _headed(
        *("game", "steps allowed, ours / Procgen's", "actions", "most cells in a step, at random"),
        *("steps for a cell on a shortest way", "rewards seen, ours", "Procgen's"),
    )
    lines += [f"| {_together(names)} | {rule} |" for rule, names in rules.items()]
    lines += ["", *_headed("game", "figure, mean", *_by_mode("{}, ours", "{}, Procgen's", "p"))]
    figures: dict[tuple[str, str], dict[str, Any]] = {}
    for name, row in measured["levels"].items():
        game, mode = name.split("/")
        for figure, values in row["figures"].items():
            figures.setdefault((game, figure), {})[mode] = values
    for (game, figure), modes in figures.items():
        cells = [cell for mode in procgen.MODES for cell in _figure(modes.get(mode))]
        lines.append("| " + " | ".join([game, figure, *cells]) + " |")
    lines += [
        "",
        *_headed(
            *("game", "levels, ours and Procgen's", "statistics", "smallest p, of"),
            *("corrected for all", "Procgen's levels that are valid in ours"),
            "fewest steps, median, ours / Procgen's",
        ),
    ]
    alike = corrected(measured)
    for name, row in measured["levels"].items():
        steps = [row.get(f"fewest_steps_of_{side}", [0, None])[1] for side in ("ours", "procgen")]
        valid = row.get("valid_of_procgen")
        cells = [
            _together([name]),
            f"{row['levels_of_ours']:,}, {row['levels_of_procgen']:,}",
            f"{row['tests']:,}",
            f"{row['p_value']:.1e}, {row['statistic']}",
            f"{alike[name]:.2g}",
            "-" if valid is None else f"{valid:.1%}",
            "-" if None in steps else f"{steps[0]:.0f} / {steps[1]:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _headed(*head: str) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]


def _by_mode(*head: str) -> list[str]:
    return [cell.format(mode) for mode in procgen.MODES for cell in head]


def _together(names: list[str]) -> str:
    """What stands for "heist/easy", or for both modes of a game."""
    return f"{names[0].split('/')[0]}, {' and '.join(name.split('/')[1] for name in names)}"


def _rule(our: dict[str, Any], their: dict[str, Any]) -> str:
    walked = [w for w in their.get("walks", []) if w["reward"] > 0]
    pace = "-"
    if walked:
        pace = f"{sum(w['steps'] for w in walked) / sum(w['cells'] for w in walked):.1f}"
    cells = [f"{our['limit']} / {their['limit']}", f"{our['actions']} / {procgen.NUM_ACTIONS}"]
    cells += [f"1 / {their['fastest']:.1f}", f"1 / {pace}", _rewards(our), _rewards(their)]
    return " | ".join(cells)


def _figure(values: dict[str, float] | None) -> list[str]:
    if values is None:
        return ["-"] * 3
    p = f"{values['p_value']:.2g}" if values["p_value"] < 1 else "-"
    return [_short(values["ours"]), _short(values["procgen"]), p]


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.1f}"


def _rewards(side: dict[str, Any]) -> str:
    """The rewards that a side was seen to give."""
    seen = {float(value) for value in side["rewards_at_random"]}
    seen |= {w["reward"] for w in side.get("walks", []) if w["reward"] > 0}
    seen |= {round(side[name], 2) for name in ("last_orb", "last_reward") if name in side}
    ordered = sorted(seen)
    if len(ordered) > _MANY:
        return f"{ordered[0]:g} to {ordered[-1]:g}"
    return ", ".join(f"{value:g}" for value in ordered)


def main(
    folder: tyro.conf.Positional[Path],
    levels: tyro.conf.Positional[Path],
    most: int | None = None,
) -> None:
    """Compares what is not in `levels.json` of `folder` yet, and writes it and `table.md`.

    Args:
        folder: of the results.
        levels: the file that `procgen_play levels` wrote.
        most: of Procgen's levels of each game and mode, if not all.
    """
    file = folder / "levels.json"
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, Any] = {"rules": {}, "levels": {}}
    if file.is_file():
        measured = json.loads(file.read_text(encoding="utf-8"))
    for game, mode in itertools.product(procgen.GAMES, procgen.MODES):
        name = f"{game}/{mode}"
        if name in measured["levels"]:
            continue
        with np.load(levels) as stored:
            facts = json.loads(str(stored["facts"]))
            drawn = {what: stored[f"{name}/{what}"] for what in ("grid", "bodies")}
        measured["rules"][name] = [our_rules(game, mode), facts[name]]
        row = measured["levels"][name] = compare(game, mode, drawn, most)
        measured |= {"procgen": facts["procgen"], "environment": environment()}
        file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        (folder / "table.md").write_text(table(measured), encoding="utf-8")
        told = {n: f"{x:.1e}" for n, x in list(row["unlike"].items())[:8]}
        print(name, row["tests"], f"{row['p_value']:.1e} {row['statistic']}", told, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
