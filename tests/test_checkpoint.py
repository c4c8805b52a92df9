"""Checkpoints come back bit for bit, survive a kill, and refuse what is not theirs."""

import asyncio
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from xplore.contracts.component import component
from xplore.contracts.errors import CheckpointError
from xplore.loop.checkpoint import Checkpointer

CONFIG = {
    "config": {
        "kind": "xplore:Config",
        "env": {"kind": "xplore.envs:Grid", "size": 8},
        "agent": {"kind": "xplore.agents.ppo:PPO", "hidden_sizes": (64, 64), "clip": 0.2},
        "num_envs": 64,
        "limit": float("nan"),
    },
    "seeds": [0, 1],
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Learner:
    params: Any
    network: str = dataclasses.field(metadata={"static": True})


class State(NamedTuple):
    key: jax.Array
    learner: Learner
    carry: tuple[jax.Array, ...]
    nothing: Any


@component
class Scaled:
    coefficient: float = 0.5
    size: int = 4


def make_state(seed: int = 0) -> State:
    key = jax.random.key(seed)
    params = {
        "w/1": jax.random.normal(key, (3, 4)),
        "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
        "bits": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45]),
        "count": jnp.uint32(2**32 - 1),
        "mask": jnp.array([[True], [False]]),
        "small": jnp.array([-128, 127], jnp.int8),
        "none": None,
    }
    carry = (jax.random.split(key, (2, 3)), jnp.zeros((0, 7)), jax.random.split(key, 2)[:0])
    return State(key, Learner({"net": [params, ()]}, "mlp"), carry, ())


def make_tree(seed: int = 0) -> dict[str, Any]:
    history = {
        "return": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3).T,
        "steps": np.arange(4, dtype=np.int64) * 2**40,
        "wide": np.array([1 + 2j]),
        "eight": np.array([0.5], ml_dtypes.float8_e4m3fn),
        "never": np.full((2, 0), np.nan, np.float32),
    }
    return {"state": make_state(seed), "history": history, "bonus": Scaled(0.25), "update": 7}


def shapes(tree: Any) -> Any:
    """What a run that starts again knows of its state: its shapes, and its history of NaNs."""
    return {**tree, "state": jax.eval_shape(make_state)}


def assert_same(found: Any, expected: Any) -> None:
    same: bool = jax.tree.structure(found) == jax.tree.structure(expected)  # type: ignore[operator]
    assert same
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        if isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tree = make_tree()
    Checkpointer(tmp_path / "new" / "folder", CONFIG).save(120, tree)
    found = Checkpointer(tmp_path / "new" / "folder", CONFIG).restore_latest(shapes(tree))
    assert found is not None
    assert found[0] == 120
    assert_same(found[1], tree)


def test_a_restored_state_goes_on_as_the_saved_one_would(tmp_path: Path) -> None:
    state = {"key": jax.random.key(3, impl="rbg"), "x": jnp.ones(4)}
    Checkpointer(tmp_path, {}).save(1, state)
    found = Checkpointer(tmp_path, {}).restore_latest(jax.eval_shape(lambda: state))
    assert found is not None

    @jax.jit
    def go_on(state: dict[str, jax.Array]) -> jax.Array:
        return state["x"] + jax.random.normal(state["key"], (4,))

    np.testing.assert_array_equal(go_on(found[1]), go_on(state))


def test_a_bare_array_and_an_empty_tree(tmp_path: Path) -> None:
    Checkpointer(tmp_path / "a", "run").save(1, jnp.arange(3))
    found = Checkpointer(tmp_path / "a", "run").restore_latest(jnp.zeros(3, jnp.int32))
    assert found is not None
    np.testing.assert_array_equal(found[1], [0, 1, 2])
    Checkpointer(tmp_path / "b", "run").save(2, ())
    assert Checkpointer(tmp_path / "b", "run").restore_latest(()) == (2, ())


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert Checkpointer(tmp_path / "absent", CONFIG).restore_latest({}) is None
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    assert Checkpointer(tmp_path, CONFIG).restore_latest({}) is None


def test_the_last_two_are_kept_and_the_newest_is_restored(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path, CONFIG)
    for step in (8, 9, 10, 11):
        checkpointer.save(step, {"x": np.array(step)})
    (tmp_path / "notes.txt").write_text("the user's own")
    assert names(tmp_path) == ["000003-step-10", "000004-step-11", "notes.txt"]
    assert checkpointer.restore_latest({"x": np.array(0)}) == (11, {"x": np.array(11)})


