"""World samplers: what they replay, what they try, what they find."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore import Config, Discrete, LevelBatch, TimeStep, Trajectory, make_train
from xplore.agents.pqn import Extras
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box
from xplore.contracts.types import EnvSpec
from xplore.parts import level_buffer as lb
from xplore.parts import level_scores as ls
from xplore.parts.levels import HELD_OUT_BIT, content_ids, fresh_ids, levels_from_ids
from xplore.testing import check_world_sampler
from xplore.worlds.accel import ACCEL
from xplore.worlds.curriculum import Curriculum
from xplore.worlds.learning_progress import LearningProgress
from xplore.worlds.paired import _NETWORK, PAIRED, _Designs, _scores
from xplore.worlds.plr import PLR
from xplore.worlds.robust_plr import RobustPLR
from xplore.worlds.sfl import SFL


@final
@component
class Coins:
    """Levels are numbers: an episode is one step, which succeeds so often in a hundred."""

    def spec(self):
        return EnvSpec("Coins", Box((1,), low=0.0, high=1.0), Discrete(2), 1, stochastic=True)

    def sample_level(self, key):
        return jax.random.randint(key, (), 0, 101)

    def reset_to_level(self, key, level):
        return level, level[None] / 100.0

    def step(self, key, state, action):
        success = jax.random.uniform(key) < state / 100.0
        false = jnp.zeros((), bool)
        reward, info = success.astype(jnp.float32), {"success": success}
        return state, TimeStep(state[None] / 100.0, reward, ~false, false, info)

    def privileged(self, state):
        return {}

    def mutate(self, key, level):
        step = jax.random.randint(key, (), -5, 6)
        return jnp.clip(level + step, 0, 100)

    def optimal_steps(self, level):
        return jnp.where(level == 0, -1, 100 - level)


class Guess(NamedTuple):
    """An agent that does nothing and expects `value` everywhere."""

    value: float = 0.5

    def initial_carry(self, num_envs):
        return ()

    def act(self, key, state, carry, obs, first):
        return carry, jnp.zeros(first.shape, jnp.int32), Extras(jnp.full(first.shape, self.value))


ENV = Coins()
# One program each, in place of one for every operation.
EMPTY = jax.jit(lb.empty_buffer, static_argnums=(0, 1))
INSERT, RESERVE, FIND = jax.jit(lb.insert), jax.jit(lb.reserve), jax.jit(lb.find)
WEIGHTS = jax.jit(lb.replay_weights, static_argnames="prioritisation")
LEARN = jax.jit(lb.learn, static_argnames="score")


def coins(*percents: int) -> LevelBatch:
    return LevelBatch(jnp.array(percents, jnp.int32), jnp.array(percents, jnp.uint32))


def rollout(level_id, reward, terminated, value=0.0) -> Trajectory:
    """A trajectory `[T, N]`; success is reward above 0 where an episode ends."""
    reward = jnp.asarray(reward, jnp.float32)
    ended = jnp.asarray(terminated, bool)
    first = jnp.concatenate([jnp.ones((1, reward.shape[1]), bool), ended[:-1]])
    none = jnp.zeros(reward.shape, bool)
    return Trajectory(
        obs=(), action=(), reward=reward, next_obs=(), terminated=ended, truncated=none,
        first=first, level_id=jnp.broadcast_to(jnp.asarray(level_id, jnp.uint32), reward.shape),
        info={"success": reward > 0}, privileged={}, next_privileged={},
        extras=Extras(jnp.full(reward.shape, value)), carry=(),
    )  # fmt: skip


def filled(scores, ages, size=8) -> lb.Buffer:
    """A buffer with scored levels 1, 2, ... entered so many rollouts ago; the rest is empty."""
    num, buffer = len(scores), jax.device_get(EMPTY(ENV, size))
    ids, score = np.array(buffer.level_id), np.array(buffer.score)
    entered = np.array(buffer.last_entered)
    ids[:num], score[:num], entered[:num] = np.arange(1, num + 1), scores, 100 - np.array(ages, int)
    made = buffer._replace(
        level_id=ids, score=score, is_scored=np.arange(size) < num, last_entered=entered,
        now=np.int32(100),
    )  # fmt: skip
    return jax.tree.map(jnp.asarray, made)


@pytest.mark.parametrize("prioritisation", ["rank", "proportional"])
def test_replay_weights_are_the_papers(prioritisation):
    rng = np.random.default_rng(0)
    scores, ages = rng.uniform(0.1, 2.0, 6), rng.integers(0, 9, 6)
    beta, rho = 0.3, 0.25
    got = WEIGHTS(
        filled(scores, ages), prioritisation=prioritisation, temperature=beta, staleness=rho
    )
    if prioritisation == "rank":
        rank = np.array([1 + sum(other > s for other in scores) for s in scores])
        by_score = (1.0 / rank) ** (1.0 / beta)
    else:
        by_score = scores ** (1.0 / beta)
    expected = (1 - rho) * by_score / by_score.sum() + rho * ages / ages.sum()
    np.testing.assert_allclose(got, np.concatenate([expected, np.zeros(2)]), rtol=2e-5)


def test_equal_ages_are_drawn_alike_and_an_empty_buffer_not_at_all():
    options = {"prioritisation": "rank", "temperature": 0.1, "staleness": 1.0}
    got = WEIGHTS(filled([1.0, 2.0, 3.0], [0, 0, 0]), **options)
    np.testing.assert_allclose(got[:4], [1 / 3, 1 / 3, 1 / 3, 0.0], rtol=1e-6)
    assert float(jnp.sum(WEIGHTS(filled([], []), **options))) == 0.0
    drawn = np.asarray(lb.draw(jax.random.key(0), jnp.array([0.0, 0.75, 0.0, 0.25, 0.0]), 4000))
    assert set(drawn) == {1, 3}
    assert np.mean(drawn == 1) == pytest.approx(0.75, abs=0.03)


def test_learnability_is_unbiased():
    rng = np.random.default_rng(0)
    for p, n in ((0.5, 2), (0.2, 3), (0.9, 10)):
        successes = rng.binomial(n, p, 100_000)
        mean = float(jnp.mean(ls.learnability(jnp.asarray(successes, jnp.float32), jnp.float32(n))))
        assert mean == pytest.approx(p * (1 - p), abs=0.005)
        plain = successes / n
        assert abs(np.mean(plain * (1 - plain)) - p * (1 - p)) > 0.005  # what is corrected for


def test_a_buffer_keeps_the_best_of_old_and_new_once():
    buffer = filled([0.5, 0.9, 0.1], [1, 1, 1], size=4)
    scores = jnp.array([0.7, 0.2, 0.6, 0.6, -jnp.inf])
    buffer = INSERT(buffer, coins(10, 11, 12, 12, 13), scores, ls.empty_tally(5))
    kept = dict(zip(np.asarray(buffer.level_id).tolist(), np.asarray(buffer.score), strict=True))
    assert kept == pytest.approx({2: 0.9, 10: 0.7, 12: 0.6, 1: 0.5})
    assert int(buffer.levels[FIND(buffer, jnp.uint32(12))]) == 12
    again = INSERT(buffer, coins(2, 1), jnp.array([9.0, 9.0]), ls.empty_tally(2))
    np.testing.assert_array_equal(again.score, buffer.score)


def test_places_are_made_where_least_is_lost():
    buffer = filled([0.5, 0.1], [1, 1], size=4)
    buffer = RESERVE(buffer, coins(20, 21))  # into the two empty places
    played = LEARN(buffer, rollout(20, [[0.0]], [[False]]), jnp.zeros((1, 1)), score="max_mc")
    buffer = RESERVE(played, coins(22))  # for 21, which was never entered
    buffer = RESERVE(buffer, coins(23))  # for 22
    assert sorted(np.asarray(buffer.level_id).tolist()) == [1, 2, 20, 23]
    buffer = RESERVE(buffer, coins(24, 25))  # 23, then the lowest score; 20 is being played
    assert sorted(np.asarray(buffer.level_id).tolist()) == [1, 20, 24, 25]


def test_a_score_is_over_the_whole_of_an_episode():
    buffer = RESERVE(EMPTY(ENV, 4), coins(7))
    learn = functools.partial(LEARN, score="l1_value_loss")
    part = rollout(7, [[0.0], [0.0]], [[False], [False]])
    buffer = learn(buffer, part, jnp.array([[1.0], [2.0]]))
    assert not bool(buffer.is_scored.any())
    buffer = learn(buffer, rollout(7, [[1.0]], [[True]]), jnp.array([[6.0]]))
    place = int(FIND(buffer, jnp.uint32(7)))
    assert bool(buffer.is_scored[place])
    assert float(buffer.score[place]) == 3.0
    assert int(buffer.last_entered[place]) == int(buffer.now) == 2
    # Another episode is scored by itself.
    buffer = learn(buffer, rollout(7, [[0.0]], [[True]]), jnp.array([[1.0]]))
    assert float(buffer.score[place]) == 1.0


def test_step_scores_against_numpy():
    rng = np.random.default_rng(1)
    shape = (6, 2)
    ended = np.zeros(shape, bool)
    ended[2, 0] = ended[4, 1] = True
    traj = rollout(1, rng.normal(size=shape), ended)
    value = rng.normal(size=shape).astype(np.float32)
    traj = traj._replace(extras=Extras(jnp.asarray(value)[..., None]))
    discount, trace = 0.9, 0.8
    advantage = np.zeros(shape)
    following, ahead = value[-1].copy(), np.zeros(2)
    for t in reversed(range(6)):
        alive = 1.0 - ended[t]
        delta = np.asarray(traj.reward)[t] + discount * alive * following - value[t]
        ahead = delta + discount * trace * alive * ahead
        advantage[t], following = ahead, value[t]
    for score, expected in (
        ("l1_value_loss", np.abs(advantage)),
        ("positive_value_loss", np.maximum(advantage, 0)),
        ("max_mc", value),
    ):
        got = jax.jit(ls.step_scores, static_argnums=(0, 1))("plr", score, traj, discount, trace)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_max_mc_is_the_best_return_less_the_values():
    tally = ls.empty_tally(2)
    slot = jnp.array([[0, 1], [0, 1], [0, 1]])
    traj = rollout(
        0, [[0.2, 0.0], [0.7, 0.0], [0.0, 0.4]], [[False, True], [True, False], [True] * 2]
    )
    tally, entered, finished = ls.add_rollout(tally, slot, traj, jnp.full((3, 2), 0.25))
    assert bool(entered.all() & finished.all())
    np.testing.assert_allclose(ls.scored("max_mc", tally), [0.9 - 0.25, 0.4 - 0.25], rtol=1e-6)
    np.testing.assert_allclose(tally.episodes, [2.0, 2.0])


def supplied(sampler, state, rounds=1):
    """After so many calls that are shown an agent: the state and the last batch, of 64."""

    def one(state, key):
        return sampler.sample_for(key, state, ENV, 64, Guess(), ())

    keys = jax.random.split(jax.random.key(0), rounds)
    state, batches = jax.jit(lambda s, k: jax.lax.scan(one, s, k))(state, keys)
    return state, jax.tree.map(lambda x: x[-1], batches)


def test_sfl_finds_the_levels_that_are_solved_half_of_the_time():
    sampler = SFL(num_tried=64, num_candidates=512, num_kept=32, scoring_steps=10)
    state, batch = supplied(sampler, sampler.init(jax.random.key(0), ENV), rounds=8)
    _, index = jax.lax.top_k(state.learnability, 32)
    percent = np.asarray(levels_from_ids(ENV, state.level_id[index]).levels)
    assert np.abs(percent - 50).mean() < 15  # of all levels it is 25
    from_them = np.isin(np.asarray(batch.level_id), np.asarray(state.level_id[index]))
    assert from_them.sum() == 32  # half of the batch
    _, metrics = sampler.update(state, batch, rollout(1, [[0.0]], [[True]]))
    assert float(metrics["scoring_steps"]) == 640
    assert float(metrics["levels_generated"]) == 64 + 64


def test_robust_replay_is_of_levels_that_were_tried():
    sampler = RobustPLR(num_new=16, buffer_size=32, scoring_steps=4, temperature=0.5)
    state, batch = supplied(sampler, sampler.init(jax.random.key(0), ENV), rounds=4)
    assert set(np.asarray(batch.level_id)) <= set(np.asarray(state.level_id))
    assert int(content_ids(batch.levels).max()) < HELD_OUT_BIT
    place = np.asarray(FIND(state, batch.level_id))
    np.testing.assert_array_equal(batch.levels, np.asarray(state.levels)[place])
    # R_max - V with V = 1/2: a level that ever succeeds is worth 1/2, one that never does -1/2.
    assert set(np.round(np.asarray(state.score[state.is_scored]), 4)) <= {0.5, -0.5}
    _, metrics = sampler.update(
        state, batch, rollout(batch.level_id[:2], [[1.0, 0.0]], [[True] * 2])
    )
    assert float(metrics["scoring_steps"]) == 64


def test_accel_breeds_towards_what_is_worth_more():
    # From levels that always succeed, or nearly so, to those that are solved at times.
    sampler = ACCEL(num_edited=32, num_new=1, num_edits=2, buffer_size=64, scoring_steps=20,
                    score="learnability", temperature=0.5)  # fmt: skip
    easy = coins(*range(96, 101))
    start = INSERT(sampler.init(jax.random.key(0), ENV), easy, jnp.full(5, 0.01),
                      ls.empty_tally(5))  # fmt: skip
    state, _ = supplied(sampler, start, rounds=1)
    early = np.asarray(state.levels)[np.asarray(state.is_scored)].mean()
    state, _ = supplied(sampler, start, rounds=20)
    percent = np.asarray(state.levels)[np.asarray(state.is_scored)]
    assert early > 85
    assert np.abs(percent - 50).mean() < 20
    bred = np.asarray(state.level_id) == np.asarray(content_ids(state.levels))
    assert bred.mean() > 0.5


def test_plr_replays_a_share_and_scores_what_was_entered():
    sampler = PLR(buffer_size=64, num_levels=40, min_fill=0.05, replay_probability=0.75)
    state = sampler.init(jax.random.key(0), ENV)
    sample = jax.jit(lambda key, state: sampler.sample(key, state, ENV, 16))
    state, batch = sample(jax.random.key(1), state)
    assert len(set(np.asarray(batch.level_id))) <= 4  # new ones again, as there are no others
    traj = rollout(batch.level_id, np.ones((1, 16)), np.ones((1, 16)))
    state, metrics = jax.jit(sampler.update)(state, batch, traj)
    assert float(metrics["levels_generated"]) == 4
    seen = set(np.asarray(batch.level_id).tolist())
    assert set(np.asarray(state.buffer.level_id)[np.asarray(state.buffer.is_scored)]) == seen
    _, batch = sample(jax.random.key(2), state)
    assert 12 <= sum(int(i) in seen for i in np.asarray(batch.level_id)) < 16


def config(worlds):
    return Config(
        env=ENV, agent=xplore.make_agent("random"), bonus=xplore.make_bonus("none"),
        worlds=worlds, budget_steps=64, num_envs=4, num_steps=4,
    )  # fmt: skip


@pytest.mark.parametrize("worlds", ["plr", "robust_plr"])
def test_agents_without_values_are_refused(worlds):
    pure = make_train(config(xplore.make_world_sampler(worlds)))
    with pytest.raises(ConfigError, match=f"{worlds} scores levels by values"):
        jax.eval_shape(pure.update, jax.eval_shape(pure.init, jax.random.key(0)))


def test_the_loop_shows_the_agent_and_counts_what_that_takes():
    sampler = RobustPLR(score="learnability", num_new=8, scoring_steps=6, buffer_size=32)
    result = xplore.train(config(sampler))
    assert result.metrics["worlds/scoring_steps"].tolist() == [[48.0] * 4]
    assert result.metrics["worlds/levels_generated"].tolist() == [[8.0] * 4]
    lanes, known = result.state.lanes.level_id[0], result.state.worlds.level_id[0]
    assert set(lanes.tolist()) <= set(known.tolist())


def test_learning_progress_is_where_success_changes():
    sampler: Any = LearningProgress(num_levels=8, uniform=0.1)
    state = sampler.init(jax.random.key(0), ENV)
    learned, stuck = state.ids[3], state.ids[5]
    traj = rollout(jnp.array([learned, stuck]), [[1.0, 0.0]], [[True, True]])
    state, metrics = sampler.update(state, None, traj)
    drawn = sampler.sample(jax.random.key(1), state, ENV, 2000)[1].level_id
    share = np.mean(np.asarray(drawn) == int(learned))
    assert share == pytest.approx(0.9 + 0.1 / 8, abs=0.03)
    for _ in range(60):  # mastered: both means are there
        state, metrics = sampler.update(state, None, traj)
    assert float(jnp.abs(state.fast - state.slow).max()) < 0.1
    assert float(metrics["mastered"]) == pytest.approx(1 / 8)


def test_the_curriculum_goes_from_easy_to_hard():
    sampler: Any = Curriculum(num_levels=50, start=0.2)
    state = sampler.init(jax.random.key(0), ENV)

    def percents(state):
        return np.asarray(sampler.sample(jax.random.key(1), state, ENV, 200)[1].levels)

    every = np.sort(np.asarray(levels_from_ids(ENV, state.ids).levels))[::-1]
    assert percents(state).min() >= every[10]
    ids, ended = state.ids[state.difficulty[:4]], np.ones((1, 4))
    solved, failed = (rollout(ids, x * ended, ended) for x in (1, 0))
    assert float(sampler.update(state, None, failed)[0].reach) == pytest.approx(0.2)
    for _ in range(60):
        state, _ = sampler.update(state, None, solved)
    assert float(state.reach) == 1.0
    assert 0 < percents(state).min() <= every[every > 0][-3]


def test_an_adversary_learns_to_choose_for_regret():
    sampler = PAIRED("random", num_levels=8, num_choices=3, learning_rate=0.05)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 3, 5)), jnp.float32)
    params = _NETWORK.init(jax.random.key(0), inputs[0, 0, 0])
    state = sampler.init(jax.random.key(0), ENV)._replace(
        params=params, opt_state=sampler._optimizer().init(params)
    )
    designs = _Designs(inputs, jnp.array([[0, 1, 2, 0, 1, 2, 0, 1]]))
    advantage = jnp.array([1.0, -1.0] * 4)
    before = jax.nn.softmax(_scores(params, inputs[0]))
    learn = jax.jit(sampler._learn)
    for _ in range(3):
        params, opt_state = learn(state, designs, advantage)
        state = state._replace(params=params, opt_state=opt_state)
    after = jax.nn.softmax(_scores(params, inputs[0]))
    at = (jnp.arange(8), designs.choice[0])
    assert float(jnp.sum(advantage * (after[at] - before[at]))) > 1.0


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [ACCEL(buffer_size=64), Curriculum(num_levels=16)], ids=repr)
def test_samplers_that_ask_for_more_than_levels_keep_their_promises(sampler):
    check_world_sampler(sampler, ENV)


@pytest.mark.parametrize("sampler", [ACCEL(), Curriculum()], ids=["accel", "curriculum"])
def test_samplers_that_ask_for_more_than_levels(sampler):
    with pytest.raises(ConfigError, match="choose an environment that has"):
        sampler.init(jax.random.key(0), xplore.make("DeepSea-5-v0"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: xplore.make_world_sampler("plr", score="regret"), "must be one of max_mc"),
        (lambda: PLR(replay_probability=1.0), "no level would ever be new"),
        (lambda: PLR(temperature=0.0), "above 0"),
        (lambda: RobustPLR(buffer_size=0), "at least 1"),
        (lambda: SFL(num_tried=30), "no multiple of num_tried"),
        (lambda: LearningProgress(slow_rate=0.5), "below fast_rate"),
        (lambda: PAIRED(num_choices=1), "at least 2"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
    assert int(fresh_ids(jax.random.key(0), 100).max()) < HELD_OUT_BIT
