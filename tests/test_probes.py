"""The probes' known values, by exhaustion of their trees; the exploration probe, by exploring."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import xplore
from xplore.benchmarks import probes as learners_on_probes
from xplore.contracts.errors import ConfigError
from xplore.envs import probes

VALUE_PROBES = {
    "Probe-Constant-v0": probes.ProbeConstant,
    "Probe-Observation-v0": probes.ProbeObservation,
    "Probe-Discount-v0": probes.ProbeDiscount,
    "Probe-Choice-v0": probes.ProbeChoice,
    "Probe-ChoiceByObservation-v0": probes.ProbeChoiceByObservation,
    "Probe-Exploration-v0": probes.ProbeExploration,
}


def best_values(env, discount: float) -> tuple[dict[tuple[float, ...], float], float]:
    """The best value seen from each observation, and the mean best return over 20 levels."""
    key = jax.random.key(0)
    step = jax.jit(env.step)
    values: dict[tuple[float, ...], float] = {}

    def search(state, obs, discount) -> float:
        best = -np.inf
        for action in range(env.spec().action.num):
            after, ts = step(key, state, jnp.int32(action))
            value = float(ts.reward)
            if not (ts.terminated or ts.truncated):
                value += discount * search(after, ts.obs, discount)
            best = max(best, value)
        values[tuple(np.asarray(obs).tolist())] = best
        return best

    returns = []
    for level_key in jax.random.split(key, 20):
        state, obs = env.reset_to_level(key, env.sample_level(level_key))
        returns.append(search(state, obs, 1.0))
        search(state, obs, discount)
    return values, float(np.mean(returns))


@pytest.mark.parametrize("id", [i for i in VALUE_PROBES if i != "Probe-Exploration-v0"])
def test_known_values(id):
    env = VALUE_PROBES[id]()
    assert env == xplore.make(id)
    values, best = best_values(env, 0.9)
    known = {tuple(o.tolist()): v for o, v in zip(env.observations(), env.values(0.9), strict=True)}
    assert known == pytest.approx(values)
    if id != "Probe-Observation-v0":  # there the mean depends on the levels drawn
        assert env.optimal_return == pytest.approx(best)


def test_both_signs_are_drawn_equally_often():
    for env in (probes.ProbeObservation(), probes.ProbeChoiceByObservation()):
        signs = jax.vmap(env.sample_level)(jax.random.split(jax.random.key(0), 2000))
        assert set(np.asarray(signs).tolist()) == {-1.0, 1.0}
        assert abs(float(signs.mean()) - 0.0) < 0.1


def lock_returns(env: probes.ProbeExploration, actions):
    """Rewards, flags and observations `[episodes, length]`."""
    key = jax.random.key(0)

    def episode(actions):
        state, obs = env.reset_to_level(key, env.sample_level(key))
        return obs, jax.lax.scan(lambda s, a: env.step(key, s, a), state, actions)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(episode))(jnp.asarray(actions)))


def test_the_lock_opens_by_one_sequence_of_all():
    env = probes.ProbeExploration(length=8)
    actions = np.array(list(itertools.product((0, 1), repeat=8)))
    first, ts = lock_returns(env, actions)
    opened = ts.info["success"].any(axis=1)
    assert opened.sum() == 1
    returns = ts.reward.sum(axis=1)
    assert returns[opened] == pytest.approx(env.optimal_return)
    assert returns.max() == returns[opened]
    assert env.random_return == pytest.approx(returns.mean(), abs=1e-6)
    np.testing.assert_array_equal(actions[opened][0], env.combination())
    np.testing.assert_array_equal(ts.info["success"], ts.reward > 0.5)
    np.testing.assert_array_equal(ts.terminated, ts.info["success"])
    assert ts.truncated[~opened, -1].all()
    assert not ts.truncated[:, :-1].any()
    assert not ts.truncated[opened].any()
    path = np.concatenate([first[opened], ts.obs[opened][0]])
    np.testing.assert_array_equal(path[:-1], env.observations())
    np.testing.assert_array_equal(path[-1], 0.0)
    # The costs of 8 actions, 0.01/8 each, and the 1 at the end.
    assert env.values(1.0) == pytest.approx(1 - 0.01 / 8 * np.arange(8, 0, -1))
    assert env.values(0.5)[-2:] == pytest.approx([0.5 - 1.5 * 0.01 / 8, 1 - 0.01 / 8])
    assert env.values(0.1)[0] == 0.0  # so short-sighted that the costs outweigh the end


def test_no_period_of_actions_opens_the_lock():
    right = probes.ProbeExploration(length=16).combination()
    for period in range(1, 6):
        assert not any(
            np.array_equal(np.tile(p, 16)[:16], right)
            for p in itertools.product((0, 1), repeat=period)
        )


def times_opened(env: probes.ProbeExploration, coefficient: float, episodes: int) -> int:
    """How many episodes open the lock, planning in the counted model with a bonus (MBIE-EB)."""
    rng = np.random.default_rng(0)
    right, n = env.combination(), env.length
    counts, paid = np.zeros((n + 1, 2)), np.zeros((n + 1, 2))
    successor = np.tile(np.arange(n + 1)[:, None], (1, 2))  # unknown: nothing happens
    opened = 0
    for _ in range(episodes):
        bonus = coefficient / np.sqrt(1 + counts)
        plans = [np.zeros((n + 1, 2))]
        for _ in range(n):
            value = plans[0].max(axis=1)
            value[n] = 0.0
            plans.insert(0, paid + bonus + value[successor])
        position = 0
        for plan in plans[:-1]:
            action = int(np.argmax(plan[position] + rng.random(2) * 1e-9))
            after = position + 1 if action == right[position] else 0
            counts[position, action] += 1
            paid[position, action] = float(after == n) - env.cost * (after > 0)
            successor[position, action] = position = after
            if after == n:
                opened += 1
                break
    return opened


def test_a_count_bonus_opens_the_lock_and_chance_does_not():
    env = probes.ProbeExploration()
    assert env == xplore.make("Probe-Exploration-v0")
    actions = np.random.default_rng(0).integers(0, 2, (2000, env.length))
    _, ts = lock_returns(env, actions)
    assert not ts.info["success"].any()
    assert times_opened(env, 0.0, 200) == 0
    assert times_opened(env, 0.1, 200) > 100


def test_an_impossible_length_is_refused():
    with pytest.raises(ConfigError, match="length"):
        probes.ProbeExploration(length=0)


@pytest.mark.parametrize("id", VALUE_PROBES)
def test_each_probe_says_what_a_failure_means(id):
    said = VALUE_PROBES[id].__doc__
    for heading in (
        "A failure",
        "What it tests:",
        "Optimal return:",
        "Random return:",
        "Solved when:",
    ):
        assert heading in said


def test_the_table_of_learners_tells_what_passed():
    cells = [
        ("ppo", "Probe-Discount-v0", 0.02, np.nan),
        ("ppo", "Probe-Discount-v0", 0.4, np.nan),
        ("ppo", "Probe-Choice-v0", 0.01, 1.0),
        ("ppo", "Probe-Choice-v0", 0.01, 0.5),
        ("ppo", "Probe-Exploration-v0", np.nan, 0.7),
        ("diayn", "Probe-Choice-v0", np.nan, 0.95),
        ("ede with priors", "Probe-Exploration-v0", np.nan, 0.4),
    ]
    rows = pd.DataFrame(cells, columns=["agent", "probe", "value_error", "earned"])
    assert [learners_on_probes.passed(row) for _, row in rows.iterrows()] == [
        True, False, True, False, True, True, False,
    ]  # fmt: skip
    lines = learners_on_probes.report(rows).splitlines()
    assert lines[2] == "| `ppo` |  |  | 1/2 (±0.40) | 1/2 (±0.01, 0.50) |  | 1/1 (0.70) |"
    assert "| `diayn` |  |  |  | 1/1 (0.95) |  |  |" in lines
    assert "| `ede` with priors |  |  |  |  |  | 0/1 (0.40) |" in lines


def test_every_learner_has_a_run_on_every_probe():
    for name in learners_on_probes.LEARNERS:
        run_on = [probe for probe in VALUE_PROBES if learners_on_probes.is_run(name, probe)]
        for probe in run_on:
            assert learners_on_probes.config_of(name, probe).num_updates > 0
        assert len(run_on) == 1 if name.endswith("of scale 0") else len(run_on) >= 5
    readers = set(learners_on_probes.READERS) | {"diayn"}
    assert readers == {learners_on_probes.id_of(name) for name in learners_on_probes.LEARNERS}