def test_the_last_save_is_the_newest_even_of_an_earlier_step(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path, CONFIG)
    for step, value in ((5, 1.0), (6, 2.0), (5, 3.0)):
        checkpointer.save(step, {"x": np.array(value)})
    assert checkpointer.restore_latest({"x": np.array(0.0)}) == (5, {"x": np.array(3.0)})


def changed(**changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = CONFIG["config"]  # type: ignore[assignment]
    return {**CONFIG, "config": {**config, **changes}}


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (changed(num_envs=32), "config.num_envs is 64 there and 32 here"),
        (changed(env={"kind": "xplore.envs:Grid", "size": 9}), "config.env.size is 8 there and 9"),
        (changed(agent={"kind": "a.b:Random"}), "config.agent is PPO there and Random here"),
        ({**CONFIG, "seeds": [0, 2]}, r"seeds\[1\] is 1 there and 2 here"),
        ({**CONFIG, "seeds": [0]}, r"seeds is \[0, 1\] there and \[0\] here"),
        (changed(num_envs=1, limit=0), "num_envs is 64 there and 1 here, and 1 more differ"),
        ("another", 'there and "another" here'),
    ],
)
def test_another_run_is_refused(tmp_path: Path, other: Any, difference: str) -> None:
    Checkpointer(tmp_path, CONFIG).save(1, {"x": np.array(1)})
    before = names(tmp_path)
    with pytest.raises(CheckpointError, match=difference) as error:
        Checkpointer(tmp_path, other).restore_latest({"x": np.array(1)})
    assert "\n" not in str(error.value)
    assert "--checkpoints" in str(error.value)
    with pytest.raises(CheckpointError, match=difference):
        Checkpointer(tmp_path, other).save(2, {"x": np.array(1)})
    assert names(tmp_path) == before


def test_equal_settings_that_went_through_json_are_the_same_run(tmp_path: Path) -> None:
    Checkpointer(tmp_path, CONFIG).save(1, {"x": np.array(1)})
    again = json.loads(json.dumps(CONFIG))
    assert Checkpointer(tmp_path, again).restore_latest({"x": np.array(0)}) is not None


def test_another_schema_is_refused(tmp_path: Path) -> None:
    Checkpointer(tmp_path, CONFIG).save(1, {"x": np.array(1)})
    meta = tmp_path / "000001-step-1" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "schema": 99}))
    with pytest.raises(CheckpointError, match=r"schema 99; this one reads 1.*--checkpoints"):
        Checkpointer(tmp_path, CONFIG).restore_latest({"x": np.array(1)})


@pytest.mark.parametrize(
    ("like", "difference"),
    [
        ({"x": np.zeros(4, np.float32)}, r"x is float32\[3\] there and float32\[4\] here"),
        ({"x": np.zeros(3, np.int32)}, r"x is float32\[3\] there and int32\[3\] here"),
        ({"y": np.zeros(3, np.float32)}, r"y is absent there and float32\[3\] here"),
        ({}, r"x is float32\[3\] there and absent here"),
    ],
)
def test_another_state_is_refused(tmp_path: Path, like: Any, difference: str) -> None:
    Checkpointer(tmp_path, CONFIG).save(1, {"x": np.ones(3, np.float32)})
    with pytest.raises(CheckpointError, match=difference):
        Checkpointer(tmp_path, CONFIG).restore_latest(like)


def truncate_data(path: Path) -> None:
    for file in (path / "arrays").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_stored_checksum(path: Path) -> None:
    meta = json.loads((path / "meta.json").read_text())
    meta["leaves"][0]["crc32"] ^= 1
    (path / "meta.json").write_text(json.dumps(meta))


