"""What is logged of runs on finite tasks, against a plain account of the same trajectory."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.measure.metrics import exact_of

SIZE, ENVS, STEPS, UPDATES = 4, 2, 6, 3
REACHABLE = SIZE * (SIZE + 1) // 2


def config(env: Any, **kwargs: Any) -> xplore.Config:
    return xplore.Config(
        env,
        xplore.make_agent("random"),
        xplore.make_bonus("none"),
        xplore.make_world_sampler("fresh"),
        budget_steps=ENVS * STEPS * UPDATES,
        num_envs=ENVS,
        num_steps=STEPS,
        **kwargs,
    )


@pytest.fixture(scope="module")
def run() -> tuple[Any, list[Any], list[dict[str, jax.Array]]]:
    """A random run on DeepSea whose trajectories are kept: episodes are cut by updates."""
    env = xplore.make("DeepSea-5-v0", size=SIZE)
    trajectories: list[Any] = []

    class Keeping:
        def __init__(self, bonus: Any) -> None:
            self.init, self.update = bonus.init, bonus.update

        def reads(self) -> tuple[str, ...]:
            return ("index", "state")

        def reward(self, state: Any, traj: Any) -> Any:
            jax.debug.callback(trajectories.append, traj, ordered=True)
            return state, jnp.zeros(traj.reward.shape)

    plain = config(env)
    keeping: Any = Keeping(plain.bonus)
    train = xplore.make_train(xplore.replace(plain, bonus=keeping))
    state, told = jax.jit(train.init)(jax.random.key(3)), []
    update = jax.jit(train.update)
    for _ in range(UPDATES):
        state, metrics = update(state)
        told.append(metrics)
    jax.effects_barrier()
    return state, trajectories, told


class Account:
    """The same, kept one step at a time."""

    def __init__(self) -> None:
        env: Any = xplore.make("DeepSea-5-v0", size=SIZE)
        self.optimal = env.optimal_return
        self.visits: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.tried: set[int] = set()
        self.behind, self.lost, self.step = [0.0] * ENVS, 0.0, 0

    def enter(self, index: int) -> None:
        self.visits[index] = self.visits.get(index, 0) + 1
        self.first.setdefault(index, self.step)

    def take(self, traj: Any) -> list[float]:
        """Regrets of the episodes that ended."""
        ended = []
        for t in range(STEPS):
            for n in range(ENVS):
                index, reward = int(traj.privileged["index"][t, n]), float(traj.reward[t, n])
                if traj.first[t, n]:
                    self.enter(index)
                    self.behind[n] = self.optimal
                    self.lost += self.optimal
                self.behind[n] -= reward
                self.lost -= reward
                self.tried.add(index)
            self.step += ENVS
            for n in range(ENVS):
                if traj.terminated[t, n]:
                    ended.append(self.behind[n])
                else:
                    self.enter(int(traj.next_privileged["index"][t, n]))
        return ended

    def steps_to(self, fraction: float) -> float:
        needed = math.ceil(fraction * REACHABLE)
        times = sorted(self.first.values())
        return times[needed - 1] if len(times) >= needed else math.nan


def test_the_record_is_a_plain_account(run):
    _, trajectories, told = run
    account = Account()
    for traj, metrics in zip(trajectories, told, strict=True):
        ended = account.take(traj)
        total = sum(account.visits.values())
        entropy = -sum(v / total * math.log(v / total) for v in account.visits.values())
        expected = {
            "regret": np.mean(ended) if ended else math.nan,
            "cumulative_regret": account.lost,
            "coverage": len(account.visits) / REACHABLE,
            "visit_entropy": entropy / math.log(REACHABLE),
            "mean_first_visit": np.mean(list(account.first.values())),
            "steps_to_half_coverage": account.steps_to(0.5),
            "steps_to_most_coverage": account.steps_to(0.9),
            "bits": len(account.tried),  # of two actions, one try tells which is right
            "relevant_bits": sum(i % (SIZE + 1) == 0 for i in account.tried),  # the diagonal
        }
        found = {k.removeprefix("oracle/"): v for k, v in metrics.items() if "oracle/" in k}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_first_visits_are_in_the_state(run):
    state, _, told = run
    seen = np.asarray(state.oracle.visits) > 0
    assert seen.sum() / 10 == pytest.approx(float(told[-1]["oracle/coverage"]))
    assert int(state.oracle.step) == ENVS * STEPS * UPDATES
    assert (np.asarray(state.oracle.first_visit)[seen] <= ENVS * STEPS * UPDATES).all()


def test_what_is_known_of_deep_sea():
    exact = exact_of(xplore.make("DeepSea-5-v0"))
    assert exact is not None
    diagonal = np.arange(5) * 6
    assert exact.value[0] == pytest.approx(0.99)
    assert int(exact.reachable.sum()) == 15
    np.testing.assert_array_equal(np.flatnonzero(exact.relevant), diagonal)


def test_what_is_not_finite_logs_nothing():
    assert exact_of(xplore.make("MiniGrid-Empty-5x5-v0")) is None
    train = xplore.make_train(config(xplore.make("MiniGrid-Empty-5x5-v0")))
    state = jax.eval_shape(train.init, jax.random.key(0))
    assert state.oracle == ()
    assert not any("oracle/" in name for name in jax.eval_shape(train.update, state)[1])


def test_a_traced_option_turns_it_off_and_a_run_inside_a_program_works():
    def coverage(cost: Any) -> Any:
        env = xplore.make("DeepSea-5-v0", size=SIZE, unscaled_move_cost=cost)
        return (
            "oracle/coverage"
            in jax.eval_shape(
                (train := xplore.make_train(config(env))).update,
                jax.eval_shape(train.init, jax.random.key(0)),
            )[1]
        )

    seen: list[bool] = []
    jax.eval_shape(lambda cost: seen.append(coverage(cost)), jnp.float32(0.1))
    assert seen == [False]

    @jax.jit
    def whole(key: jax.Array) -> jax.Array:
        train = xplore.make_train(config(xplore.make("DeepSea-5-v0", size=3)))
        return train.update(train.init(key))[1]["oracle/coverage"]

    assert 0 < float(whole(jax.random.key(0))) <= 1
