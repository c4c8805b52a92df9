"""`check_env` against environments that each break one promise, named by its `fault`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer
from jax.custom_batching import custom_vmap

from xplore.contracts.component import component
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Outcomes, Starts, TimeStep
from xplore.testing import check_env


def is_traced(x: Any) -> bool:
    return isinstance(x, Tracer)


def noise(x: jax.Array) -> jax.Array:
    """`x` plus a number that differs at each run of the program."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(
        lambda y: (y + np.random.default_rng().random()).astype(y.dtype),
        shape,
        x,
        vmap_method="expand_dims",
    )


@custom_vmap
def wrong_under_vmap(x: jax.Array) -> jax.Array:
    return x


@wrong_under_vmap.def_vmap
def _(axis_size, in_batched, x):
    return x + 1, in_batched[0]


@component
class Walk:
    """A walk along a corridor of 4 steps, or one that breaks a promise."""

    fault: str = ""
    scale: float = 1.0

    def spec(self):
        name = f"Walk-{np.random.default_rng().random()}" if self.fault == "spec" else "Walk"
        position = Box((), "int32", 0, 9) if self.fault == "position" else Discrete(6)
        space = Dict({"position": position})
        return EnvSpec(name, Box((1,), "float32", 0.0, 6.0), Discrete(2), 4, privileged=space)

    def sample_level(self, key):
        start = jax.random.bits(key, (), jnp.uint32) % 2
        return start + 1 if self.fault == "level in Python" and not is_traced(key) else start

    def reset_to_level(self, key, level):
        start = level.astype(jnp.int32)
        if self.fault == "reset's key":
            start = jax.random.randint(key, (), 0, 2)
        if self.fault == "reset repeats not":
            start = (noise(level.astype(jnp.float32)) * 1e6).astype(jnp.int32)
        if self.fault == "reset in Python" and not is_traced(level):
            start = start + 1
        obs = self.observe(start)
        return (start, jnp.int32(0)), obs.astype(jnp.int32) if self.fault == "reset's obs" else obs

    def observe(self, x):
        return x.astype(jnp.float32)[None]

    def reward(self, x):
        reward = jnp.float32(x) * self.scale
        if self.fault == "numpy's random":
            reward = reward + float(np.random.default_rng().random())
        if self.fault == "repeats not":
            reward = noise(reward)
        if self.fault == "vmap":
            reward = wrong_under_vmap(reward)
        if self.fault == "NaN reward":
            reward = reward / 0.0 * 0.0
        return reward

    def info(self, time):
        success = {"success": time == 4}
        return {
            "no success": {},
            "success": {"success": jnp.float32(1.0)},
            "info": success | {"path": jnp.zeros(3)},
            "NaN info": success | {"speed": jnp.where(time > 1, jnp.nan, 1.0)},
        }.get(self.fault, success)

    def step(self, key, state, action):
        x, time = state[0] + 0 * action, state[1] + 1
        fault = self.fault
        if fault == "step's key":
            x = x + jax.random.randint(key, (), 0, 2)
        if fault == "untraceable" and self.scale > 0:
            x = x + 0
        reward, info = self.reward(x), self.info(time)
        obs = self.observe(x)
        if fault == "NaN obs":
            obs = jnp.where(time == 2, jnp.nan, obs)
        if fault == "obs out of bounds":
            obs = obs + 5.0 * time
        ended = (time >= 4) & (fault != "endless")
        state = (x, time.astype(jnp.float32) if fault == "state" else time)
        if fault == "tuple":
            return state, tuple(TimeStep(obs, reward, ended, ended, info))
        return state, TimeStep(
            obs=jnp.concatenate([obs, obs]) if fault == "step's obs" else obs,
            reward=reward.astype(jnp.int32) if fault == "reward" else reward,
            terminated=ended.astype(jnp.float32) if fault == "terminated" else ended,
            truncated=jnp.zeros(2, bool) if fault == "truncated" else jnp.zeros((), bool),
            info=info,
        )

    def privileged(self, state):
        if self.fault == "privileged":
            return {"place": state[0]}
        return {"position": state[0] + 9 if self.fault == "privileged range" else state[0]}


class Unhashable(Walk):
    __hash__ = None  # type: ignore[assignment]


@component
class Secretive(Walk):
    thing: Any = dataclasses.field(default_factory=object)


@component
class Forgetful(Walk):
    size: int = 1

    def __post_init__(self):
        object.__setattr__(self, "size", self.size + 1)


@component
class Changeable(Walk):
    tag: tuple[int, ...] = (1,)

    def __hash__(self):
        return id(self)


class Plain(Walk):
    __is_xplore_component__ = False


