"""Estimates of memory against what XLA says once it has compiled."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import psutil
import pytest

from xplore.measure import memory
from xplore.measure.memory import available_bytes, estimate_bytes, largest_that_fits

FEATURES, ACTIONS = 32, 4
ADAM = optax.adam(1e-3)


def f32(*shape: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


KEY = jax.eval_shape(lambda: jax.random.key(0))
PARAMS = (f32(FEATURES, 64), f32(1, 64), f32(64, ACTIONS), f32(1, ACTIONS))
LEARNER = (PARAMS, jax.eval_shape(ADAM.init, PARAMS))


def mlp(params: Any, x: Any) -> Any:
    w1, b1, w2, b2 = params
    return jnp.tanh(x @ w1 + b1) @ w2 + b2


def learn(learner: Any, batch: Any) -> Any:
    params, opt_state = learner
    x, y = batch
    loss, gradient = jax.value_and_grad(lambda p: jnp.mean(jnp.square(mlp(p, x) - y)))(params)
    updates, opt_state = ADAM.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


def collect(params: Any, key: Any, x: Any) -> Any:
    def step(x: Any, key: Any) -> Any:
        logits = mlp(params, x)
        action = jax.random.categorical(key, logits)
        return jnp.tanh(x + 0.1 * action[:, None]), (x, logits)

    return jax.lax.scan(step, x, jax.random.split(key, 16))


def train(learner: Any, key: Any, x: Any) -> Any:
    """A rollout, then two epochs of shuffled minibatches: the shape of an actor-critic update."""
    x, seen = collect(learner[0], key, x)
    batch = jax.tree.map(lambda a: a.reshape(-1, a.shape[-1]), seen)

    def epoch(learner: Any, key: Any) -> Any:
        order = jax.random.permutation(key, len(batch[0])).reshape(4, -1)
        return jax.lax.scan(
            lambda s, i: learn(s, jax.tree.map(lambda a: a[i], batch)), learner, order
        )

    learner, losses = jax.lax.scan(epoch, learner, jax.random.split(key, 2))
    return learner, x, jnp.mean(losses)


def through_time(w: Any, h: Any, xs: Any) -> Any:
    return jnp.sum(jax.lax.scan(lambda h, x: (jnp.tanh(h @ w + x), None), h, xs)[0])


def remember(buffer: Any, index: Any, xs: Any) -> Any:
    def step(loop: Any, x: Any) -> Any:
        buffer, index = loop
        return (buffer.at[index].set(x), index + 1), jnp.sum(buffer[index - 1])

    return jax.lax.scan(step, (buffer, index), xs)


def while_halving(x: Any) -> Any:
    return jax.lax.while_loop(lambda x: jnp.max(x) > 1.0, lambda x: jnp.sin(x) @ x, x)


def stacked(tree: Any, num_seeds: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct((num_seeds, *a.shape), a.dtype), tree)


TRAIN_ARGS = (LEARNER, KEY, f32(256, FEATURES))
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "forward": (mlp, (PARAMS, f32(2048, FEATURES))),
    "scan of learning steps": (
        lambda s, b: jax.lax.scan(learn, s, b),
        (LEARNER, (f32(8, 512, FEATURES), f32(8, 512, ACTIONS))),
    ),
    "update": (train, TRAIN_ARGS),
    "update of 3 seeds": (jax.vmap(train), stacked(TRAIN_ARGS, 3)),
    "gradient through time": (jax.grad(through_time), (f32(64, 64), f32(32, 64), f32(64, 32, 64))),
    "while": (while_halving, (f32(256, 256),)),
}


def compiled_bytes(fn: Any, args: Any, **jit: Any) -> Any:
    found = jax.jit(fn, **jit).lower(*args).compile().memory_analysis()
    assert found is not None
    sizes = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    return sizes - found.alias_size_in_bytes


@pytest.mark.parametrize("name", PROGRAMS)
def test_estimate_is_above_xla_but_not_twice(name: Any) -> None:
    fn, args = PROGRAMS[name]
    ratio = estimate_bytes(fn, *args) / compiled_bytes(fn, args)
    assert 1.0 <= ratio <= 2.0


@pytest.mark.parametrize("donated", [False, True])
def test_memories_that_are_written_in_place(donated: Any) -> None:
    args = (f32(50_000, 8), jax.ShapeDtypeStruct((), jnp.int32), f32(16, 8))
    jit = {"donate_argnums": (0, 1)} if donated else {}
    found = estimate_bytes(remember, *args, donated=donated)
    assert 0.9 <= found / compiled_bytes(remember, args, **jit) <= 2.0
    buffer = 4 * 8 * 50_000
    # XLA keeps one copy inside the loop; not one for every step or for every write.
    assert found < (3 if donated else 4.5) * buffer


def test_exact_sizes_of_simple_programs() -> None:
    kilobyte = f32(256)
    # An argument, and a result that is 1.3 times itself for safety.
    assert estimate_bytes(lambda x: x * 2.0 + 1.0, kilobyte) == 1024 + 1332
    # A chain is fused: nothing is stored on the way to a number.
    assert estimate_bytes(lambda x: jnp.sum(jnp.exp(x * 2.0)), kilobyte) <= 1024 + 8
    # A constant is part of the program.
    big = jnp.ones(1000)
    assert estimate_bytes(lambda x: jnp.sum(x) * jnp.sum(big), kilobyte) >= 1024 + 4000
    # Stored twice at once: the outer product and its sorted form.
    outer = lambda x: jnp.sort(jnp.dot(x[:, None], x[None]), axis=0)  # noqa: E731
    assert estimate_bytes(outer, kilobyte) >= 1024 + 4 * 256 * 256


def test_a_loop_stores_its_body_once_and_its_stack_in_full() -> None:
    def loop(x: Any, length: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            return x @ x, x[0]

        return jax.lax.scan(step, x, None, length)

    short, long = (estimate_bytes(lambda x, n=n: loop(x, n), f32(128, 128)) for n in (10, 1010))
    assert long - short == pytest.approx(1.3 * 1000 * 128 * 4, rel=0.01)


def test_need_grows_with_the_number_of_envs() -> None:
    need = [estimate_bytes(train, LEARNER, KEY, f32(n, FEATURES)) for n in (64, 128, 256)]
    assert need[2] - need[1] == pytest.approx(2 * (need[1] - need[0]), rel=0.02)


def test_cond_needs_its_largest_branch() -> None:
    def choose(flag: Any, x: Any) -> Any:
        return jax.lax.cond(flag, lambda x: jnp.sum(jnp.sort(x @ x)), lambda x: x[0, 0], x)

    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    matrix = 4 * 128 * 128
    assert 2 * matrix <= estimate_bytes(choose, flag, f32(128, 128)) <= 4 * matrix


@pytest.mark.parametrize("limit", [107, 108, 5_000, 10**9, 700_000_093])
def test_largest_that_fits_is_the_largest(limit: Any) -> None:
    asked = []

    def bytes_at(n: Any) -> Any:
        asked.append(n)
        return 100 + 7 * n

    found = largest_that_fits(bytes_at, limit, range(1, 10**6 + 1))
    assert found == min(10**6, (limit - 100) // 7)
    assert len(asked) <= 8


def test_largest_that_fits_where_need_is_not_linear() -> None:
    powers = [2**k for k in range(30)]
    assert largest_that_fits(lambda n: n * n, 10**6, powers) == 512
    assert largest_that_fits(lambda n: 4096 * (n // 512), 40_000, range(1, 10**5)) == 5119
    assert largest_that_fits(lambda n: n, 0, powers) is None
    assert largest_that_fits(lambda n: n, 10, []) is None


def test_available_bytes_of_this_host() -> None:
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def fake_files(monkeypatch: Any, files: Any) -> Any:
    monkeypatch.setattr(memory, "_read", lambda path: files.get(str(path), ""))


def test_available_bytes_honours_the_tightest_cgroup(monkeypatch: Any) -> None:
    fake_files(
        monkeypatch,
        {
            "/proc/self/cgroup": "0::/pod/job",
            "/sys/fs/cgroup/pod/job/memory.max": "max",
            "/sys/fs/cgroup/pod/job/memory.current": "1000",
            "/sys/fs/cgroup/pod/memory.max": "5000000",
            "/sys/fs/cgroup/pod/memory.current": "2000000",
            "/sys/fs/cgroup/pod/memory.stat": "anon 1\ninactive_file 500000",
        },
    )
    assert available_bytes() == 3_500_000


def test_available_bytes_honours_a_container_of_the_first_cgroups(monkeypatch: Any) -> None:
    fake_files(
        monkeypatch,
        {
            "/proc/self/cgroup": "9:cpu:/docker/a\n4:memory:/docker/a\n0::/",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "4000000",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": "3000000",
            "/sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100",
        },
    )
    assert available_bytes() == 1_000_100


def test_available_bytes_without_cgroups(monkeypatch: Any) -> None:
    fake_files(monkeypatch, {})
    assert available_bytes() > 0


def test_available_bytes_of_an_accelerator(monkeypatch: Any) -> None:
    stats = {"bytes_limit": 1000, "bytes_in_use": 300}
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert available_bytes() == 700


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() == "cpu", reason="others share the host's memory")
def test_available_bytes_of_this_accelerator() -> None:
    before = available_bytes()
    taken = jnp.ones(2**26).block_until_ready()
    assert before - available_bytes() >= taken.nbytes


def test_reading_a_missing_file_is_no_error(tmp_path: Any) -> None:
    assert memory._read(Path(tmp_path) / "none") == ""
