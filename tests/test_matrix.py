"""Every bonus with every on-policy agent, in every kind of environment that is registered.

A bonus sees of an environment its spaces, and of an agent what is left in the trajectory. So the
environments fall into kinds, which one of each stands for.
"""

from __future__ import annotations

import functools
import math
import os
import signal
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.bonuses.combinators import Sum
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic, shape_dtype
from xplore.contracts.types import EnvSpec, PyTree, RunSpec, Trajectory
from xplore.envs.minigrid.observation import View
from xplore.loop.config import Config
from xplore.loop.session import Interrupted
from xplore.loop.train import train
from xplore.loop.update import checked_reads, make_train

NEEDS_DATA = "gymnax/MNISTBandit-bsuite"  # its own tests fake the files that gymnax would download
SIZES = {"num_envs": 8, "num_steps": 4}


def kind_of_space(space: Space) -> Any:
    """What of a space decides by which lines of code it is handled; sizes are left out."""
    if isinstance(space, Dict):
        return {name: kind_of_space(s) for name, s in space.items}
    if isinstance(space, Symbolic):
        return "symbols", len(space.shape), math.prod(space.cardinalities) <= 1 << 14
    if isinstance(space, Box):
        is_integer = bool(jnp.issubdtype(jnp.dtype(space.dtype), jnp.integer))
        is_bounded = math.isfinite(space.low) and math.isfinite(space.high)
        return space.dtype, len(space.shape), is_bounded if is_integer else None
    return "discrete"


def kind_of(spec: EnvSpec) -> tuple[str, ...]:
    """As strings: the observation, the action, what is privileged, whether time is limited."""
    spaces = (spec.observation, spec.action, spec.privileged)
    return (*(str(kind_of_space(s)) for s in spaces), str(spec.max_steps > 0))


# One of each kind; a new environment of another kind asks for an entry.
REPRESENTATIVES = {
    "vector": "gymnax/CartPole-v1",
    "vector with position": "gymnax/FourRooms-misc",
    "vector with states": "Probe-Choice-v0",
    "vector, finite": "MemoryChain-v0",
    "vector, many levels": "CtxDeepSea-10-16-v0",
    "vector, box actions": "gymnax/Pendulum-v1",
    "matrix": "gymnax/SimpleBandit-bsuite",
    "matrix with position": "gymnax/DeepSea-bsuite",
    "matrix, finite": "DeepSea-5-v0",
    "matrix of integers": "gymnax/Catch-bsuite",
    "picture": "gymnax/Asterix-MinAtar",
    "discrete": "BernoulliBandit-10-v0",
    "discrete with position": "gymnax/FrozenLake-misc",
    "discrete, finite": "Chain-v0",
    "symbols": "MiniGrid-DoorKey-5x5-v0",
    "symbols with pieces": "Chaser-Easy-v0",
    "symbols with keys": "Heist-Easy-v0",
    "symbols with boulders": "Miner-Easy-v0",
    "symbols and direction": "Maze-Perfect-13x13-v0",
    "symbols, endless": "Foraging-v0",
    "symbols, finite, endless": "Foraging-Tiny-v0",
}
# What options and wrappers make of them.
OTHERS = {
    "dict": ("MiniGrid-DoorKey-5x5-v0", {"view": View(direction=True, mission=True)}),
    "rgb": ("MiniGrid-DoorKey-5x5-v0", {"view": View("rgb", tile_size=3)}),
    "one-hot": ("MiniGrid-DoorKey-5x5-v0", {"view": View("one_hot")}),
    "compact": ("MiniGrid-DoorKey-5x5-v0", {"view": View("compact")}),
    "tabular": ("tabular/DeepSea-5-v0", {}),
    "noisy television": ("noisy_tv/MiniGrid-DoorKey-5x5-v0", {}),
    "noisy colours": ("colour_noise/MiniGrid-DoorKey-5x5-v0", {}),
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {k: (id, {}) for k, id in REPRESENTATIVES.items()}
KINDS |= OTHERS
FEW = ("dict", "symbols, endless")  # tests/test_conformance.py runs all in a few others


@functools.cache
def spec_of(kind: str) -> EnvSpec:
    return make(kind).spec()


def make(kind: str) -> Any:
    id, options = KINDS[kind]
    return xplore.make(id, **options)


def of_rollout(value: PyTree) -> PyTree:
    """Shapes of one step's value for a rollout, `[T, N, ...]`."""
    lead = (SIZES["num_steps"], SIZES["num_envs"])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), value)


