"""Each check of a plug, against plugs that break one promise, named by its `fault`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer
from jax.custom_batching import custom_vmap

import xplore
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import LevelBatch
from xplore.parts.levels import levels_from_ids
from xplore.testing import check_agent, check_bonus, check_world_sampler

ENV = xplore.make("DeepSea-5-v0")


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


@dataclasses.dataclass(frozen=True)
class Tagged:
    """A state with a static part."""

    n: Any
    tag: Any


jax.tree_util.register_dataclass(Tagged, data_fields=["n"], meta_fields=["tag"])


@component
class Visits:
    """Counts steps within an episode, or breaks a promise."""

    fault: str = ""
    scale: float = 1.0

    def reads(self):
        if self.fault == "reads":
            return ["position"]
        return ("altitude",) if self.fault == "refused" else ("position",)

    def init(self, key, spec):
        n = jnp.zeros(spec.num_envs, jnp.float32)
        if self.fault == "init":
            raise TypeError("no such thing")
        if self.fault == "init repeats not":
            n = noise(n)
        if self.fault == "structure":
            return Tagged(n, lambda: None)
        # A number without a dtype of its own: a stored one has one.
        return Tagged(n + 0.1 if self.fault != "checkpoint" else jnp.asarray(0.1), "tag")

    def reward(self, state, traj):
        fault = self.fault
        if fault == "checkpoint":
            r = state.n * (1 + traj.next_privileged["position"]).astype(jnp.bfloat16)
            return state, r.astype(jnp.float32)

        def step(n, x):
            first, position = x
            forget = first if fault != "remembers" else first & False
            n = jnp.where(forget, 0.0, n) + 1.0 + position
            if fault == "other envs":
                n = n + 0 * n + jnp.mean(n)
            return n, n

        start = jnp.zeros_like(state.n) if fault != "remembers rollouts" else state.n
        first = traj.first if fault != "remembers rollouts" else traj.first.at[0].set(False)
        n, r = jax.lax.scan(step, start, (first, traj.next_privileged["position"]))
        if fault == "remembers rollouts":
            r = r.at[traj.first.shape[0] // 2 :].set(0.0)
        if fault == "Python" and not is_traced(traj.reward):
            r = r + 1
        n = n.astype(jnp.int32) if fault == "reward's state" else n
        return dataclasses.replace(state, n=n), self.spoil(r) * self.scale

    def spoil(self, r):
        if self.fault == "untraceable" and self.scale > 0:
            r = r + 1
        if self.fault == "NaN reward":
            r = r / 0.0
        if self.fault == "repeats not":
            r = noise(r)
        if self.fault == "numpy's random":
            r = r + float(np.random.default_rng().random())
        return r.T if self.fault == "reward shape" else r

    def update(self, key, state, traj):
        n = state.n[:1] if self.fault == "update's state" else state.n
        n = n / 0.0 if self.fault == "NaN state" else n
        metric = jnp.nan if self.fault == "NaN metric" else 1.0
        size = (2,) if self.fault == "metrics" else ()
        return dataclasses.replace(state, n=n), {"n": jnp.full(size, metric)}


BONUS_FAULTS = {
    "reads": r"reads\(\) must be a tuple",
    "init": "init raised TypeError",
    "init repeats not": "init is not deterministic",
    "structure": "two calls of init differ",
    "checkpoint": "goes on differently from a checkpoint",
    "remembers": "not forgotten at `first`",
    "remembers rollouts": "not forgotten at `first` of a new rollout",
    "other envs": "an env's reward depends on other envs",
    "untraceable": "float fields cannot be traced",
    "NaN reward": "reward is not finite",
    "repeats not": "is not deterministic",
    "numpy's random": "two traces differ",
    "Python": "reward compiled differs",
    "reward shape": r"reward must be float32 \[T, N\]",
    "reward's state": "reward changes the state",
    "update's state": "update changes the state",
    "NaN state": "the state after update is not finite",
    "NaN metric": "metrics is not finite",
    "metrics": "metrics must be a dict of scalars",
}


def test_the_sound_bonus_passes_and_a_refusal_gets_through():
    sound: Any = Visits()
    check_bonus(sound, ENV, episodic=True)
    refused: Any = Visits("refused")
    with pytest.raises(ConfigError, match="altitude"):
        check_bonus(refused, ENV)


@pytest.mark.parametrize("fault", BONUS_FAULTS)
def test_a_broken_bonus_fails(fault):
    bonus: Any = Visits(fault)
    with pytest.raises(AssertionError, match=BONUS_FAULTS[fault]):
        check_bonus(bonus, ENV, episodic=True)


@component
class Chooser:
    """Sums its observations into a carry and acts at random by it, or breaks a promise."""

    fault: str = ""
    scale: float = 1.0
    is_greedy: bool = False

    def init(self, key, spec):
        if self.fault == "init":
            raise ValueError("no such thing")
        return {"bias": jax.random.normal(key)}

    def initial_carry(self, num_envs):
        return jnp.zeros((1 if self.fault == "carry's size" else num_envs, 1))

    def act(self, key, state, carry, obs, first):
        fault = self.fault
        if fault != "remembers":
            carry = jnp.where(first[:, None], 0.0, carry)
        seen = obs.reshape(obs.shape[0], -1) @ jnp.arange(25.0)[:, None]
        carry = carry + seen * self.scale
        if fault == "other envs":
            carry = carry + jnp.mean(seen)
        if fault == "untraceable" and self.scale > 0:
            carry = carry + 1
        chance = jax.nn.sigmoid(carry[:, 0] + state["bias"])
        action = jax.random.bernoulli(key, chance).astype(jnp.int32)
        if self.is_greedy and fault != "noisy":
            action = (chance > 0.5).astype(jnp.int32)
        if fault == "outside" or (fault == "greedy outside" and self.is_greedy):
            action = action + 2
        if fault == "action's dtype":
            action = action.astype(jnp.float32)
        if fault == "Python" and not is_traced(obs):
            chance = chance + 1
        if fault == "vmap":
            chance = chance + wrong_under_vmap(state["bias"])
        if fault == "NaN extras":
            chance = chance / 0.0
        extras = {"chance": chance[:1] if fault == "extras" else chance}
        return carry[:, :0] if fault == "carry" else carry, action, extras

    def see_reward(self, carry, reward):
        carry = carry + reward[:, None]
        return carry.astype(jnp.int32) if self.fault == "see_reward's carry" else carry

    def update(self, key, state, traj, r_int):
        bias = state["bias"] + jnp.mean(r_int) + jnp.mean(traj.extras["chance"])
        if self.fault == "update's state":
            return {"bias": bias[None]}, {}
        if self.fault == "NaN state":
            bias = bias / 0.0
        if self.fault == "numpy's random":
            bias = bias + float(np.random.default_rng().random())
        if self.fault == "repeats not":
            bias = noise(bias)
        metric = jnp.nan if self.fault == "NaN metric" else 1.0
        return {"bias": bias}, {"n": jnp.full((2,) if self.fault == "metrics" else (), metric)}

    def greedy(self):
        return None if self.fault == "greedy" else dataclasses.replace(self, is_greedy=True)


AGENT_FAULTS = {
    "init": "init raised ValueError",
    "carry's size": r"act changes the carry|must be \[N",
    "remembers": "the carry is not forgotten",
    "other envs": "an env's action depends on other envs",
    "untraceable": "float fields cannot be traced",
    "noisy": r"greedy\(\) acts with noise",
    "outside": "an action is outside",
    "greedy outside": "a greedy action is outside",
    "action's dtype": "act's actions are not the space's",
    "Python": "act compiled differs",
    "vmap": "act under vmap over seeds differs",
    "NaN extras": "not finite",
    "extras": r"extras must be \[N",
    "carry": "act changes the carry",
    "see_reward's carry": "see_reward changes the carry",
    "update's state": "update changes the state",
    "NaN state": "the state after update, or what act returns, is not finite",
    "numpy's random": "two traces differ",
    "repeats not": "is not deterministic",
    "NaN metric": "metrics is not finite",
    "metrics": "metrics must be a dict of scalars",
    "greedy": r"greedy\(\) is no agent",
}


def test_the_sound_agent_passes():
    check_agent(Chooser(), ENV)


@pytest.mark.parametrize("fault", AGENT_FAULTS)
def test_a_broken_agent_fails(fault):
    with pytest.raises(AssertionError, match=AGENT_FAULTS[fault]):
        check_agent(Chooser(fault), ENV)


@component
class Levels:
    """Levels of few ids, or broken promises."""

    fault: str = ""

    def init(self, key, env):
        if self.fault == "init":
            raise ValueError("no such thing")
        return jnp.zeros((), jnp.uint32)

    def sample(self, key, state, env, num_levels):
        fault = self.fault
        ids = jax.random.randint(key, (num_levels,), 0, 4).astype(jnp.uint32)
        if fault == "held out":
            ids = ids | jnp.uint32(1 << 31)
        batch = levels_from_ids(env, ids)
        levels = batch.levels
        if fault == "two levels":
            levels = levels + jnp.arange(num_levels, dtype=jnp.uint32)
        if fault == "levels":
            levels = levels.astype(jnp.int32)
        if fault == "numpy's random":
            levels = levels + np.uint32(np.random.default_rng().integers(1000))
        if fault == "repeats not":
            levels = (noise(levels.astype(jnp.float32)) * 1e6).astype(jnp.uint32)
        if fault == "Python" and not is_traced(key):
            levels = levels + jnp.uint32(1)
        if fault == "id's dtype":
            ids = ids.astype(jnp.int32)
        state = state.astype(jnp.int32) if fault == "sample's state" else state
        return state, LevelBatch(levels, ids)

    def update(self, state, batch, traj):
        metric = jnp.nan if self.fault == "NaN metric" else 1.0
        state = state[None] if self.fault == "update's state" else state
        return state, {"n": jnp.full((2,) if self.fault == "metrics" else (), metric)}


SAMPLER_FAULTS = {
    "init": "init raised ValueError",
    "held out": "a level id has the held-out bit",
    "two levels": "one level id names two levels",
    "levels": "sample's levels are not the environment's",
    "numpy's random": "two traces differ",
    "repeats not": "is not deterministic",
    "Python": "sample compiled differs",
    "id's dtype": "level_id must be uint32",
    "sample's state": "sample changes the state",
    "update's state": "update changes the state",
    "NaN metric": "metrics is not finite",
    "metrics": "metrics must be a dict of scalars",
}


def test_the_sound_world_sampler_passes():
    check_world_sampler(Levels(), ENV)


@pytest.mark.parametrize("fault", SAMPLER_FAULTS)
def test_a_broken_world_sampler_fails(fault):
    with pytest.raises(AssertionError, match=SAMPLER_FAULTS[fault]):
        check_world_sampler(Levels(fault), ENV)


def test_a_missing_method_is_named_for_what_it_is():
    checks: tuple[Any, ...] = (check_agent, check_bonus, check_world_sampler)
    for check in checks:
        with pytest.raises(AssertionError, match="lacks a method"):
            check(object(), ENV)
