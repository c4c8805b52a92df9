"""A replay of transitions, filled by rollouts, and the gradient steps that are taken on it.

The memory itself is a buffer of flashbax, in the dtypes of the observations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import flashbax
import jax
import jax.numpy as jnp
import optax

from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import shape_dtype
from xplore.contracts.types import EnvSpec, Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.fitting import flatten_rollout

L = TypeVar("L")


class Learned(NamedTuple):
    """What gradient steps move.

    Attributes:
        params: of the network.
        target_params: an older copy of them, by which targets are made.
        opt_state: of the optimiser.
        num_updates: int32 `[]`, gradient steps so far.
    """

    params: PyTree
    target_params: PyTree
    opt_state: PyTree
    num_updates: jax.Array


def unlearned(params: PyTree, optimiser: optax.GradientTransformation) -> Learned:
    """Before the first gradient step."""
    return Learned(params, params, optimiser.init(params), jnp.int32(0))


def descend(
    learned: Learned,
    gradient: PyTree,
    optimiser: optax.GradientTransformation,
    target_period: int,
) -> Learned:
    """One gradient step; every `target_period` of them the copy is made anew."""
    updates, opt_state = optimiser.update(gradient, learned.opt_state, learned.params)
    params = optax.apply_updates(learned.params, updates)
    count = learned.num_updates + 1
    copied = count % target_period == 0
    target_params = jax.tree.map(
        lambda new, old: jnp.where(copied, new, old), params, learned.target_params
    )
    return Learned(params, target_params, opt_state, count)


class Transition(NamedTuple):
    """What is stored of n steps; leaves `[...]` of one, `[B, ...]` of a batch.

    Attributes:
        obs, action: of the first step.
        reward: R, the sum of discounted rewards, float32.
        discount: what the value of `next_obs` is multiplied by, 0 where nothing follows.
        next_obs: the true successor of the last step.
        extra: what else an agent stores.
    """

    obs: PyTree
    action: jax.Array
    reward: jax.Array
    discount: jax.Array
    next_obs: PyTree
    extra: PyTree


class Replay(NamedTuple):
    """How a replay is filled and drawn from: sizes, which are static.

    Attributes:
        size: transitions that it holds; the oldest make room.
        batch_size: B, drawn at once, with replacement.
        warmup_steps: transitions that must be there before anything is learned.
    """

    size: int
    batch_size: int
    warmup_steps: int

    @property
    def _buffer(self) -> Any:
        return flashbax.make_item_buffer(
            max_length=self.size,
            min_length=max(1, self.warmup_steps),
            sample_batch_size=self.batch_size,
            add_sequences=True,
        )

    def init(self, env: EnvSpec, extra: PyTree = ()) -> PyTree:
        """Nothing stored yet; `extra` is an example of one transition's."""
        obs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape_dtype(env.observation))
        zero = jnp.float32(0)
        return self.init_items(Transition(obs, jnp.int32(0), zero, zero, obs, extra))

    def init_items(self, example: PyTree) -> PyTree:
        """Nothing stored yet of what looks like `example`, which need be no transition."""
        return self._buffer.init(example)

    def add(self, state: PyTree, rows: PyTree) -> PyTree:
        """Stores transitions (or what the replay is of), leaves `[M, ...]`, M at most `size`."""
        return self._buffer.add(state, rows)

    def sample(self, state: PyTree, key: Key) -> Transition:
        """Draws B of those that are there, uniformly."""
        # flashbax adds a row to a column, which a strict user of NumPy's ranks has forbidden.
        with jax.numpy_rank_promotion("allow"):
            return cast(Transition, self._buffer.sample(state, key).experience)

    def ready(self, state: PyTree) -> jax.Array:
        """Whether there are enough to learn from, bool `[]`."""
        return cast(jax.Array, self._buffer.can_sample(state))

    def learn(
        self,
        key: Key,
        state: PyTree,
        learned: L,
        step: Callable[[L, Transition, Key], tuple[L, Metrics]],
        num_steps: int,
    ) -> tuple[L, Metrics]:
        """Takes `num_steps` times a step on a batch, if there is enough to learn from.

        Args:
            key: consumed.
            state: of the replay.
            learned: what the steps move.
            step: of `(learned, batch, key)`; its metrics are averaged over the steps.
            num_steps: gradient steps.
        """

        def one(learned: L, key: Key) -> tuple[L, Metrics]:
            key_rows, key_step = jax.random.split(key)
            return step(learned, self.sample(state, key_rows), key_step)

        after, metrics = jax.lax.scan(one, learned, jax.random.split(key, num_steps))
        ready = self.ready(state)
        after = jax.tree.map(lambda new, old: jnp.where(ready, new, old), after, learned)
        return after, jax.tree.map(jnp.mean, metrics)


def check_replay(agent: str, replay: Replay, spec: RunSpec) -> None:
    """Checks that a replay can take the rollouts of a run.

    Raises:
        ConfigError: a rollout is larger, or a size makes no sense.
    """
    rollout = spec.num_envs * spec.num_steps
    if replay.batch_size < 1:
        raise ConfigError(f"{agent}: batch_size is {replay.batch_size}: it must be at least 1")
    if replay.size < rollout:
        raise ConfigError(
            f"{agent}: a rollout of {spec.num_envs} envs * {spec.num_steps} steps = {rollout:,}"
            f" does not fit a replay of {replay.size:,}: use replay_size={2 * rollout} or more, or"
            " fewer envs or steps"
        )
    if replay.size < max(replay.batch_size, replay.warmup_steps):
        raise ConfigError(
            f"{agent}: batch_size {replay.batch_size:,} and warmup_steps {replay.warmup_steps:,}"
            f" must be at most replay_size, {replay.size:,}"
        )


def n_step_transitions(
    traj: Trajectory,
    reward: jax.Array,
    *,
    num_steps: int,
    discount: float | jax.Array,
    extra: PyTree = (),
) -> Transition:
    """The transitions of a rollout, flat `[T*N, ...]`, in the order of time.

    R_t = r_t + gamma r_{t+1} + ... over `num_steps` steps, or fewer where the episode or the
    rollout ends before; the value of the successor of the last of k steps counts gamma^k, and
    nothing where the task ended there. A time limit takes nothing away.

    Args:
        traj: `[T, N]`.
        reward: `[T, N]`, what is to be learned from.
        num_steps: n, at least 1.
        discount: gamma.
        extra: leaves `[T, N, ...]`.
    """
    length, num_envs = reward.shape
    time = jnp.broadcast_to(jnp.arange(length)[:, None], reward.shape)
    last, total = time, reward
    scale = jnp.full_like(reward, discount)
    ended = traj.terminated | traj.truncated
    envs = jnp.broadcast_to(jnp.arange(num_envs)[None], reward.shape)
    for _ in range(num_steps - 1):
        goes_on = ~ended[last, envs] & (last + 1 < length)
        last = jnp.where(goes_on, last + 1, last)
        total = total + jnp.where(goes_on, scale * reward[last, envs], 0.0)
        scale = jnp.where(goes_on, scale * discount, scale)
    next_obs = traj.next_obs
    if num_steps > 1:
        next_obs = jax.tree.map(lambda x: x[last, envs], next_obs)
    scale = jnp.where(traj.terminated[last, envs], 0.0, scale)
    rows = Transition(traj.obs, traj.action, total, scale, next_obs, extra)
    return cast(Transition, flatten_rollout(rows))
