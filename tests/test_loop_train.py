"""The host loop: exact budgets, resuming, stopping, refusing."""
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.component import component
from xplore.contracts.errors import CheckpointError, ConfigError, DivergedError
from xplore.loop import programs
from xplore.loop.config import Config
from xplore.loop.evaluate import evaluate, evaluate_result
from xplore.loop.session import Interrupted
from xplore.loop.train import train
from xplore.loop.update import make_train
from xplore.parts.levels import held_out_ids

NUM_ENVS, NUM_STEPS = 4, 6


@component
class Learner:
    """A linear agent that is quick to compile; its loss is `poison` from update `poison_at` on."""

    poison: float = 0.0
    poison_at: int = 1_000_000

    def init(self, key, spec):
        return {"w": jax.random.normal(key, (10, spec.env.action.num)), "n": jnp.int32(0)}

    def initial_carry(self, num_envs):
        return ()

    def act(self, key, state, carry, obs, first):
        action = jax.random.categorical(key, obs.reshape(-1, 100)[:, :10] @ state["w"])
        return carry, action.astype(jnp.int32), {}

    def update(self, key, state, traj, r_int):
        noise = jax.random.normal(key, state["w"].shape)
        n = state["n"] + 1
        loss = jnp.where(n >= self.poison_at, self.poison, jnp.mean(r_int) + jnp.sum(noise))
        return {"w": state["w"] + 0.1 * noise, "n": n}, {"loss": loss}

    def greedy(self):
        return self


def config(updates=7.0, agent=None, **changes):
    options = {"num_envs": NUM_ENVS, "num_steps": NUM_STEPS, **changes}
    return Config(
        xplore.make("DeepSea-10-v0"),
        agent or Learner(),
        xplore.make_bonus("none"),
        xplore.make_world_sampler("fresh"),
        budget_steps=int(updates * NUM_ENVS * NUM_STEPS),
        **options,
    )


def assert_same(a, b):
    assert list(a.metrics) == list(b.metrics)
    for name in a.metrics:
        np.testing.assert_array_equal(a.metrics[name], b.metrics[name], err_msg=name)
    for x, y in zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def whole():
    return train(config(), seeds=2)


def test_budget_is_exact_and_resumable_state_is_complete(whole):
    assert whole.env_steps.tolist() == [24 * i for i in range(1, 8)]
    assert whole.metrics["episode/count"].shape == (2, 7)
    # 168 steps of ten-step episodes in each of 4 lanes: 4 ended episodes each.
    assert whole.metrics["episode/count"].sum(axis=1).tolist() == [16.0, 16.0]
    assert whole.flops_per_update > 0


def test_last_update_is_shorter_where_the_budget_asks(whole):
    short = train(config(updates=6.5), seeds=2)
    assert short.env_steps[-1] == 156
    assert len(short.env_steps) == 7
    np.testing.assert_array_equal(
        short.metrics["agent/loss"][:, :6], whole.metrics["agent/loss"][:, :6]
    )


def test_seeds_differ_and_do_not_depend_on_their_company(whole):
    loss = whole.metrics["agent/loss"]
    assert not np.array_equal(loss[0], loss[1])
    alone = train(config(), seeds=[1])
    np.testing.assert_allclose(alone.metrics["agent/loss"][0], loss[1], rtol=1e-5)


def test_sequential_is_the_same_experiment(whole):
    result = train(config(), seeds=2, seed_mode="sequential")
    assert result.seeds == (0, 1)
    np.testing.assert_allclose(result.metrics["agent/loss"], whole.metrics["agent/loss"], rtol=1e-5)
    assert jax.tree.leaves(result.state.agent)[0].shape[0] == 2


def test_resumed_run_is_bit_identical(whole, tmp_path):
    def stop(progress):
        if progress.update >= 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped:
        train(config(), seeds=2, checkpoint_dir=tmp_path, checkpoint_every_s=0, on_progress=stop)
    assert stopped.value.signal_number == signal.SIGTERM
    assert str(tmp_path) in str(stopped.value)
    seen = []
    resumed = train(
        config(), seeds=2, checkpoint_dir=tmp_path, on_progress=lambda p: seen.append(p.update)
    )
    assert seen[0] > 3
    assert_same(resumed, whole)
    again = train(
        config(), seeds=2, checkpoint_dir=tmp_path, on_progress=lambda p: pytest.fail("ran")
    )
    assert_same(again, whole)


