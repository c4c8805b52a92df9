"""Torsos: a deep one for pictures, and modules of the user's own."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.networks import ImpalaCNN, PatchConv, resolve_torso
from xplore.agents.ppo import PPO
from xplore.contracts.component import from_json, to_json
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, RunSpec

SPACE = Dict({"picture": Box((4, 5, 3), "uint8", 0, 255), "speed": Box((2,))})
SPEC = RunSpec(EnvSpec("both", SPACE, Discrete(3), 9), 8, 2)


class Both(nn.Module):
    """Sees the parts of a dict of observations as they are."""

    size: int = 8
    width: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, obs):
        assert obs["picture"].dtype == jnp.uint8
        assert obs["picture"].shape[1:] == (4, 5, 3)
        flat = obs["picture"].reshape(obs["picture"].shape[0], -1) / 255.0
        return nn.Dense(self.size)(jnp.concatenate([flat, obs["speed"]], axis=-1))


class Wrong(nn.Module):
    """Gives what no agent can use."""

    what: str = "rank"

    @nn.compact
    def __call__(self, obs):
        speed = obs["speed"]
        return {"rank": speed[..., None], "dtype": speed > 0, "kind": (speed,)}[self.what]


class TwoArguments(nn.Module):
    """Wants more than an observation."""

    def __call__(self, obs, memory):
        return obs


def acts(agent):
    """Shapes of what acting takes and gives; nothing is compiled."""

    def act(key):
        state, carry = agent.init(key, SPEC), agent.initial_carry(8)
        obs = jax.vmap(SPACE.sample)(jax.random.split(key, 8))
        return state, agent.act(key, state, carry, obs, jnp.ones(8, bool))[1:]

    return jax.eval_shape(act, jax.random.key(0))


@pytest.mark.parametrize("id", ["ppo", "ppo_rnn", "pqn", "pqn_rnn", "dqn", "ede", "boot_dqn"])
def test_a_module_of_ones_own_is_a_torso(id):
    state, (action, _) = acts(xplore.make_agent(id, torso=Both(size=6), hidden_sizes=(16,)))
    assert action.shape == (8,)
    params = (state.learned if hasattr(state, "learned") else state).params["params"]
    assert params["torso"]["Dense_0"]["kernel"].shape[-2:] == (62, 6)


def test_a_torso_is_part_of_the_value():
    agent = PPO(torso=Both(size=6))
    assert agent == PPO(torso=Both(size=6))
    assert hash(agent) == hash(PPO(torso=Both(size=6)))
    assert agent != PPO(torso=Both(size=7))
    written = to_json(PPO(torso=nn.Dense(3)))["torso"]
    assert (written["kind"], written["features"]) == ("flax.linen.linear:Dense", 3)
    assert from_json(written) == nn.Dense(3)


@pytest.mark.parametrize(
    ("torso", "said"),
    [
        (
            Wrong("rank"),
            r"torso Wrong gave float32\[1, 2, 1\] for 1 observations.*float32 \[1, D\]",
        ),
        (Wrong("dtype"), r"gave bool\[1, 2\]"),
        (Wrong("kind"), "gave tuple"),
        (TwoArguments(), r"TwoArguments cannot be called with observations \[B, ...\].*memory"),
        (Both, r"torso is Both: give an instance of it, Both\(\)"),
        (7, "torso is 7: give a flax module, or one of auto, mlp, cnn, impala"),
        (
            Both(width=[1]),  # type: ignore[arg-type]
            "torso Both has a field that cannot be hashed: use tuples, no lists",
        ),
        ("inpala", "unknown torso 'inpala'.*impala"),
        ("impala", r"torso 'impala' needs observations \[H, W, C\]"),
    ],
)
def test_what_is_no_torso_is_refused(torso, said):
    with pytest.raises(ConfigError, match=said):
        acts(PPO(torso=torso))


def test_impala_does_what_convolutions_and_pools_do():
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    ours = ImpalaCNN((4,))

    def theirs(params, x):
        def conv(name, x):
            p = params[name]["Dense_0"]
            kernel = p["kernel"].reshape(3, 3, x.shape[-1], 4)
            out = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return out + jnp.broadcast_to(p["bias"], out.shape)

        x = nn.max_pool(conv("PatchConv_0", x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for i in (1, 3):
            x = x + conv(f"PatchConv_{i + 1}", nn.relu(conv(f"PatchConv_{i}", nn.relu(x))))
        return nn.relu(x).reshape(x.shape[0], -1)

    @jax.jit
    def both(key):
        params = ours.init(key, x)

        def with_slope(apply):
            return apply(x), jax.grad(lambda x: jnp.sum(jnp.square(apply(x))))(x)

        return with_slope(lambda x: ours.apply(params, x)), with_slope(
            lambda x: theirs(params["params"], x)
        )

    found, expected = both(jax.random.key(1))
    assert found[0].shape == (2, 5 * 4 * 4)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


def test_impala_takes_pictures_in_colour():
    space = Box((64, 64, 3), "uint8", 0, 255)
    assert resolve_torso("impala", space) == "impala"
    spec = RunSpec(EnvSpec("rgb", space, Discrete(3), 9), 8, 2)
    state = jax.eval_shape(lambda key: PPO(torso="impala").init(key, spec), jax.random.key(0))
    params = state.params["params"]
    assert params["actor"]["Dense_0"]["kernel"].shape == (8 * 8 * 32, 64)
    assert len(params["cnn"]) == 15  # three blocks of five convolutions
    assert PatchConv(2, padding=1).channels == 2


def test_the_page_of_agents_shows_a_network_that_works(tmp_path):
    page = Path(__file__).resolve().parents[1] / "docs" / "agents.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    agent = xplore.make_agent(f"{tmp_path / 'mine.py'}:my_ppo", discount=0.9)
    assert agent.discount == 0.9
    env = xplore.make("MiniGrid-Empty-5x5-v0").spec()
    state = jax.eval_shape(lambda key: agent.init(key, RunSpec(env, 8, 4)), jax.random.key(0))
    assert "torso" in state.params["params"]
