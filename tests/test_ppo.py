"""PPO: probe environments, exact bootstrapping, the convolution trap, and what it refuses."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.networks import ActorCritic, PatchConv, resolve_torso
from xplore.agents.ppo import PPO, Extras
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Symbolic
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.parts.levels import held_out_ids

PROBES = (
    "Probe-Constant-v0",
    "Probe-Observation-v0",
    "Probe-Discount-v0",
    "Probe-Choice-v0",
    "Probe-ChoiceByObservation-v0",
)


def run(
    env,
    bonus="none",
    budget=25_600,
    seeds=1,
    bonus_options=None,
    num_envs=16,
    num_steps=16,
    **agent,
):
    config = Config(
        xplore.make(env),
        xplore.make_agent("ppo", **agent),
        xplore.make_bonus(bonus, **(bonus_options or {})),
        xplore.make_world_sampler("fresh"),
        budget_steps=budget,
        num_envs=num_envs,
        num_steps=num_steps,
        num_levels=256,
    )
    return train(config, seeds=seeds)


@pytest.mark.parametrize("probe", PROBES)
def test_probe(probe):
    env = xplore.make(probe)
    result = run(probe, learning_rate=3e-3, discount=0.9, entropy_coefficient=0.0)
    last = result.metrics["episode/return"][0, -20:]
    assert np.nanmean(last) == pytest.approx(env.optimal_return, abs=0.06)
    state = jax.tree.map(lambda x: x[0], result.state.agent)
    value = state.network.apply(state.params, jnp.asarray(env.observations()), method="value")
    np.testing.assert_allclose(value[:, 0], env.values(0.9), atol=0.12)


@pytest.mark.slow
def test_exploration_probe_needs_the_bonus():
    options = {"budget": 102_400, "seeds": 2, "num_envs": 32, "num_steps": 64}
    without = run("Probe-Exploration-v0", **options)
    with_it = run("Probe-Exploration-v0", "count", bonus_options={"key": "position"}, **options)
    assert np.nanmax(without.metrics["episode/success"]) == 0.0
    assert np.nanmean(with_it.metrics["episode/success"][:, -20:]) > 0.6


def test_truncated_steps_bootstrap_from_their_true_successors():
    agent = PPO(num_minibatches=2)
    env = EnvSpec("vector", Box((3,)), Discrete(2), 9)
    num_steps, num_envs = 5, 4
    state = agent.init(jax.random.key(0), RunSpec(env, num_envs, num_steps))
    rng = np.random.default_rng(0)
    obs, next_obs = jnp.asarray(rng.normal(size=(2, num_steps, num_envs, 3)), jnp.float32)
    truncated = jnp.asarray(rng.random((num_steps, num_envs)) < 0.5)
    terminated = ~truncated & jnp.asarray(rng.random((num_steps, num_envs)) < 0.3)
    ended = truncated | terminated
    # Within an episode the next observation is the successor.
    next_obs = next_obs.at[:-1].set(jnp.where(ended[:-1, :, None], next_obs[:-1], obs[1:]))
    value = state.network.apply(state.params, obs, method="value")
    traj = Trajectory(
        obs, None, jnp.zeros((num_steps, num_envs)), next_obs, terminated, truncated,
        None, None, {}, {}, {}, Extras(None, value), (),
    )  # fmt: skip
    found = jax.jit(agent._successor_values)(state, traj, value)
    exact = state.network.apply(state.params, next_obs, method="value")
    # A terminated step's successor is worth nothing: what stands there is never read.
    mask = np.asarray(~terminated | truncated)
    np.testing.assert_allclose(found[mask], exact[mask], rtol=1e-5, atol=1e-6)


def test_two_heads_are_independent_streams():
    base = run("Probe-Constant-v0", budget=2560)
    two = run(
        "Probe-Constant-v0", "count", budget=25_600, value_heads=2, learning_rate=3e-3,
        discount=0.9, bonus_options={"key": "position"},
    )  # fmt: skip
    state = jax.tree.map(lambda x: x[0], two.state.agent)
    value = state.network.apply(state.params, jnp.zeros((1, 1)), method="value")
    assert value.shape == (1, 2)
    env = xplore.make("Probe-Constant-v0")
    # The extrinsic head still knows the extrinsic value alone.
    np.testing.assert_allclose(value[0, 0], env.values(0.9)[0], atol=0.15)
    assert base.metrics["agent/loss"].shape[1] == 10


def test_refusals():
    spec = RunSpec(EnvSpec("p", Box((3,)), Box((1,)), 9), 8, 4)
    with pytest.raises(ConfigError, match="discrete action spaces"):
        PPO().init(jax.random.key(0), spec)
    spec = RunSpec(EnvSpec("p", Box((3,)), Discrete(2), 9), 6, 4)
    with pytest.raises(ConfigError, match=r"6 envs do not divide into 8 minibatches.*=6"):
        PPO().init(jax.random.key(0), spec)
    with pytest.raises(ConfigError, match="'cnn' needs"):
        PPO(torso="cnn").init(jax.random.key(0), spec._replace(num_envs=8))
    with pytest.raises(ConfigError, match="1 or 2"):
        PPO(value_heads=3)


@pytest.mark.parametrize(
    ("space", "torso"),
    [
        (Box((4,)), "mlp"),
        (Discrete(5), "mlp"),
        (Box((10, 10, 4)), "cnn"),
        (Symbolic((7, 7, 3), (11, 6, 3)), "mlp"),
        (Symbolic((9, 8, 3), (11, 6, 3)), "cnn"),
        (Dict({"a": Box((2, 2, 3)), "b": Discrete(3)}), "mlp"),
    ],
)
@pytest.mark.parametrize("symbols", ["one_hot", "embed", "scaled"])
def test_torso_by_shape_and_every_encoding(space, torso, symbols):
    assert resolve_torso("auto", space) == torso
    network = ActorCritic(space, 3, value_heads=2, symbols=symbols)
    obs = jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 6))
    (logits, values), _ = network.init_with_output(jax.random.key(1), obs)
    assert logits.shape == (6, 3)
    assert values.shape == (6, 2)
    assert np.isfinite(logits).all()


def test_patch_conv_is_a_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 3))
    layer = PatchConv(4, size=3, stride=2)
    ours, variables = layer.init_with_output(jax.random.key(1), x)
    kernel = variables["params"]["Dense_0"]["kernel"].reshape(3, 3, 3, 4)
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_cnn_gradient_does_not_fall_off_a_cliff_inside_a_scan():
    # A convolution primitive is 40 times slower in a loop on XLA's CPU backend; ours must not be.
    network = ActorCritic(Box((8, 8, 3)), 4, torso="cnn")
    x = jax.random.normal(jax.random.key(0), (512, 8, 8, 3))
    params = network.init(jax.random.key(1), x[:1])

    def gradient(params, x):
        return jax.grad(lambda p: jnp.mean(network.apply(p, x)[0] ** 2))(params)

    def repeated(params, x):
        return jax.lax.scan(lambda p, _: (gradient(p, x), None), params, None, 4)[0]

    def seconds(fn):
        fn = jax.jit(fn)
        jax.block_until_ready(fn(params, x))
        times = []
        for _ in range(3):
            started = time.perf_counter()
            jax.block_until_ready(fn(params, x))
            times.append(time.perf_counter() - started)
        return min(times)

    assert "conv_general_dilated" not in str(jax.make_jaxpr(gradient)(params, x))
    assert seconds(repeated) / 4 < 5 * seconds(gradient)


def _held_out(env, budget, seeds, num_envs=64, **agent):
    """Returns and success of PPO without a bonus on levels it was not trained on."""
    config = Config(
        xplore.make(env),
        xplore.make_agent("ppo", **agent),
        xplore.make_bonus("none"),
        xplore.make_world_sampler("fresh"),
        budget_steps=budget,
        num_envs=num_envs,
        num_steps=64,
    )
    return xplore.evaluate_result(train(config, seeds=seeds), held_out_ids(0, 128))


@pytest.mark.slow
def test_cartpole_is_solved():
    found = _held_out("gymnax/CartPole-v1", 299_008, seeds=3, num_envs=32)
    assert found.returns.mean() / 500 > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("size", [5, 6])
def test_doorkey_is_solved(size):
    found = _held_out(f"MiniGrid-DoorKey-{size}x{size}-v0", 499_712, seeds=3)
    assert found.success.mean() > 0.9
