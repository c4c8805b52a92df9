"""bsuite's bandit: eleven arms with fixed rewards in an unknown order."""

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


class BsuiteBanditState(NamedTuple):
    """Whether an arm was pulled: bool `[]`."""

    pulled: jax.Array


@register_env("Bandit-bsuite-v0")
@final
@component
class BsuiteBandit:
    """Pull one of the arms, which pay 0, 1/(A-1), ..., 1, each always the same.

    Which arm pays what is fixed by `mapping_seed`: as in bsuite it is drawn once, from the same
    generator, so equal seeds give bsuite's own order. Nothing is random about an episode, which has
    one step: all levels are equal (the level is a zero).

    The observation is a one, float32 `[1]`. Privileged: "position", "index" and "state" are zero,
    as there is one state to act in.

    Attributes:
        num_actions: A, the number of arms.
        mapping_seed: of the order of the arms; bsuite's experiment has 0 to 19.

    What it tests: trying every action a few times before settling for one.
    Optimal return: 1.
    Random return: 1/2, the mean of the arms.
    Solved when: the best arm is pulled, `info["success"]`; bsuite's score is the mean of
        `info["regret"]`, what the best arm would have paid more, on a scale where 1/2 is worth 0.
    Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568.
    Deviations: upstream's observation has an axis of length one more.
    """

    num_actions: int = 11
    mapping_seed: int = 0

    def __post_init__(self) -> None:
        if self.num_actions < 2:
            raise ConfigError(
                f"BsuiteBandit: num_actions is {self.num_actions}: it must be at least 2"
            )
        if not 0 <= self.mapping_seed < 2**32:
            raise ConfigError(
                f"BsuiteBandit: mapping_seed is {self.mapping_seed}: it must fit 32 bits"
            )

    @property
    def optimal_return(self) -> float:
        """The reward of the best arm."""
        return 1.0

    @property
    def random_return(self) -> float:
        """The mean reward of the arms."""
        return 0.5

    def spec(self) -> EnvSpec:
        return EnvSpec(
            name=f"Bandit-bsuite-{self.num_actions}",
            observation=Box((1,), "float32", 0.0, 1.0),
            action=Discrete(self.num_actions),
            max_steps=1,
            privileged=Dict(
                {
                    "position": Discrete(1),
                    "index": Discrete(1),
                    "state": Box((1,), "int32", 0, 1),
                }
            ),
            num_layers=1,
        )

    def sample_level(self, key: Key) -> PyTree:
        return jnp.zeros((), jnp.uint32)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[BsuiteBanditState, jax.Array]:
        return BsuiteBanditState(jnp.zeros((), bool)), jnp.ones(1, jnp.float32)

    def step(
        self, key: Key, state: BsuiteBanditState, action: jax.Array
    ) -> tuple[BsuiteBanditState, TimeStep]:
        rewards = jnp.asarray(arm_rewards(self.num_actions, self.mapping_seed))
        reward = rewards.at[action].get(mode="clip")
        return BsuiteBanditState(jnp.ones((), bool)), TimeStep(
            obs=jnp.ones(1, jnp.float32),
            reward=reward,
            terminated=jnp.ones((), bool),
            truncated=jnp.zeros((), bool),
            info={"success": reward == 1.0, "regret": 1.0 - reward},
        )

    def starts(self) -> Starts:
        return Starts(jnp.ones(1), jnp.zeros(1, jnp.uint32))

    def outcomes(self, state: BsuiteBanditState, action: jax.Array) -> Outcomes:
        rewards = jnp.asarray(arm_rewards(self.num_actions, self.mapping_seed))
        return Outcomes(
            probability=jnp.ones(1, jnp.float32),
            state=BsuiteBanditState(jnp.ones(1, bool)),
            reward=rewards.at[action].get(mode="clip")[None],
            terminated=jnp.ones(1, bool),
        )

    def privileged(self, state: BsuiteBanditState) -> dict[str, jax.Array]:
        zero = jnp.zeros((), jnp.int32)
        return {"position": zero, "index": zero, "state": state.pulled.astype(jnp.int32)[None]}


@functools.cache
def arm_rewards(num_actions: int, mapping_seed: int) -> npt.NDArray[np.float32]:
    """What each arm pays, as in bsuite: float32 `[num_actions]`.

    NumPy guarantees the stream of `RandomState` for good, so the order is the same everywhere.
    """
    generator = np.random.RandomState(mapping_seed)
    order = generator.choice(num_actions, size=num_actions, replace=False)
    rewards = np.linspace(0.0, 1.0, num_actions, dtype=np.float32)[order]
    rewards.flags.writeable = False
    return rewards
