"""Our environments under gymnasium's API, against gymnasium's own checks, and against upstream."""

from __future__ import annotations

import subprocess
import sys
import types
from typing import Any

import gymnasium
import jax.numpy as jnp
import minigrid  # noqa: F401 - registers upstream's environments
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import xplore
from xplore.benchmarks import gymnasium_ppo
from xplore.compat import gymnasium as compat
from xplore.contracts.errors import ConfigError
from xplore.envs.minigrid.observation import View
from xplore.envs.minigrid.upstream import level_into_minigrid
from xplore.parts.levels import held_out_ids, level_from_id, train_ids

# What they make has more to it than gymnasium's types say: seeds in lists, upstream's attributes.
make: Any = compat.make
make_vec: Any = compat.make_vec
gymnasium_make: Any = gymnasium.make
gymnasium_make_vec: Any = gymnasium.make_vec

EMPTY = "MiniGrid-Empty-Random-5x5-v0"
DOORKEY = "MiniGrid-DoorKey-5x5-v0"
MODES = ("NextStep", "SameStep")
# With discrete and continuous actions, with noise in its steps, with short episodes.
IDS = {
    EMPTY: {"max_steps": 7},
    DOORKEY: {"max_steps": 5},
    "DeepSea-10-v0": {},
    "gymnax/FrozenLake-misc": {},
    "gymnax/Pendulum-v1": {"max_steps_in_episode": 9},
}


@pytest.fixture(scope="module", autouse=True)
def registered():
    compat.register()


def _same(a, b, id):
    # A batch of another size may add floats in another order.
    return data_equivalence(a, b, exact="Pendulum" not in id)


def _play(env, num_steps, seed=0):
    """Steps the env as it is iterated over: random actions, and what came of each."""
    env.action_space.seed(seed)
    for _ in range(num_steps):
        action = env.action_space.sample()
        yield action, env.step(action)


