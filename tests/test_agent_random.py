"""The random agent is uniform, in bounds, and stateless."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xplore.agents.random import Random
from xplore.contracts.component import from_json, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic, contains
from xplore.contracts.types import Agent, EnvSpec, RunSpec

NUM_ENVS = 4096


def run_spec(action: Space) -> RunSpec:
    return RunSpec(EnvSpec("Somewhere-v0", Discrete(3), action, 10), NUM_ENVS, 5)


def draw(action: Space, seed: int = 0) -> Any:
    agent = Random()
    state = agent.init(jax.random.key(9), run_spec(action))
    first = jnp.zeros(NUM_ENVS, bool)
    obs = jnp.zeros(NUM_ENVS, jnp.int32)
    carry, actions, extras = agent.act(jax.random.key(seed), state, (), obs, first)
    assert (carry, extras) == ((), ())
    return actions


def test_discrete_actions_are_uniform() -> None:
    actions = draw(Discrete(5))
    assert actions.shape == (NUM_ENVS,)
    assert contains(Discrete(5), actions)
    # A fixed key: the test is deterministic, the threshold that of a 1 in 1000 false alarm.
    assert stats.chisquare(np.bincount(actions, minlength=5)).pvalue > 1e-3


def test_box_actions_are_uniform_within_bounds() -> None:
    box = Box((2,), "float32", -1.5, 0.5)
    actions = draw(box)
    assert actions.shape == (NUM_ENVS, 2)
    assert contains(box, actions)
    for column in np.asarray(actions).T:
        assert stats.kstest(column, "uniform", (-1.5, 2.0)).pvalue > 1e-3
    assert abs(np.corrcoef(np.asarray(actions).T)[0, 1]) < 0.06


@pytest.mark.parametrize(
    ("box", "values"),
    [
        (Box((3,), "int32", -2, 2), range(-2, 3)),
        (Box((3,), "uint8"), range(256)),
        (Box((3,), "int8", -1000, 0.5), range(-128, 1)),
        (Box((), "int32", 7, 7), range(7, 8)),
    ],
)
def test_integer_boxes_reach_both_bounds(box: Box, values: range) -> None:
    actions = draw(box)
    assert actions.dtype == box.dtype
    assert actions.shape == (NUM_ENVS, *box.shape)
    assert set(np.unique(actions).tolist()) == set(values)


@pytest.mark.parametrize(
    "box",
    [
        Box((1,)),
        Box((1,), "float32", 0.0),
        Box((1,), "float32", -3e38, 3e38),
        Box((1,), "float32", math.nan, 1.0),
        Box((1,), "int32"),
        Box((1,), "uint32", 0, 2**32 - 1),
    ],
)
def test_boxes_without_a_uniform_distribution_are_refused(box: Box) -> None:
    with pytest.raises(ConfigError, match=r"Somewhere-v0 is a .* box") as error:
        Random().init(jax.random.key(0), run_spec(box))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("space", [Symbolic((2,), (3, 3)), Dict({"a": Discrete(2)})])
def test_other_spaces_are_refused(space: Space) -> None:
    with pytest.raises(ConfigError, match="Discrete and bounded Box"):
        Random().init(jax.random.key(0), run_spec(space))


def test_a_key_fixes_the_actions_and_another_changes_them() -> None:
    np.testing.assert_array_equal(draw(Discrete(5)), draw(Discrete(5)))
    assert np.mean(draw(Discrete(5)) == draw(Discrete(5), seed=1)) < 0.3


def test_it_learns_nothing_and_is_its_own_greedy_form() -> None:
    agent = Random()
    assert isinstance(agent, Agent)
    state = agent.init(jax.random.key(0), run_spec(Discrete(4)))
    assert jax.tree.leaves(state) == []
    assert agent.greedy() is agent
    assert agent.update(jax.random.key(1), state, None, None) == (state, {})  # type: ignore[arg-type]
    assert from_json(to_json(agent)) == agent


def test_state_passes_through_jit_and_vmap() -> None:
    agent = Random()
    state = jax.vmap(lambda key: agent.init(key, run_spec(Discrete(4))))(
        jax.random.split(jax.random.key(0), 2)
    )

    @jax.jit
    def act(key: jax.Array) -> jax.Array:
        return agent.act(key, state, (), (), jnp.zeros(6, bool))[1]

    assert act(jax.random.key(0)).shape == (6,)
