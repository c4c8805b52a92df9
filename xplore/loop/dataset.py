"""Datasets of whole episodes, recorded from any agent or expert on given levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, Space, contains, shape_dtype
from xplore.contracts.types import Agent, Environment, Key, LevelBatch, PyTree
from xplore.parts.levels import levels_from_ids
from xplore.parts.play import select, tell_reward

# Of one env: `(key, state, obs, num_steps) -> action`, with `num_steps` int32 `[]` since the start.
# It may look at the state: an expert knows what the agent does not see.
Expert = Callable[[Key, PyTree, PyTree, jax.Array], PyTree]


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dataset:
    """Whole episodes one after another, M steps in all; leaves `[M, ...]`.

    Attributes:
        obs, action: what was seen, and what was done; in the dtypes of their spaces.
        reward: float32, extrinsic.
        terminated, truncated: bool; the last step of an episode has one of them, unless it was cut
            by `max_steps`.
        first: bool, the first step of an episode.
        level_id: uint32, the level of the episode.
        name: the environment's.
        observation, action_space: its spaces.
    """

    obs: PyTree
    action: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    first: jax.Array
    level_id: jax.Array
    name: str = dataclasses.field(metadata={"static": True})
    observation: Space = dataclasses.field(metadata={"static": True})
    action_space: Space = dataclasses.field(metadata={"static": True})

    @property
    def num_steps(self) -> int:
        """M."""
        return int(self.reward.shape[0])

    @property
    def returns(self) -> np.ndarray:
        """Of each episode, in order, `[E]`."""
        begins = np.flatnonzero(np.asarray(self.first))
        return np.add.reduceat(np.asarray(self.reward), begins) if len(begins) else np.zeros(0)

    def at_least(self, least_return: float) -> Dataset:
        """The episodes whose return is at least so much."""
        episode = np.cumsum(np.asarray(self.first)) - 1
        kept = np.flatnonzero((self.returns >= least_return)[episode])
        return cast(Dataset, jax.tree.map(lambda x: x[kept], self))


class _Step(NamedTuple):
    obs: PyTree
    action: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    first: jax.Array
    alive: jax.Array


# Of all envs at once: `(key, carry, states, obs, first, num_steps) -> (carry, actions)`.
_Act = Callable[[Key, PyTree, PyTree, PyTree, jax.Array, jax.Array], tuple[PyTree, PyTree]]
_Told = Callable[[PyTree, jax.Array], PyTree]


def record_agent(
    env: Environment,
    agent: Agent,
    agent_state: PyTree,
    level_ids: jax.Array,
    *,
    key: Key,
    max_steps: int | None = None,
) -> Dataset:
    """Plays an episode with `agent` on each of `level_ids` (uint32 `[L]`), and keeps all its steps.

    Args:
        env: plays; its own time limit holds.
        agent: acts as it is; give `agent.greedy()` for its best.
        agent_state: what it has learned, of one seed.
        level_ids: may be repeated.
        key: consumed.
        max_steps: episodes are cut here; by default the environment's own limit.

    Raises:
        ConfigError: the environment has no limit and none is given.
    """

    def act(
        key: Key, carry: PyTree, state: PyTree, obs: PyTree, first: jax.Array, step: jax.Array
    ) -> tuple[PyTree, PyTree]:
        carry, action, _ = agent.act(key, agent_state, carry, obs, first)
        return carry, action

    batch = levels_from_ids(env, jnp.asarray(level_ids, jnp.uint32))
    carry = agent.initial_carry(batch.level_id.shape[0])
    return _record(env, batch, act, lambda c, r: tell_reward(agent, c, r), carry, key, max_steps)


def record_expert(
    env: Environment,
    expert: Expert,
    level_ids: jax.Array,
    *,
    key: Key,
    max_steps: int | None = None,
) -> Dataset:
    """As `record_agent`, with any function of a state that is known whole."""

    def act(
        key: Key, carry: PyTree, state: PyTree, obs: PyTree, first: jax.Array, step: jax.Array
    ) -> tuple[PyTree, PyTree]:
        keys = jax.random.split(key, first.shape[0])
        return carry, jax.vmap(expert, (0, 0, 0, None))(keys, state, obs, step)

    batch = levels_from_ids(env, jnp.asarray(level_ids, jnp.uint32))
    return _record(env, batch, act, lambda c, r: c, (), key, max_steps)


def record_plans(
    env: Environment,
    level_ids: jax.Array,
    plans: jax.Array | np.ndarray,
    lengths: jax.Array | np.ndarray,
    *,
    key: Key,
) -> Dataset:
    """Plays on each level of `level_ids` the first `lengths` `[L]` actions of `plans` `[L, P]`.

    What follows a plan is not recorded, even where the episode goes on.

    Raises:
        ConfigError: a plan has fewer actions than its length, or actions are not Discrete.
    """
    longest = int(np.max(np.asarray(lengths), initial=0))
    if not 0 < longest <= plans.shape[1]:
        raise ConfigError(
            f"the longest plan has {longest} steps, and there are {plans.shape[1]} actions of each"
        )
    if not isinstance(env.spec().action, Discrete):
        raise ConfigError(f"plans are of Discrete actions; {env.spec().name} has others")

    def act(
        key: Key, carry: PyTree, state: PyTree, obs: PyTree, first: jax.Array, step: jax.Array
    ) -> tuple[PyTree, PyTree]:
        return carry, jnp.take(jnp.asarray(plans, jnp.int32), step, axis=1)

    batch = levels_from_ids(env, jnp.asarray(level_ids, jnp.uint32))
    return _record(env, batch, act, lambda c, r: c, (), key, longest, np.asarray(lengths))


def _record(
    env: Environment,
    batch: LevelBatch,
    act: _Act,
    told: _Told,
    carry: PyTree,
    key: Key,
    max_steps: int | None,
    lengths: np.ndarray | None = None,
) -> Dataset:
    spec = env.spec()
    limit = max_steps or spec.max_steps
    if limit < 1:
        raise ConfigError(f"{spec.name} has no time limit: give a max_steps")
    num = batch.level_id.shape[0]

    def play(key: Key, carry: PyTree) -> _Step:
        key_reset, key = jax.random.split(key)
        state, obs = jax.vmap(env.reset_to_level)(jax.random.split(key_reset, num), batch.levels)

        def one_step(loop: PyTree, x: tuple[Key, jax.Array]) -> tuple[PyTree, _Step]:
            carry, state, obs, alive = loop
            key, step = x
            key_act, key_env = jax.random.split(key)
            first = jnp.full(num, step == 0)
            carry, action = act(key_act, carry, state, obs, first, step)
            after, ts = jax.vmap(env.step)(jax.random.split(key_env, num), state, action)
            carry = told(carry, ts.reward)
            kept = _Step(obs, action, ts.reward, ts.terminated, ts.truncated, first, alive)
            state, obs = select(alive, (after, ts.obs), (state, obs))
            return (carry, state, obs, alive & ~(ts.terminated | ts.truncated)), kept

        loop = (carry, state, obs, jnp.ones(num, bool))
        keys = jax.random.split(key, limit)
        return jax.lax.scan(one_step, loop, (keys, jnp.arange(limit)))[1]

    steps: _Step = jax.tree.map(
        lambda x: np.swapaxes(np.asarray(x), 0, 1), jax.jit(play)(key, carry)
    )
    kept = steps.alive
    if lengths is not None:
        kept = kept & (np.arange(limit) < lengths[:, None])
    level_id = np.broadcast_to(np.asarray(batch.level_id)[:, None], kept.shape)
    flat, level_id = jax.tree.map(lambda x: jnp.asarray(x[kept]), (steps, level_id))
    return Dataset(
        obs=flat.obs,
        action=flat.action,
        reward=flat.reward,
        terminated=flat.terminated,
        truncated=flat.truncated,
        first=flat.first,
        level_id=level_id,
        name=spec.name,
        observation=spec.observation,
        action_space=spec.action,
    )


_FLAT = ("reward", "terminated", "truncated", "first", "level_id")


def save_dataset(path: str | Path, dataset: Dataset) -> None:
    """Writes a dataset as `.npz`: an array for each leaf, and its spaces in words."""
    arrays: dict[str, Any] = {name: np.asarray(getattr(dataset, name)) for name in _FLAT}
    arrays |= _named("obs", dataset.obs) | _named("action", dataset.action)
    words = (dataset.name, repr(dataset.observation), repr(dataset.action_space))
    with Path(path).open("wb") as stream:
        np.savez_compressed(stream, **arrays, words=np.asarray(words))


def load_dataset(path: str | Path, env: Environment) -> Dataset:
    """Reads what `save_dataset` wrote of an environment with the spaces of `env`.

    Raises:
        ConfigError: there is no such file, it is no dataset, or it is of other spaces.
    """
    spec = env.spec()
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        name, *spaces = (str(word) for word in arrays.pop("words"))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{str(path)!r} is no dataset that can be read: {error}") from error
    for had, wanted in zip(spaces, (spec.observation, spec.action), strict=True):
        if had != repr(wanted):
            raise ConfigError(f"the dataset of {name} has {had}, where {spec.name} has {wanted}")
    obs, action = (
        jax.tree.unflatten(
            jax.tree.structure(shape_dtype(space)),
            [jnp.asarray(arrays[leaf]) for leaf in _named(part, shape_dtype(space))],
        )
        for part, space in (("obs", spec.observation), ("action", spec.action))
    )
    if not contains(spec.action, action):
        raise ConfigError(f"{str(path)!r} has actions outside of {spec.action}")
    flat: dict[str, Any] = {leaf: jnp.asarray(arrays[leaf]) for leaf in _FLAT}
    return Dataset(
        obs=obs,
        action=action,
        name=name,
        observation=spec.observation,
        action_space=spec.action,
        **flat,
    )


def _named(part: str, tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {part + jax.tree_util.keystr(path): x for path, x in leaves}