ENV_FAULTS = {
    "spec": r"two calls of spec\(\) differ",
    "position": "'position' must be a Discrete",
    "level in Python": "sample_level compiled differs",
    "reset's key": "depends on the reset's key",
    "reset repeats not": "a reset is not deterministic",
    "reset in Python": "reset_to_level compiled differs",
    "reset's obs": "reset's observation is not the spec's",
    "step's key": "step depends on its key",
    "untraceable": "float fields cannot be traced",
    "numpy's random": "under jit differs from step without jit",
    "repeats not": "step is not deterministic",
    "vmap": "under vmap differs from a loop",
    "NaN reward": "reward is not finite",
    "NaN obs": "step's observation is not finite",
    "NaN info": "info is not finite",
    "obs out of bounds": "observation of step is outside",
    "no success": "info needs a bool 'success'",
    "success": "info needs a bool 'success'",
    "info": "info: metrics must be a dict of scalars",
    "endless": "goes on after max_steps=4",
    "state": "step changes the state",
    "tuple": "returns no TimeStep",
    "step's obs": "step's observation is not the spec's",
    "reward": "reward must be a float32 scalar",
    "terminated": "terminated must be a bool scalar",
    "truncated": "truncated must be a bool scalar",
    "privileged": r"privileged\(\) is not the spec's",
    "privileged range": "privileged 'position' is outside",
}


def test_the_sound_environment_passes():
    walk: Any = Walk()
    check_env(walk)


@pytest.mark.parametrize("fault", ENV_FAULTS)
def test_a_broken_environment_fails(fault):
    walk: Any = Walk(fault)
    with pytest.raises(AssertionError, match=ENV_FAULTS[fault]):
        check_env(walk, num_envs=2, num_steps=16)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Unhashable, "cannot be hashed"),
        (Secretive, "does not survive JSON"),
        (Forgetful, "comes back from JSON as"),
        (Changeable, "equal constructions hash differently"),
        (Plain, "is no component"),
        (object, "lacks a method"),
    ],
)
def test_a_broken_value_fails(make, said):
    with pytest.raises(AssertionError, match=said):
        check_env(make())


@component
class Slide:
    """Four rows down a slope, left or right by chance; says all that can happen, or says it wrong.

    Its index is `row * 2 + side`. Action 1 goes right with probability 3/4 and pays 1 there.
    """

    fault: str = ""

    def spec(self):
        index = {"index": Discrete(10)} if self.fault != "no index" else {}
        layers = {"uneven layers": 3, "later layer": 2}.get(self.fault, 5)
        return EnvSpec(
            "Slide", Discrete(10), Discrete(2), 4, True, Dict(index), 0 if index == {} else layers
        )

    def sample_level(self, key):
        return jax.random.bits(key, (), jnp.uint32) % 2

    def reset_to_level(self, key, level):
        state = level.astype(jnp.int32)
        return state, state

    def moved(self, state, right):
        return state + 2 - state % 2 + right

    def step(self, key, state, action):
        right = jax.random.uniform(key) < jnp.where(action == 1, 0.75, 0.25)
        after = self.moved(state, right.astype(jnp.int32))
        reward = jnp.where(right, action, 0).astype(jnp.float32)
        info = {"success": right}
        return after, TimeStep(after, reward, after >= 8, jnp.zeros((), bool), info)

    def privileged(self, state):
        return {} if self.fault == "no index" else {"index": state}

    def starts(self):
        probability, levels = jnp.full(2, 0.5), jnp.arange(2, dtype=jnp.uint32)
        if self.fault == "starts":
            probability = probability * 0.9
        if self.fault == "a start":
            probability = jnp.array([1.0, 0.0])
        return Starts(probability, levels)

    def outcomes(self, state, action):
        likely = jnp.where(action == 1, 0.75, 0.25) - 0.2 * (self.fault == "frequency")
        p = jnp.stack([1.0 - likely, likely])
        if self.fault == "sum":
            p = p * 1.1
        after = self.moved(state, jnp.array([0, 1 + 10 * (self.fault == "range")]))
        if self.fault == "successor":
            after = jnp.where(state == 4, 6, after)
        reward = jnp.array([0.0, 1.0]) * (action + 0.1 * (self.fault == "reward"))
        if self.fault == "shape":
            reward = reward[:1]
        ends = (after >= 8) ^ (self.fault == "end")
        return Outcomes(p, after, reward, ends)


FINITE_FAULTS = {
    "no index": "privileged 'index' must be a Discrete",
    "shape": "outcomes are not K of what a step gives",
    "starts": "probabilities of starts sum to 0.9",
    "a start": r"starts in index \[1\], not among starts",
    "sum": "probabilities of outcomes sum to 1.1",
    "range": "index after an outcome is outside",
    "successor": r"a step leads to index 7 after action . in index 4, no outcome",
    "frequency": "has probability 0.(45|05|95|55).* by outcomes",
    "reward": "has the reward .* by outcomes",
    "end": r"a step leads to index \d after action . in index \d, no outcome",
    "uneven layers": "10 indices are not layers of one size",
    "later layer": "a step leads to another than the next",
}


def test_the_sound_finite_environment_passes():
    slide: Any = Slide()
    check_env(slide, thorough=False)


@pytest.mark.parametrize("fault", FINITE_FAULTS)
def test_wrong_outcomes_fail(fault):
    slide: Any = Slide(fault)
    with pytest.raises(AssertionError, match=FINITE_FAULTS[fault]):
        check_env(slide, num_envs=4, num_steps=16, thorough=False)
