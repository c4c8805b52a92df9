"""What every family of levels promises: valid, solved exactly, the same everywhere, editable."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts import registry
from xplore.contracts.types import WorldFamily
from xplore.parts.levels import (
    HELD_OUT_BIT,
    held_out_ids,
    level_key,
    levels_from_ids,
    train_ids,
)

FEW, MANY = 256, 10_000
# Others are as well tested among the slow ones, and by the tests of their own files.
FAST = ("Maze-Blocks-13x13-v0", "Heist-Hard-v0", "CtxDeepSea-6-16-v0")


class Promise(NamedTuple):
    """The share of levels with a solution lies in `solvable`, and after edits in the other."""

    solvable: tuple[float, float]
    after_edits: tuple[float, float] = (1.0, 1.0)


FAMILIES = {
    "Maze-Blocks-13x13-v0": Promise((0.82, 0.88), (0.6, 0.9)),
    "Maze-Perfect-13x13-v0": Promise((1.0, 1.0)),
    "KeyMaze-9x9-v0": Promise((1.0, 1.0)),
    "Caves-19x19-v0": Promise((1.0, 1.0)),
    "MultiRoomLite-N6-v0": Promise((1.0, 1.0)),
    "Heist-Hard-v0": Promise((1.0, 1.0)),
    "RuleWorld-D2-v0": Promise((1.0, 1.0)),
    "Chaser-Easy-v0": Promise((1.0, 1.0)),
    "Miner-Easy-v0": Promise((1.0, 1.0)),
    "CtxDeepSea-6-16-v0": Promise((1.0, 1.0)),
}


class Programs(NamedTuple):
    env: Any
    levels: Any
    optimal_steps: Any
    is_valid: Any
    mutate: Any


@functools.cache
def programs(id: str) -> Programs:
    env = xplore.make(id)
    assert isinstance(env, WorldFamily)

    def mutated(ids, levels, num_edits):
        def edit(i, levels):
            keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(i), n))(ids)
            return jax.vmap(env.mutate)(keys, levels)

        return jax.lax.fori_loop(0, num_edits, edit, levels)

    return Programs(
        env,
        jax.jit(lambda ids: levels_from_ids(env, ids).levels),
        jax.jit(jax.vmap(env.optimal_steps)),
        jax.jit(jax.vmap(env.is_valid)),
        jax.jit(mutated),
    )


def one(levels, i=0):
    return jax.tree.map(lambda x: x[i], levels)


def check_levels(id: str, num: int, texts: int, edits: int) -> None:
    p, promise = programs(id), FAMILIES[id]
    for ids in (train_ids(1, jnp.arange(num)), held_out_ids(1, num)):
        levels = p.levels(ids)
        assert np.all(p.is_valid(levels))
        steps = np.asarray(p.optimal_steps(levels))
        slack = 3 * 0.5 / np.sqrt(num) if promise.solvable[0] < 1 else 0
        assert promise.solvable[0] - slack <= np.mean(steps >= 0) <= promise.solvable[1] + slack
        edited = p.mutate(ids, levels, edits)
        assert np.all(p.is_valid(edited))
        solvable = np.mean(np.asarray(p.optimal_steps(edited)) >= 0)
        assert promise.after_edits[0] - slack <= solvable <= promise.after_edits[1] + slack
        changed = [
            np.any(np.asarray(a != b).reshape(num, -1), axis=1)
            for a, b in zip(jax.tree.leaves(levels), jax.tree.leaves(edited), strict=True)
        ]
        assert np.mean(np.any(changed, axis=0)) > (0.95 if edits > 10 else 0.3)
        for some in (levels, edited):
            for i in range(texts):
                text = p.env.level_to_text(one(some, i))
                again = p.env.level_from_text(text)
                jax.tree.map(np.testing.assert_array_equal, again, one(some, i))
                assert p.env.level_to_text(again) == text


@pytest.mark.parametrize("id", FAST)
def test_levels_are_valid_solvable_editable_and_text(id):
    check_levels(id, FEW, texts=8, edits=20)


@pytest.mark.slow
@pytest.mark.parametrize("id", FAMILIES)
def test_many_levels_are_valid_solvable_editable_and_text(id):
    check_levels(id, MANY // 2, texts=200, edits=1)  # as many for training as held out
    ids = np.concatenate([train_ids(1, jnp.arange(MANY)), held_out_ids(1, MANY)])
    assert len(np.unique(ids)) == 2 * MANY
    assert np.array_equal(ids & np.uint32(HELD_OUT_BIT) != 0, np.arange(2 * MANY) >= MANY)


def digest(levels) -> list[int]:
    return [int(np.asarray(x, np.uint64).sum()) for x in jax.tree.leaves(levels)]


@pytest.mark.parametrize(
    "id", [id if id in FAST else pytest.param(id, marks=pytest.mark.slow) for id in FAMILIES]
)
def test_a_level_is_the_same_in_every_batch(id):
    ids = train_ids(1, jnp.arange(FEW))
    whole = programs(id).levels(ids)
    alone = registry.make(id).sample_level  # not vmapped, not in the same program

    single = jax.jit(lambda i: alone(level_key(i)))(ids[5])
    jax.tree.map(np.testing.assert_array_equal, single, one(whole, 5))


@pytest.mark.slow
def test_levels_are_the_same_in_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_families as t;"
        "import jax.numpy as jnp; ids = t.train_ids(1, jnp.arange(100));"
        "print([t.digest(t.programs(id).levels(ids)) for id in t.FAMILIES])"
    )
    ids = train_ids(1, jnp.arange(FEW))
    ours = [digest(jax.tree.map(lambda x: x[:100], programs(id).levels(ids))) for id in FAMILIES]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(ours)