DAMAGES = {
    "no meta": lambda path: (path / "meta.json").unlink(),
    "half a meta": lambda path: (path / "meta.json").write_text('{"schema": 1, "st'),
    "incomplete meta": lambda path: (path / "meta.json").write_text('{"schema": 1}'),
    "no arrays": lambda path: shutil.rmtree(path / "arrays"),
    "truncated arrays": truncate_data,
    "other arrays": flip_stored_checksum,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_falls_back_to_the_one_before(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    checkpointer = Checkpointer(tmp_path, CONFIG)
    saved = {"x": np.random.default_rng(0).standard_normal(1000)}
    checkpointer.save(1, saved)
    checkpointer.save(2, saved)
    damage(tmp_path / "000002-step-2")
    with pytest.warns(UserWarning, match="going back to .*000001-step-1") as warned:
        found = Checkpointer(tmp_path, CONFIG).restore_latest(saved)
    assert len(warned) == 1
    assert found is not None
    assert found[0] == 1
    assert_same(found[1], saved)
    damage(tmp_path / "000001-step-1")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read") as error:
        Checkpointer(tmp_path, CONFIG).restore_latest(saved)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write a checkpoint to .*--checkpoints"):
        Checkpointer(tmp_path / "file" / "folder", CONFIG).save(1, {"x": np.array(1)})


def test_leftovers_of_a_killed_process_are_ignored_and_removed(tmp_path: Path) -> None:
    gone = (
        subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
        )
        .stdout.decode()
        .strip()
    )
    for name in (f".new-{gone}-5", f".old-{gone}-000001-step-4", ".new-1-9"):
        (tmp_path / name / "arrays").mkdir(parents=True)
    checkpointer = Checkpointer(tmp_path, CONFIG)
    assert checkpointer.restore_latest({}) is None
    checkpointer.save(6, {"x": np.array(1)})
    # Process 1 lives: what looks like its work in progress stays.
    assert names(tmp_path) == [".new-1-9", "000001-step-6"]


def test_saving_inside_a_running_event_loop(tmp_path: Path) -> None:
    """As in a notebook."""

    async def notebook() -> Any:
        Checkpointer(tmp_path, CONFIG).save(1, {"x": np.array(1)})
        return Checkpointer(tmp_path, CONFIG).restore_latest({"x": np.array(0)})

    assert asyncio.run(notebook()) == (1, {"x": np.array(1)})


SAVER = """
import logging, os, sys
import numpy as np
from xplore.loop import checkpoint

def save(folder, last):
    checkpointer = checkpoint.Checkpointer(folder, {"run": 1})
    found = checkpointer.restore_latest({"x": np.zeros(20_000), "step": np.array(0)})
    step = found[0] if found else 0
    while step < last:
        step += 1
        checkpointer.save(step, {"x": np.full(20_000, step, float), "step": np.array(step)})
        print("saved", step, flush=True)

folder, mode = sys.argv[1:]
if mode == "loud":
    logging.basicConfig(level=logging.DEBUG)
    logging.getLogger("absl").setLevel(logging.DEBUG)
    save(folder, 2)
else:
    checkpoint._orbax()  # imported once, for all the children
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            save(folder, 10**9)
        print("child", child, flush=True)
        os.waitpid(child, 0)
        print("killed", flush=True)
"""


def start_saver(folder: Path, mode: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", SAVER, str(folder), mode],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_a_kill_at_any_moment_leaves_the_last_checkpoint_usable(tmp_path: Path) -> None:
    """Ten kills in a row, each process going on from what the one before left."""
    like = {"x": np.zeros(20_000), "step": np.array(0)}
    chance, last, interrupted = random.Random(0), 0, 0
    with start_saver(tmp_path, "children") as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        for _ in range(10):
            saver.stdin.write("start\n")
            saver.stdin.flush()
            told, child = [last], 0
            while child == 0 or told == [last]:
                word, number = saver.stdout.readline().split()
                if word == "child":
                    child = int(number)
                else:
                    told.append(int(number))
            # One save is through: the kill comes anywhere in the next few.
            time.sleep(chance.uniform(0.0, 0.2))
            os.kill(child, signal.SIGKILL)
            while (line := saver.stdout.readline().split()) != ["killed"]:
                told.append(int(line[1]))
            interrupted += any(name.startswith(".") for name in names(tmp_path))
            found = Checkpointer(tmp_path, {"run": 1}).restore_latest(like)
            assert found is not None
            step, tree = found
            # Nothing that was reported as saved is lost.
            assert step >= max(told)
            assert int(tree["step"]) == step
            assert np.all(tree["x"] == step)
            last = step
    assert saver.returncode == 0
    assert interrupted >= 3, "hardly any kill came in the middle of a save: the test shows nothing"
    visible = [name for name in names(tmp_path) if not name.startswith(".")]
    assert 1 <= len(visible) <= 3


def test_saving_is_silent(tmp_path: Path) -> None:
    saver = start_saver(tmp_path, "loud")
    out, err = saver.communicate()
    assert saver.returncode == 0, err
    assert out.split() == ["saved", "1", "saved", "2"]
    assert [line for line in err.splitlines() if "absl" in line or "orbax" in line] == []


def test_a_small_state_is_saved_in_a_fraction_of_a_second(tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path, CONFIG)
    tree = make_tree()
    checkpointer.save(0, tree)
    seconds = []
    for step in range(1, 6):
        started = time.perf_counter()
        checkpointer.save(step, tree)
        seconds.append(time.perf_counter() - started)
    # About 0.05 s on an idle machine: the bound has room for a busy one.
    assert min(seconds) < 0.5