def test_gymnasium_is_imported_only_when_it_is_needed():
    code = (
        "import sys, xplore; xplore.list_envs();"
        "assert 'xplore.compat.gymnasium' in sys.modules;"
        "assert 'gymnasium' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("call", [compat.register, lambda: make(EMPTY), lambda: make_vec(EMPTY, 2)])
def test_without_gymnasium_the_error_says_what_to_install(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match="pip install gymnasium"):
        call()


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is")
@pytest.mark.filterwarnings("ignore:.*For Box action spaces, we recommend")
@pytest.mark.parametrize("id", [*IDS, "MiniGrid-FourRooms-v0", "gymnax/CartPole-v1"])
def test_single_env_passes_gymnasiums_checker(id):
    name = "xplore/" + id.replace("/", "-")
    check_env(gymnasium_make(name).unwrapped)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", IDS)
def test_vector_env_goes_through_what_single_envs_do(id, mode):
    singles = SyncVectorEnv([lambda: make(id, **IDS[id])] * 3, autoreset_mode=mode)
    envs = make_vec(id, 3, autoreset_mode=mode, **IDS[id])
    assert envs.observation_space == singles.observation_space
    assert envs.single_observation_space == singles.single_observation_space
    assert envs.action_space == singles.action_space
    assert envs.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert _same(envs.reset(seed=5), singles.reset(seed=5), id)
    ends = 0
    for action, ours in _play(envs, 40):
        theirs = singles.step(action)
        assert _same(ours, theirs, id), (ours, theirs)
        assert ours[0] in envs.observation_space
        assert [x.dtype for x in ours[1:4]] == [x.dtype for x in theirs[1:4]]
        ends += np.sum(ours[2] | ours[3])
    assert ends > (0 if "FrozenLake" in id else 5)
    # A second reset goes on with the streams.
    assert _same(envs.reset(), singles.reset(), id)


@pytest.mark.parametrize("mode", MODES)
def test_an_env_does_not_depend_on_how_many_there_are(mode):
    """More than begin at a time, and not a multiple of that, all ending at once or one by one."""
    num_envs, picked = 70, [0, 31, 32, 69]
    envs = make_vec(EMPTY, num_envs, autoreset_mode=mode, max_steps=9)
    few = make_vec(EMPTY, len(picked), autoreset_mode=mode, max_steps=9)
    envs.reset(seed=0)
    few.reset(seed=picked)
    for action, (obs, reward, terminated, truncated, infos) in _play(envs, 40):
        theirs = few.step(action[picked])
        assert np.array_equal(obs["image"][picked], theirs[0]["image"])
        assert np.array_equal(reward[picked], theirs[1])
        assert np.array_equal(terminated[picked], theirs[2])
        assert np.array_equal(truncated[picked], theirs[3])
        assert np.array_equal(infos["level_id"][picked], theirs[4]["level_id"])


def _until_an_end(mode):
    envs = make_vec(EMPTY, 4, autoreset_mode=mode)
    envs.reset(seed=2)
    for _, step in _play(envs, 200):
        if step[2].any():
            return envs, step
    raise AssertionError("no success in 200 steps")


def test_next_step_shows_the_last_observation_and_then_begins_anew():
    envs, (_, reward, ended, truncated, infos) = _until_an_end("NextStep")
    assert not truncated.any()
    assert not ended.all()
    assert (reward > 0).tolist() == infos["success"].tolist() == ended.tolist()
    assert "final_obs" not in infos
    after, *came, infos_after = envs.step(np.full(4, 1))
    assert not np.stack(came)[:, ended].any()
    assert (infos_after["level_id"] != infos["level_id"]).tolist() == ended.tolist()
    assert infos_after["_success"].tolist() == (~ended).tolist()
    single = make(EMPTY)
    for i in np.flatnonzero(ended).tolist():
        single.reset(seed=2 + i)
        first, info = single.reset()
        assert info["level_id"] == infos_after["level_id"][i]
        # It stands as it began: the action, a turn, was not carried out.
        assert first["direction"] == after["direction"][i]
        assert np.array_equal(first["image"], after["image"][i])


def test_same_step_keeps_the_last_observation_in_the_infos():
    _, (obs, reward, ended, _, infos) = _until_an_end("SameStep")
    _, (last, reward_too, ended_too, _, infos_too) = _until_an_end("NextStep")
    assert np.array_equal(reward, reward_too)
    assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == ended.tolist()
    assert ended.tolist() == ended_too.tolist()
    for i in range(4):
        if ended[i]:
            assert np.array_equal(infos["final_obs"][i]["image"], last["image"][i])
            assert infos["final_info"]["success"][i]
            assert infos["final_info"]["level_id"][i] == infos_too["level_id"][i]
            assert infos["level_id"][i] != infos_too["level_id"][i]
        else:
            assert infos["final_obs"][i] is None
            assert infos["level_id"][i] == infos_too["level_id"][i]
            assert np.array_equal(obs["image"][i], last["image"][i])


def test_termination_and_truncation_stay_apart():
    envs = make_vec(EMPTY, 8, max_steps=6)
    envs.reset(seed=0)
    steps = [step for _, step in _play(envs, 200)]
    terminated, truncated = (np.stack([s[i] for s in steps]) for i in (2, 3))
    assert (terminated & ~truncated).any()
    assert (truncated & ~terminated).any()
    assert np.array_equal(np.stack([s[1] for s in steps]) > 0, terminated)


def test_seeds():
    def levels(env, **reset):
        ids = [env.reset(**reset)[1]["level_id"], env.reset()[1]["level_id"]]
        return np.asarray(ids).tolist()

    env, envs = make(DOORKEY), make_vec(DOORKEY, 3, seed=7)
    one = levels(env, seed=7)
    assert levels(env, seed=7) == one == levels(make(DOORKEY), seed=7)
    assert levels(env, seed=8) != one
    assert levels(make(DOORKEY)) != levels(make(DOORKEY))  # entropy
    three = levels(envs)
    assert [ids[0] for ids in three] == one
    assert levels(make_vec(DOORKEY, 3, seed=0), seed=7) == three
    assert levels(envs, seed=[7, 8, 9]) == three
    first = envs.reset(seed=[7, None, 9])[1]["level_id"]
    assert first[[0, 2]].tolist() == np.asarray(three)[0, [0, 2]].tolist()
    assert first[1] not in np.asarray(three)[:, 1]  # that stream went on
    unseeded = [levels(gymnasium_make_vec("xplore/" + DOORKEY, 2)) for _ in range(2)]
    assert unseeded[0] != unseeded[1]
    with pytest.raises(ConfigError, match="2 seeds for 3 envs"):
        envs.reset(seed=[1, 2])


def test_numpy_that_may_be_written_to():
    envs = make_vec(EMPTY, 2)
    obs, _ = envs.reset()
    obs["image"][:] = 0
    obs, reward, terminated, truncated, _ = envs.step(np.zeros(2, int))
    assert obs["image"].any()
    for array in (obs["image"], obs["direction"], reward, terminated, truncated):
        assert isinstance(array, np.ndarray)
        assert array.flags.writeable


@pytest.mark.parametrize(
    ("levels", "allowed"),
    [(3, train_ids(0, jnp.arange(3))), (held_out_ids(0, 2), held_out_ids(0, 2)), ([9], [9])],
    ids=["number", "held out", "list"],
)
def test_levels_are_those_asked_for(levels, allowed):
    envs = make_vec(EMPTY, 20, levels=levels, max_steps=1)
    envs.reset()
    entered = np.concatenate([step[4]["level_id"] for _, step in _play(envs, 8)])
    assert set(entered.tolist()) == set(np.asarray(allowed).tolist())


def test_fresh_levels_are_never_held_out():
    envs = make_vec(EMPTY, 64)
    ids = np.concatenate([envs.reset()[1]["level_id"] for _ in range(4)])
    assert (ids < 2**31).all()
    assert len(set(ids.tolist())) == ids.size


@pytest.mark.parametrize("id", ["MiniGrid-DoorKey-8x8-v0", "MiniGrid-FourRooms-v0"])
def test_minigrid_is_as_upstream_has_it(id):
    """In one and the same level: observations, pictures and steps, and their types."""
    upstream = gymnasium_make(id, render_mode="rgb_array").unwrapped
    env = gymnasium_make("xplore/" + id, render_mode="rgb_array")
    for name in ("image", "direction"):
        assert env.observation_space[name] == upstream.observation_space[name]
    assert env.action_space == upstream.action_space
    upstream.reset(seed=0)
    obs, info = env.reset(seed=4)
    ours: Any = xplore.make(id)
    level_into_minigrid(upstream, ours.task, level_from_id(ours, jnp.uint32(info["level_id"])))
    rng = np.random.default_rng(0)
    theirs = upstream.gen_obs()
    for _ in range(30):
        assert data_equivalence(obs, {**theirs, "direction": np.int64(theirs["direction"])})
        assert obs["mission"] in env.observation_space["mission"]
        assert np.array_equal(env.render(), upstream.render())
        action = int(rng.integers(7))
        obs, *ours_rest, _ = env.step(action)
        theirs, *theirs_rest, _ = upstream.step(action)
        assert ours_rest == pytest.approx(theirs_rest)
        assert [type(x) for x in ours_rest[1:]] == [type(x) for x in theirs_rest[1:]]


def test_missions_may_be_words_and_views_may_differ():
    words = make_vec(DOORKEY, 2, text_missions=False)
    obs, _ = words.reset()
    assert obs in words.observation_space
    assert obs["mission"].dtype == np.uint8
    sized = make(DOORKEY, view=View(size=5, mission=True))
    obs, _ = sized.reset(seed=0)
    assert obs in sized.observation_space
    assert sorted(obs) == ["image", "mission"]
    assert obs["mission"] == "use the key to open the door and then get to the goal"
    image, _ = make(DOORKEY, view=View()).reset(seed=0)
    assert image.shape == (7, 7, 3)


def test_pictures_of_many():
    envs = gymnasium_make_vec("xplore/" + EMPTY, num_envs=3, render_mode="rgb_array")
    envs.reset(seed=0)
    frames = envs.render()
    assert isinstance(frames, tuple)
    single = make(EMPTY, render_mode="rgb_array")
    single.reset(seed=2)
    assert np.array_equal(frames[2], single.render())
    assert make_vec(EMPTY, 2).render() is None


def test_registering():
    ids = compat.register()  # again: no warning, which would be an error here
    assert len(ids) == len(xplore.list_envs())
    assert set(ids) <= set(gymnasium.registry)
    envs = gymnasium_make_vec("xplore/" + EMPTY, num_envs=2, autoreset_mode="SameStep", max_steps=4)
    assert isinstance(envs, VectorEnv)
    assert envs.num_envs == 2
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with pytest.raises(ConfigError, match="did you mean 'max_steps'"):
        gymnasium_make("xplore/" + EMPTY, max_step=4)


def test_prefix():
    ids = compat.register(prefix="other/")
    try:
        assert "other/gymnax-CartPole-v1" in ids
        assert gymnasium_make("other/" + EMPTY).reset(seed=0)
    finally:
        for id in ids:
            del gymnasium.registry[id]


def test_gymnasiums_statistics_count_episodes():
    envs = RecordEpisodeStatistics(make_vec(EMPTY, 4, max_steps=20))
    envs.reset(seed=0)
    ends = sum(int((s[2] | s[3]).sum()) for _, s in _play(envs, 100))
    assert ends == envs.episode_count
    assert max(envs.length_queue) <= 20
    assert 0 < max(envs.return_queue) < 1


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: make(EMPTY, render_mode="ansi"), "render_mode is 'ansi'"),
        (lambda: make("DeepSea-10-v0", render_mode="rgb_array"), "no pictures"),
        (lambda: make(EMPTY, levels=0), "levels is 0"),
        (lambda: make(EMPTY, levels=[]), "levels is"),
        (lambda: make_vec(EMPTY, 0), "num_envs is 0"),
        (lambda: make_vec(EMPTY, 2, autoreset_mode="Disabled"), "'Disabled'"),
        (lambda: make_vec(EMPTY, 2, autoreset_mode=AutoresetMode.DISABLED), "'Disabled'"),
    ],
)
def test_a_wrong_setting_is_named(call, match):
    with pytest.raises(ConfigError, match=match):
        call()