@functools.cache
def left_by(agent_id: str, kind: str) -> tuple[PyTree, PyTree]:
    """Shapes of an agent's carry, and of what it leaves in a rollout."""
    agent, run = xplore.make_agent(agent_id), RunSpec(spec_of(kind), **SIZES)

    def act(key: jax.Array) -> PyTree:
        state, carry = agent.init(key, run), agent.initial_carry(run.num_envs)
        obs = jax.vmap(run.env.observation.sample)(jax.random.split(key, run.num_envs))
        return carry, agent.act(key, state, carry, obs, jnp.ones(run.num_envs, bool))[2]

    carry, extras = jax.eval_shape(act, jax.random.key(0))
    steps = (run.num_steps,)
    return carry, jax.tree.map(lambda x: jax.ShapeDtypeStruct(steps + x.shape, x.dtype), extras)


def rollout_shapes(kind: str, reads: tuple[str, ...], agent: str) -> Trajectory:
    """Shapes of a rollout by `agent` that records `reads`."""
    spec, (carry, extras) = spec_of(kind), left_by(agent, kind)
    privileged = {name: of_rollout(shape_dtype(spec.privileged[name])) for name in reads}
    obs = of_rollout(shape_dtype(spec.observation))
    number, flag, id = (
        of_rollout(jax.ShapeDtypeStruct((), t)) for t in (jnp.float32, jnp.bool_, jnp.uint32)
    )
    return Trajectory(
        obs=obs,
        action=of_rollout(shape_dtype(spec.action)),
        reward=number,
        next_obs=obs,
        terminated=flag,
        truncated=flag,
        first=flag,
        level_id=id,
        info={"success": flag},
        privileged=privileged,
        next_privileged=privileged,
        extras=extras,
        carry=carry,
    )


def shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def check_shapes(bonus: Any, kind: str, agent: str) -> None:
    """Traces `bonus` on a rollout of `agent`.

    Raises:
        ConfigError: the bonus refuses the environment.
    """
    run = RunSpec(spec_of(kind), **SIZES)
    if not isinstance(run.env.action, Discrete):
        agent = "random"  # those that learn refuse
    traj = rollout_shapes(kind, checked_reads(bonus, run.env), agent)

    def cycle(key: jax.Array, traj: Trajectory) -> PyTree:
        state = bonus.init(key, run)
        scored, r_int = bonus.reward(state, traj)
        learned, metrics = bonus.update(key, scored, traj)
        return state, scored, learned, r_int, metrics

    key = jax.random.key(0)
    state, scored, learned, r_int, metrics = jax.eval_shape(cycle, key, traj)
    assert shapes(scored) == shapes(state)
    assert shapes(learned) == shapes(state)
    assert shapes(r_int) == (traj.reward.shape, jnp.float32)
    assert all(m.shape == () for m in metrics.values())


# What a bonus cannot work with, and why it says so.
REFUSED = {"agac": {"vector, box actions": "agac predicts discrete actions"}}


def test_every_environment_is_of_a_kind_that_is_checked():
    known = {kind_of(spec_of(kind)) for kind in REPRESENTATIVES}
    specs = {id: xplore.make(id).spec() for id in xplore.list_envs() if id != NEEDS_DATA}
    assert {id: kind for id, spec in specs.items() if (kind := kind_of(spec)) not in known} == {}
    assert len(known) == len(REPRESENTATIVES)


def refusals(id: str, kinds: Iterable[str], agent: str) -> dict[str, str]:
    """What a bonus says in those kinds that it refuses, once it was traced in all others."""
    bonus, refused = xplore.make_bonus(id), {}
    for kind in kinds:
        try:
            check_shapes(bonus, kind, agent)
        except ConfigError as refusal:
            refused[kind] = str(refusal)
    return refused


