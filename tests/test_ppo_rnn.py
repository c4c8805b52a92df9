"""PPO with a memory: learning replays acting, forgets at `first`, and solves what PPO cannot."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.agents.ppo_rnn import PPORNN, _replay
from xplore.agents.recurrent import GRU
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, TimeStep
from xplore.envs import probes
from xplore.loop import rollout as ro
from xplore.loop.config import Config
from xplore.loop.train import train
from xplore.parts import policy_gradient as pg
from xplore.parts.levels import held_out_ids, levels_from_ids
from xplore.testing._programs import compiled


@component
class TwoArms:
    """Six pulls of two arms, of which one pays in this episode; the observation says nothing.

    To know which, an agent must remember what it did and what that earned. The first pull is a
    guess: the best mean return is 5.5, and an agent that does not know its rewards gets 3.
    """

    truncates: bool = False

    def spec(self):
        return EnvSpec("TwoArms", Box((1,)), Discrete(2), 6)

    def sample_level(self, key):
        return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)

    def reset_to_level(self, key, level):
        return probes.ProbeState(jnp.int32(0), level), jnp.zeros(1)

    def step(self, key, state, action):
        paid = (action == (state.sign > 0)).astype(jnp.float32)
        state = state._replace(position=state.position + 1)
        ended = state.position == 6
        cut = jnp.bool_(self.truncates)
        info = {"success": ended & (paid > 0)}
        return state, TimeStep(jnp.zeros(1), paid, ended & ~cut, ended & cut, info)

    def privileged(self, state):
        return {}


TASKS = (
    probes.ProbeConstant(),
    probes.ProbeObservation(),
    probes.ProbeDiscount(),
    probes.ProbeChoice(),
    probes.ProbeChoiceByObservation(),
    TwoArms(),
)


def one_of(values, which):
    return jax.tree.map(lambda *x: jnp.stack(x)[which], *values)


@component
class Several:
    """One of the tasks in each episode, and its number in view: one program learns them all."""

    def spec(self):
        return EnvSpec("Several", Box((1 + len(TASKS),)), Discrete(2), 6)

    def sample_level(self, key):
        which = jax.random.randint(key, (), 0, len(TASKS))
        return which, one_of([task.sample_level(key) for task in TASKS], which)

    def seen(self, obs, which):
        return jnp.concatenate([obs, jax.nn.one_hot(which, len(TASKS))])

    def reset_to_level(self, key, level):
        which, sign = level
        state, obs = one_of([task.reset_to_level(key, sign) for task in TASKS], which)
        return (which, state), self.seen(obs, which)

    def step(self, key, state, action):
        which, state = state
        state, ts = one_of([task.step(key, state, action) for task in TASKS], which)
        return (which, state), ts._replace(obs=self.seen(ts.obs, which))

    def privileged(self, state):
        return {}


def config(env, budget=25_600, bonus="none", num_envs=16, num_steps=16, agent="ppo_rnn", **options):
    if agent == "ppo_rnn":
        options = {"memory_size": 16, "hidden_sizes": (32, 32), **options}
    return Config(
        xplore.make(env) if isinstance(env, str) else env,
        xplore.make_agent(agent, **options),
        xplore.make_bonus(bonus),
        xplore.make_world_sampler("fresh"),
        budget_steps=budget,
        num_envs=num_envs,
        num_steps=num_steps,
        num_levels=64,
    )


NUM_STEPS, NUM_ENVS = 8, 4


@pytest.fixture(scope="module")
def acted():
    """An agent whose outputs depend on all it remembers, and a rollout that begins in episodes."""
    env = TwoArms(truncates=True)
    agent = PPORNN(
        num_minibatches=1, memory_size=8, hidden_sizes=(8, 8), last_reward=True, value_heads=2
    )
    run = RunSpec(env.spec(), NUM_ENVS, NUM_STEPS)
    state = compiled(lambda key: agent.init(key, run))(jax.random.key(0))
    leaves, tree = jax.tree.flatten(state.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [x + jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    state = pg.LearnerState(
        jax.tree.unflatten(tree, noisy), state.opt_state, state.env_steps, state.network
    )
    starts = ro.start(env, (), jax.random.key(2), levels_from_ids(env, held_out_ids(0, 16)))
    lanes = jax.tree.map(lambda x: x[:NUM_ENVS], starts)
    # Episodes of different envs end at different steps.
    lanes = lanes._replace(state=lanes.state._replace(position=jnp.arange(NUM_ENVS)))

    @compiled
    def act(key, carry, lanes):
        return ro.rollout(key, env, agent, (), state, carry, lanes, starts, NUM_STEPS)

    key, again = jax.random.split(jax.random.key(3))
    carry, lanes, _, _ = act(key, agent.initial_carry(NUM_ENVS), lanes)
    carry, _, traj, _ = act(again, carry, lanes)
    return agent, state, carry, traj


def replayed(agent, state, traj):
    shape = traj.reward.shape
    taken = pg.Taken(traj.action, traj.extras.log_prob, traj.extras.value, jnp.zeros((*shape, 2)))
    segments = agent._segments(state.network, traj, taken)
    out = _replay(state.network, state.params, segments)
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(out.logits), traj.action[..., None], -1)
    return log_prob[..., 0], out.value, out.memory


def test_learning_starts_from_what_acting_had(acted):
    agent, state, carry, traj = acted
    first = np.asarray(traj.first)
    assert not first[0].all()  # rollouts begin within episodes,
    assert first[1:].any()  # and episodes within rollouts
    assert len({tuple(column) for column in first.T}) > 1
    log_prob, value, memory = replayed(agent, state, traj)
    np.testing.assert_allclose(log_prob, traj.extras.log_prob, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(value, traj.extras.value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(memory, traj.extras.memory, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(carry.memory, traj.extras.memory[-1])
    np.testing.assert_array_equal(carry.action, traj.action[-1])
    np.testing.assert_array_equal(carry.reward, traj.reward[-1])


@pytest.mark.parametrize("lost", ["memory", "action", "reward"])
def test_all_of_the_first_carry_matters_until_first(acted, lost):
    agent, state, _, traj = acted
    other = traj.carry._replace(**{lost: 1 - getattr(traj.carry, lost)})
    before = np.cumsum(np.asarray(traj.first), axis=0) == 0
    assert before[0].any()
    _, value, _ = replayed(agent, state, traj._replace(carry=other))
    differs = np.abs(value - traj.extras.value).max(axis=-1) > 1e-3
    assert differs[0][before[0]].all()
    np.testing.assert_array_equal(differs & ~before, False)


def test_successors_are_seen_from_the_episode_that_they_end(acted):
    agent, state, _, traj = acted
    found = compiled(agent._successor_values)(state, traj)
    network, params = state.network, state.params
    one_hot = jax.nn.one_hot(traj.action, 2)
    said = jnp.concatenate([one_hot, traj.reward[..., None]], axis=-1)
    began = traj.carry
    before = jnp.concatenate([jax.nn.one_hot(began.action, 2), began.reward[:, None]], axis=-1)
    told = jnp.concatenate([before[None], said])
    told = told.at[:-1].set(jnp.where(traj.first[..., None], 0.0, told[:-1]))
    ends = np.flatnonzero(np.asarray(traj.truncated).any(axis=1))
    within = ends[(ends > 0) & (ends < NUM_STEPS - 1)]
    replay = compiled(lambda *x: network.apply(params, *x, began.memory).value[-1])
    for t in (within[0], NUM_STEPS - 1):
        # The episode goes on by one observation more, whatever the rollout saw next.
        obs = jnp.concatenate([traj.obs[: t + 1], traj.next_obs[t : t + 1]])
        first = jnp.concatenate([traj.first[: t + 1], jnp.zeros((1, NUM_ENVS), bool)])
        so_far = jnp.concatenate([told[: t + 1], said[t : t + 1]])
        np.testing.assert_allclose(found[t], replay(obs, so_far, first), rtol=1e-5, atol=1e-5)


def test_gru_is_the_usual_one_and_forgets_at_first():
    x, memory = jax.random.normal(jax.random.key(0), (5, 2, 3)), jnp.ones((2, 4))
    going_on = jnp.zeros((5, 2), bool)
    ours = GRU(4)
    params = ours.init(jax.random.key(1), x, going_on, memory)["params"]
    params = {**params, "bias": jnp.arange(4.0)}
    run = jax.jit(lambda first, memory: ours.apply({"params": params}, x, first, memory))
    theirs = nn.GRUCell(4, recurrent_kernel_init=nn.initializers.zeros)
    dense = params["Dense_0"]
    parts = {}
    for i, gate in enumerate("rzn"):
        columns = slice(4 * i, 4 * i + 4)
        parts[f"i{gate}"] = {"kernel": dense["kernel"][:, columns], "bias": dense["bias"][columns]}
        parts[f"h{gate}"] = {"kernel": params["kernel"][:, columns]}
    parts["hn"]["bias"] = params["bias"]
    h, expected = memory, []
    for now in x:
        h, _ = theirs.apply({"params": parts}, h, now)
        expected.append(h)
    np.testing.assert_allclose(run(going_on, memory), expected, rtol=1e-5, atol=1e-6)
    first = going_on.at[3, 1].set(True)
    cut, other = run(first, memory), run(first, -memory)
    np.testing.assert_array_equal(cut[3:, 1], other[3:, 1])
    assert (np.abs(cut - other)[:3].max(axis=-1) > 1e-3).all()
    assert (np.abs(cut - other)[3:, 0].max(axis=-1) > 1e-3).all()


@pytest.fixture(scope="module")
def learned():
    options = {"learning_rate": 3e-3, "discount": 0.9, "num_minibatches": 4, "last_reward": True}
    return train(config(Several(), 102_400, **options))


def test_probes_and_two_arms_are_learned_at_once(learned):
    """Evaluation tells rewards, too: the arms need that."""
    env, ids = Several(), held_out_ids(0, 256)
    found = xplore.evaluate_result(learned, ids, greedy=True).returns[0, :, 0]
    which, sign = (np.asarray(x) for x in levels_from_ids(env, ids).levels)
    # A probe may be lost by its level; the first pull of the arms is a guess.
    best = np.select([which == 1, which == 5], [sign, 5.5], 1.0)
    missed = [float(np.mean((best - found)[which == i])) for i in range(len(TASKS))]
    np.testing.assert_allclose(missed, 0.0, atol=0.2)


def test_values_at_the_start_are_known(learned):
    env, ids = Several(), held_out_ids(0, 64)
    levels = levels_from_ids(env, ids).levels
    obs = jax.vmap(lambda level: env.reset_to_level(jax.random.key(0), level)[1])(levels)
    which, sign = (np.asarray(x) for x in levels)
    pulls = 0.5 + sum(0.9**i for i in range(1, 6))
    expected = np.select([which == 1, which == 2, which == 5], [sign, 0.9, pulls], 1.0)
    state = jax.tree.map(lambda x: x[0], learned.state.agent)
    carry, first = learned.config.agent.initial_carry(len(ids)), jnp.ones((1, len(ids)), bool)
    told = jnp.zeros((1, len(ids), 3))
    out = state.network.apply(state.params, obs[None], told, first, carry.memory)
    np.testing.assert_allclose(out.value[0, :, 0], expected, atol=0.25)


def test_refusals():
    spec = RunSpec(EnvSpec("p", Box((3,)), Box((1,)), 9), 8, 4)
    with pytest.raises(ConfigError, match="ppo_rnn acts in discrete action spaces"):
        PPORNN().init(jax.random.key(0), spec)
    with pytest.raises(ConfigError, match="ppo_rnn: memory_size is 0"):
        PPORNN(memory_size=0)
    with pytest.raises(ConfigError, match="ppo_rnn: value_heads is 3"):
        PPORNN(value_heads=3)


def _success(agent, env, budget, seeds=2, **options):
    sizes = {"num_envs": 64, "num_steps": 64}
    result = train(config(env, budget, agent=agent, **sizes, **options), seeds=seeds)
    return xplore.evaluate_result(result, held_out_ids(0, 256)).success.mean(axis=(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("env", "budget"), [("MemoryLen-10-v0", 253_952)])
def test_a_memory_solves_what_none_cannot(env, budget):
    assert (_success("ppo_rnn", env, budget) > 0.95).all()
    # Right or left is a guess.
    assert (_success("ppo", env, budget) < 0.6).all()