def test_wrong_actions_and_no_reset():
    env, envs = make(EMPTY), make_vec(EMPTY, 2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    envs.reset()
    for action in (7, -1, 0.5, [0]):
        with pytest.raises(gymnasium.error.InvalidAction):
            env.step(action)
    with pytest.raises(gymnasium.error.InvalidAction):
        envs.step(np.zeros(3, int))


class _FakeVecEnv:
    def __init__(self, num_envs, observation_space, action_space):
        self.num_envs, self._seeds = num_envs, [0] * num_envs


def test_adapter_to_stable_baselines_tells_ends_apart(monkeypatch):
    fake = types.SimpleNamespace(VecEnv=_FakeVecEnv)
    monkeypatch.setattr(gymnasium_ppo, "_module", lambda name: fake)
    envs: Any = gymnasium_ppo.to_stable_baselines(gymnasium_ppo.make_envs(EMPTY, 8, max_steps=6))
    assert _FakeVecEnv in type(envs).mro()
    envs.reset()
    told = []
    for actions in np.random.default_rng(0).integers(7, size=(200, 8)):
        envs.step_async(actions)
        _, reward, ended, infos = envs.step_wait()
        assert [bool(info) for info in infos] == ended.tolist()
        told += [(info, r) for info, r in zip(infos, reward, strict=True) if info]
    assert {info["is_success"] for info, _ in told} == {True, False}
    assert all(info["is_success"] == (r > 0) != info["TimeLimit.truncated"] for info, r in told)
    assert all(info["terminal_observation"].shape == (7, 7, 3) for info, _ in told)


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ConfigError, match="pip install stable-baselines3"):
        gymnasium_ppo.learn(EMPTY, 1)


@pytest.mark.slow
def test_a_ppo_in_torch_learns():
    pytest.importorskip("stable_baselines3")
    found = gymnasium_ppo.learn(EMPTY, 50_000)
    assert found.before < 0.8
    assert found.after > 0.95
