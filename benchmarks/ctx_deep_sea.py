"""What learning levels by heart is worth in CtxDeepSea, on those levels and on others.

`python -m xplore.benchmarks.ctx_deep_sea` writes `rows.json` and a table of it into
`results/ctx-deep-sea`. Three policies, none of which learns gradually:

* `memoriser` keeps, for each training level, the action that went right in each cell of the
  diagonal, found by trial; in a level it does not know it does what was right most often there;
* `reader` does what the map says, and needs no training level;
* `random` knows nothing.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import tyro

from xplore.contracts.types import Environment
from xplore.envs.diagnostic.ctx_deep_sea import CtxDeepSea
from xplore.parts.levels import held_out_ids, levels_from_ids, train_ids

FOLDER: Final = Path(__file__).resolve().parents[1] / "results" / "ctx-deep-sea"
SIZES: Final = (3, 6, 8, 10)
NUM_TRAIN: Final = (1, 10, 100, 1000)
Array = npt.NDArray[Any]


def play(env: CtxDeepSea, levels: Any, plans: Array) -> tuple[Array, Array]:
    """Success `[L]` and the columns `[L, N]` after each step, of plans of actions `[L, N]`."""
    success, columns = _episodes(env, levels, np.asarray(plans, np.int32))
    return np.asarray(np.any(success, axis=1)), np.asarray(columns)


@jax.jit
def _episodes(env: CtxDeepSea, levels: jax.Array, plans: jax.Array) -> Any:
    key = jax.random.key(0)  # nothing is drawn from it

    def episode(level: jax.Array, plan: jax.Array) -> Any:
        def step(state: Any, action: jax.Array) -> Any:
            state, ts = env.step(key, state, action)
            return state, (ts.info["success"], state.column)

        return jax.lax.scan(step, env.reset_to_level(key, level)[0], plan)[1]

    return jax.vmap(episode)(levels, plans)


@functools.partial(jax.jit, static_argnames="num_levels")
def _levels(env: CtxDeepSea, seed: int, num_levels: int, held_out: bool) -> tuple[Any, Any]:
    """Levels `[L, ...]`, training or held-out ones, and their maps `[L, N, N]`."""
    as_env: Environment = env
    ids = train_ids(seed, jnp.arange(num_levels))
    ids = jnp.where(held_out, held_out_ids(seed, num_levels), ids)
    levels = levels_from_ids(as_env, ids).levels
    return levels, jax.vmap(env.action_map)(levels)


def learned_by_heart(env: CtxDeepSea, levels: Any, num_levels: int) -> tuple[Array, int]:
    """The actions `[W, N]` that go right all along the diagonal, and the episodes it took.

    Actions are tried from the start on: where one did not lead to the diagonal's next cell, the
    other one does. In the last column both stay, but only one succeeds.
    """
    plans = np.zeros((num_levels, env.size), np.int32)
    episodes = 0
    for _ in range(env.size + 1):
        success, columns = play(env, levels, plans)
        episodes += int(np.sum(~success))
        wrong = columns != np.minimum(np.arange(env.size) + 1, env.size - 1)
        wrong[:, -1] |= ~success
        rows = np.flatnonzero(~success)
        plans[rows, np.argmax(wrong[rows], axis=1)] ^= 1
    return plans, episodes + num_levels


def measure(env: CtxDeepSea, num_train: int, num_test: int, seed: int) -> dict[str, Any]:
    """Success of the three policies on training and on held-out levels, and what they hold."""
    train, train_maps = _levels(env, seed, num_train, held_out=False)
    test, test_maps = _levels(env, seed, num_test, held_out=True)
    plans, episodes = learned_by_heart(env, train, num_train)
    generator = np.random.default_rng(seed)
    # Equal votes, as of no level at all, are decided by chance.
    votes = plans.mean(0) + 1e-6 * (generator.random(env.size) - 0.5) > 0.5
    diagonals = [np.diagonal(m, axis1=1, axis2=2) for m in (train_maps, test_maps)]
    guesses = [generator.integers(0, 2, d.shape) for d in diagonals]
    choices = {
        "memoriser": (plans, np.broadcast_to(votes, (num_test, env.size))),
        "reader": tuple(diagonals),
        "random": tuple(guesses),
    }
    found: dict[str, Any] = {
        name: {
            "train": float(play(env, train, on_train)[0].mean()),
            "held_out": float(play(env, test, on_test)[0].mean()),
        }
        for name, (on_train, on_test) in choices.items()
    }
    return {
        **found,
        "size": env.size,
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "bits_kept": int(plans.size),
        "level_bits": env.level_bits,
        "episodes_per_level": episodes / num_train,
        "random_success": env.random_success,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The markdown of what `measure` found, means over seeds."""
    lines = [
        "| N | training levels | bits of a level | episodes a level | memoriser: train | held out |"
        " reader: held out | random: held out | 2^-N |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cells = sorted({(row["size"], row["num_train"]) for row in rows})
    for size, num_train in cells:
        group = [r for r in rows if (r["size"], r["num_train"]) == (size, num_train)]

        def mean(policy: str, levels: str, group: list[dict[str, Any]] = group) -> str:
            return f"{np.mean([row[policy][levels] for row in group]):.4f}"

        episodes = np.mean([row["episodes_per_level"] for row in group])
        lines.append(
            f"| {size} | {num_train:,} | {group[0]['level_bits']} | {episodes:.1f} |"
            f" {mean('memoriser', 'train')} | {mean('memoriser', 'held_out')} |"
            f" {mean('reader', 'held_out')} | {mean('random', 'held_out')} |"
            f" {group[0]['random_success']:.4f} |"
        )
    seeds = len({row["seed"] for row in rows})
    lines += [
        "",
        f"Share of levels solved in one episode, means over {seeds} seeds;"
        f" {rows[0]['num_test']:,} held-out levels each.",
    ]
    return "\n".join(lines) + "\n"


def load(folder: Path) -> list[dict[str, Any]]:
    """The rows in `folder`."""
    rows: list[dict[str, Any]] = json.loads((folder / "rows.json").read_text("utf-8"))
    return rows


def main(folder: tyro.conf.Positional[Path] = FOLDER, seeds: int = 5, held_out: int = 4096) -> None:
    """Measures all sizes and writes rows and table into `folder`."""
    rows = [
        measure(CtxDeepSea(size), num_train, held_out, seed)
        for size in SIZES
        for num_train in NUM_TRAIN
        for seed in range(seeds)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    (folder / "rows.json").write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