def require(found: dict[str, str], expected: dict[str, str]) -> None:
    assert found.keys() == expected.keys()
    for kind, said in expected.items():
        assert said in found[kind]
        assert "\n" not in found[kind]


@pytest.mark.parametrize("id", xplore.list_bonuses())
def test_every_bonus_takes_these_kinds_or_says_why_not(id):
    assert refusals(id, FEW, "ppo_rnn") == {}


@pytest.mark.parametrize("id", xplore.list_bonuses())
def test_every_bonus_takes_every_agent_or_says_why_not(id):
    said = {agent: refusals(id, ("vector",), agent) for agent in ("ppo", "pqn")}
    # It compares the policy's probabilities, and an agent of values has none.
    without = "log-probability" if id == "agac" else None
    require(said["pqn"], {"vector": without} if without else {})
    require(said["ppo"], {})


@pytest.mark.slow
@pytest.mark.parametrize("id", xplore.list_bonuses())
def test_every_bonus_takes_every_kind_or_says_why_not(id):
    require(refusals(id, KINDS, "ppo_rnn"), REFUSED.get(id, {}))


# Each takes a minute to compile: all in some kinds with either agent.
RUNS = (
    ("dict", "ppo_rnn"),
    ("picture", "ppo_rnn"),
    ("vector", "ppo"),
    ("discrete, finite", "ppo_rnn"),
)


def all_bonuses(kind: str) -> tuple[tuple[str, ...], Sum]:
    """Every bonus that takes this kind of environment: one program has them all."""
    ids = tuple(id for id in xplore.list_bonuses() if kind not in REFUSED.get(id, {}))
    return ids, Sum(tuple(xplore.make_bonus(id) for id in ids))


def config_of(kind: str, agent: str, num_updates: int) -> Config:
    return Config(
        make(kind),
        xplore.make_agent(agent),
        all_bonuses(kind)[1],
        xplore.make_world_sampler("fresh"),
        budget_steps=num_updates * SIZES["num_envs"] * SIZES["num_steps"],
        **SIZES,
    )


def not_finite(tree: PyTree) -> list[str]:
    return [
        jax.tree_util.keystr(path)
        for path, x in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(x).all()
    ]


@pytest.fixture
def unoptimised():
    """Nothing runs for long here: optimising these programs would take most of the time."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "agent"), RUNS)
@pytest.mark.usefixtures("unoptimised")
def test_every_bonus_runs_with_every_agent(kind, agent):
    pure = make_train(config_of(kind, agent, 3))
    init, update = jax.jit(jax.vmap(pure.init)), jax.jit(jax.vmap(pure.update))
    state = began = init(jax.random.split(jax.random.key(0), 2))
    for _ in range(3):
        state, metrics = update(state)
        assert np.isfinite(metrics["bonus/reward"]).all()
        for i, id in enumerate(all_bonuses(kind)[0]):
            mine = {n: m for n, m in metrics.items() if n.startswith(f"bonus/{i}/")}
            assert not not_finite((state.bonus[i], mine)), id
        assert not not_finite((state.agent, {n: m for n, m in metrics.items() if "agent/" in n}))
    moved = [bool((x[0] != x[1]).any()) for x in jax.tree.leaves(state.agent.params)]
    assert any(moved), "seeds do not differ"
    changed = jax.tree.map(
        lambda x, y: bool((x != y).any()), began.agent.params, state.agent.params
    )
    assert all(jax.tree.leaves(changed))


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_every_bonus_goes_on_from_a_checkpoint_with_a_recurrent_agent(tmp_path):
    config = config_of("symbols", "ppo_rnn", 6)
    whole = train(config, seeds=2)

    def stop(progress):
        if progress.update < config.num_updates:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(config, seeds=2, checkpoint_dir=tmp_path, on_progress=stop)
    seen: list[int] = []
    resumed = train(
        config, seeds=2, checkpoint_dir=tmp_path, on_progress=lambda p: seen.append(p.update)
    )
    assert seen[0] > 1, "started anew"
    assert resumed.metrics.keys() == whole.metrics.keys()
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(resumed.metrics[name], values, err_msg=name)
    found = jax.tree_util.tree_leaves_with_path(resumed.state)
    for (path, x), y in zip(found, jax.tree.leaves(whole.state), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))
