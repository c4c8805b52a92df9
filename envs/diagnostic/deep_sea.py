"""DeepSea: the exploration problem in which a greedy learner needs exponential time."""

from __future__ import annotations

import functools
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, PyTree, Starts, TimeStep


class DeepSeaState(NamedTuple):
    """Where the diver is: `row` is `size` when the episode is over.

    `bad`, which decides nothing, is whether the diagonal was left by choice.
    """

    row: jax.Array  # int32 []
    column: jax.Array  # int32 []
    bad: jax.Array  # bool []


@register_env("DeepSea-v0")
@final
@component
class DeepSea:
    """Sink through an N x N grid, left or right at each step; the treasure is right all the way.

    Going right costs 0.01/N, the treasure pays 1 for going right in the last column. Which of the
    two actions is "right" differs by cell and is fixed by `mapping_seed`: as in bsuite it is drawn
    once, from the same generator, so equal seeds give bsuite's own mapping. Nothing is random about
    the start: all levels are equal (the level is a zero).

    The observation is one-hot, float32 `[N, N]`, and all zeros once the floor is reached.
    Privileged: "position" and "index" are `row * N + column` (on the floor, that of the last row),
    "state" is `[row, column]`.

    With `deterministic=False`, right fails to move with probability 1/N, and the two corners of the
    last row add N(0, 1) to the reward.

    Attributes:
        size: N, also the length of every episode.
        deterministic: see above.
        randomize_actions: False makes action 1 "right" in every cell.
        mapping_seed: of the action mapping; 42 is the one of bsuite's experiments.
        unscaled_move_cost: what going right all the way costs.

    What it tests: deep exploration. Every step towards the treasure is discouraged, and only a
        policy that keeps to an unrewarded plan for N steps meets it.
    Optimal return: 0.99; with `deterministic=False`, p^(N-1) - 0.01/N sum_{k<N} p^k, p = 1 - 1/N.
    Random return: 2^-N - 0.005, as uniformly random actions succeed with probability 2^-N
        (p^(N-1) times that with `deterministic=False`).
    Solved when: the mean return exceeds 0.5; `info["success"]` is the treasure. bsuite counts
        episodes with a step to the left on the diagonal: `info["bad_episode"]`, from that step on.
    Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568;
        Osband et al. (2019), Deep exploration via randomized value functions, arXiv:1703.07608.
    """

    size: int = 10
    deterministic: bool = True
    randomize_actions: bool = True
    mapping_seed: int = 42
    unscaled_move_cost: float = 0.01

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"DeepSea: size is {self.size}: it must be at least 1")
        if not 0 <= self.mapping_seed < 2**32:
            raise ConfigError(f"DeepSea: mapping_seed is {self.mapping_seed}: it must fit 32 bits")

    @property
    def optimal_return(self) -> float:
        """The expected return of the best policy."""
        stay_on_course = 1.0 if self.deterministic else 1.0 - 1.0 / self.size
        moves = sum(stay_on_course**k for k in range(self.size)) / self.size
        return float(stay_on_course ** (self.size - 1) - self.unscaled_move_cost * moves)

    @property
    def random_success(self) -> float:
        """The probability that uniformly random actions reach the treasure in an episode."""
        stay_on_course = 1.0 if self.deterministic else 1.0 - 1.0 / self.size
        return float(0.5**self.size * stay_on_course ** (self.size - 1))

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return self.random_success - 0.5 * self.unscaled_move_cost

    def spec(self) -> EnvSpec:
        n = self.size
        return EnvSpec(
            name=f"DeepSea{'' if self.deterministic else 'Stochastic'}-{n}",
            observation=Box((n, n), "float32", 0.0, 1.0),
            action=Discrete(2),
            max_steps=n,
            stochastic=not self.deterministic,
            privileged=Dict(
                {
                    "position": Discrete(n * n),
                    "index": Discrete(n * n),
                    "state": Box((2,), "int32", 0, n),
                }
            ),
            num_layers=n,
        )

    def sample_level(self, key: Key) -> PyTree:
        return jnp.zeros((), jnp.uint32)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[DeepSeaState, jax.Array]:
        zero = jnp.zeros((), jnp.int32)
        state = DeepSeaState(zero, zero, jnp.zeros((), bool))
        return state, self._observe(state)

    def step(
        self, key: Key, state: DeepSeaState, action: jax.Array
    ) -> tuple[DeepSeaState, TimeStep]:
        if self.deterministic:
            return self.resolve(state, action, jnp.float32(0.0), jnp.float32(0.0))
        key_wind, key_noise = jax.random.split(key)
        wind, noise = jax.random.uniform(key_wind), jax.random.normal(key_noise)
        return self.resolve(state, action, wind, noise)

    def resolve(
        self, state: DeepSeaState, action: jax.Array, wind: jax.Array, noise: jax.Array
    ) -> tuple[DeepSeaState, TimeStep]:
        """`step`, given what chance decides; neither is read with `deterministic=True`.

        Args:
            state: before the step.
            action: int32 `[]`.
            wind: float32 `[]`, uniform in [0, 1): up to 1/N, right fails to move.
            noise: float32 `[]`, added to the reward in the corners of the last row.
        """
        n = self.size
        right = action == self._right_action(state)
        success = right & (state.column == n - 1)
        reward = self._expected_reward(state, right)
        moves_right = right
        if not self.deterministic:
            moves_right = right & (wind > 1.0 / n)
            in_corner = (state.row == n - 1) & ((state.column == n - 1) | (state.column == 0))
            reward = reward + jnp.where(in_corner, noise, 0.0)
        state = self._moved(state, right, moves_right)
        return state, TimeStep(
            obs=self._observe(state),
            reward=reward.astype(jnp.float32),
            terminated=state.row == n,
            truncated=jnp.zeros((), bool),
            info={"success": success, "bad_episode": state.bad},
        )

    def starts(self) -> Starts:
        return Starts(jnp.ones(1), jnp.zeros(1, jnp.uint32))

    def outcomes(self, state: DeepSeaState, action: jax.Array) -> Outcomes:
        right = action == self._right_action(state)
        fails = 0.0 if self.deterministic else 1.0 / self.size
        reward = self._expected_reward(state, right)
        after = self._moved(state, right, right & jnp.array([True, False]))
        return Outcomes(
            probability=jnp.array([1.0 - fails, fails], jnp.float32),
            state=jax.tree.map(lambda x: jnp.broadcast_to(x, (2,)), after),
            reward=jnp.broadcast_to(reward, (2,)),
            terminated=jnp.broadcast_to(after.row == self.size, (2,)),
        )

    def _expected_reward(self, state: DeepSeaState, right: jax.Array) -> jax.Array:
        success = right & (state.column == self.size - 1)
        cost = jnp.where(right, self.unscaled_move_cost / self.size, 0.0)
        return (success.astype(jnp.float32) - cost).astype(jnp.float32)

    def _moved(self, state: DeepSeaState, right: jax.Array, moves_right: jax.Array) -> DeepSeaState:
        shift = moves_right.astype(jnp.int32) - (~right).astype(jnp.int32)
        column = jnp.clip(state.column + shift, 0, self.size - 1)
        bad = state.bad | (~right & (state.row == state.column))
        return DeepSeaState(state.row + 1, column, bad)

    def privileged(self, state: DeepSeaState) -> dict[str, jax.Array]:
        row = jnp.minimum(state.row, self.size - 1)
        index = row * self.size + state.column
        return {"position": index, "index": index, "state": jnp.stack(state[:2])}

    def _observe(self, state: DeepSeaState) -> jax.Array:
        # By comparison: a row past the last one matches nothing, and nothing is scattered.
        index = jnp.arange(self.size)
        cell = (index == state.row)[:, None] & (index == state.column)[None, :]
        return cell.astype(jnp.float32)

    def _right_action(self, state: DeepSeaState) -> jax.Array:
        if not self.randomize_actions:
            return jnp.ones((), jnp.int32)
        mapping = jnp.asarray(action_mapping(self.size, self.mapping_seed).reshape(-1))
        cell = state.row * self.size + state.column
        return mapping.at[cell].get(mode="clip").astype(jnp.int32)


for _size in (5, *range(10, 51, 2)):  # bsuite's sizes, and a small one
    register_env(f"DeepSea-{_size}-v0", size=_size)(DeepSea)
for _size in (5, 10, 14, 20, 30, 50):
    register_env(f"DeepSeaStochastic-{_size}-v0", size=_size, deterministic=False)(DeepSea)


@functools.cache
def action_mapping(size: int, mapping_seed: int) -> npt.NDArray[np.int8]:
    """The action that goes right in each cell, as in bsuite: int8 `[size, size]`.

    NumPy guarantees the stream of `RandomState` for good, so the mapping is the same everywhere.
    """
    generator = np.random.RandomState(mapping_seed)
    mapping = generator.binomial(1, 0.5, (size, size)).astype(np.int8)
    mapping.flags.writeable = False
    return mapping