def test_checkpoint_of_another_config_is_refused(tmp_path):
    train(config(updates=1), checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="num_levels"):
        train(config(updates=1, num_levels=5), checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="seeds"):
        train(config(updates=1), seeds=2, checkpoint_dir=tmp_path)


def test_signals_are_left_alone_outside_the_main_thread():
    failures = []

    def run():
        try:
            train(config(updates=1))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_divergence_names_update_and_component_and_keeps_the_checkpoint(poison, tmp_path):
    agent = Learner(poison=poison, poison_at=4)
    with pytest.raises(DivergedError) as error:
        train(config(agent=agent), seeds=2, checkpoint_dir=tmp_path, checkpoint_every_s=0)
    message = str(error.value)
    assert "\n" not in message
    for part in ("loss of the agent (Learner)", f"became {poison}", "update 4", "env step 96"):
        assert part in message
    good = train(config(updates=3), seeds=2)
    from xplore.loop.checkpoint import Checkpointer
    from xplore.loop.session import fingerprint

    keeper = Checkpointer(tmp_path, fingerprint(config(agent=agent), (0, 1)))
    found = keeper.restore_latest(
        {"state": good.state, "metrics": train(config(), seeds=2).metrics}
    )
    assert found is not None
    step, tree = found
    assert 1 <= step <= 3
    assert np.isfinite(tree["metrics"]["agent/loss"][:, :step]).all()


def test_memory_is_estimated_before_compiling_and_the_error_names_what_fits(monkeypatch):
    monkeypatch.setattr(programs, "compiled", lambda *_: pytest.fail("compiled first"))
    monkeypatch.setattr(programs, "available_bytes", lambda: 4_000_000)
    with pytest.raises(ConfigError, match=r"GiB.*largest num_envs that fits is \d+") as error:
        train(config(updates=4096, num_envs=4096), seeds=1)
    fits = int(str(error.value).split("fits is ")[1].split()[0].rstrip(":;"))
    programs.check_memory(config(updates=fits, num_envs=fits), 1)
    with pytest.raises(ConfigError):
        programs.check_memory(config(updates=2 * fits, num_envs=2 * fits), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": 0.5}, "below one update"),
        ({"updates": 25 / 24}, "nearest budgets are 24 and 28"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"num_levels": -1}, "num_levels is -1"),
    ],
)
def test_bad_numbers(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes)


def test_bad_seeds():
    with pytest.raises(ConfigError, match="at least one seed"):
        train(config(), seeds=0)
    with pytest.raises(ConfigError, match="each once"):
        train(config(), seeds=[1, 1])
    with pytest.raises(ConfigError, match="'vmap' or 'sequential'"):
        train(config(), seed_mode="both")


def test_make_train_is_pure_and_vmaps_over_a_coefficient():
    def loss(poison):
        pure = make_train(config(agent=Learner(poison=poison, poison_at=1)))
        return pure.update(pure.init(jax.random.key(0)))[1]["agent/loss"]

    np.testing.assert_allclose(jax.jit(jax.vmap(loss))(jnp.array([1.0, 2.0])), [1.0, 2.0])


def test_equal_configs_share_one_compilation():
    assert programs.compiled(config(), 2) is programs.compiled(config(), 2)


def test_evaluate_plays_whole_episodes_on_the_given_levels(whole):
    found = evaluate_result(whole, held_out_ids(0, 3), episodes_per_level=2)
    assert found.returns.shape == (2, 3, 2)
    assert (found.lengths == 10).all()
    ids, key = held_out_ids(0, 1), jax.random.key(0)
    with pytest.raises(ConfigError, match="max_steps"):
        evaluate(Unlimited(), Learner(), {}, ids, key=key)


@component
class Unlimited:
    def spec(self):
        return xplore.EnvSpec("unlimited", xplore.Box((2,)), xplore.Discrete(2), 0)


def test_totals_are_sums_over_all_episodes(whole):
    count, mean = whole.metrics["episode/count"], whole.metrics["episode/return"]
    np.testing.assert_allclose(whole.metrics["episode/total"], np.cumsum(count, axis=1))
    sums = np.cumsum(np.nan_to_num(mean * count), axis=1)
    np.testing.assert_allclose(whole.metrics["episode/total_return"], sums, rtol=1e-4, atol=1e-4)
    assert "episode/total_success" in whole.metrics
