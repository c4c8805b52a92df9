"""Mountain car, paid at the goal alone or for every step until then."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, Key, TimeStep

MIN_POSITION, MAX_POSITION, GOAL_POSITION = -1.2, 0.6, 0.5
MAX_SPEED = 0.07
FORCE, GRAVITY = 0.001, 0.0025


class MountainCarState(NamedTuple):
    """Where the car is, how fast it goes to the right (per step), and the steps done so far."""

    position: jax.Array  # float32 []
    velocity: jax.Array  # float32 []
    time: jax.Array  # int32 []


@register_env("MountainCarSparse-v0")
@register_env("MountainCar-bsuite-v0", sparse=False)
@final
@component
class MountainCar:
    """A car too weak for the hill must swing back and forth to reach its top.

    Actions push left, not at all, and right. The level is the start, float32 `[2]`: a position
    drawn from [-0.6, -0.4) and a velocity of 0. The observation is float32 `[3]`: position,
    velocity, and the fraction of the time that has passed. Since that is seen, the time limit is
    part of the task: as in bsuite, episodes that reach it are `terminated`, not truncated.

    Attributes:
        sparse: pay 1 at the goal and nothing else; otherwise -1 for every step, as bsuite does.
        max_steps: an episode ends after this many steps.

    What it tests: exploration without a signal. Pushing at random does not reach the goal, and
        nothing but the goal is paid; with `sparse=False` it costs as much to fail by any way.
    Optimal return: 1 with `sparse`, as the goal can be reached from every start. With
        `sparse=False` it is not known exactly; bsuite takes -100 for perfect.
    Random return: about 0.001 with `sparse`, as one episode in a thousand reaches the goal, and
        -1000 otherwise (measured, see the tests).
    Solved when: the goal is reached, `info["success"]`, in nine of ten episodes; bsuite's score is
        the mean length of an episode beyond 100 steps, on a scale where 1000 are worth 0.
    Reference: Moore (1990), Efficient memory-based learning for robot control; Osband et al.
        (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568, which has the
        constants.
    Deviations: 32 bits where upstream has 64; its observation has an axis of length one more.
    """

    sparse: bool = True
    max_steps: int = 1000

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ConfigError(f"MountainCar: max_steps is {self.max_steps}: it must be at least 1")

    def spec(self) -> EnvSpec:
        return EnvSpec(
            name="MountainCarSparse" if self.sparse else "MountainCar-bsuite",
            observation=Box((3,), "float32", MIN_POSITION, 1.0),
            action=Discrete(3),
            max_steps=self.max_steps,
        )

    def sample_level(self, key: Key) -> jax.Array:
        position = jax.random.uniform(key, minval=-0.6, maxval=-0.4)
        return jnp.stack([position, jnp.float32(0.0)])

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[MountainCarState, jax.Array]:
        state = MountainCarState(level[0], level[1], jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(
        self, key: Key, state: MountainCarState, action: jax.Array
    ) -> tuple[MountainCarState, TimeStep]:
        push = (action - 1).astype(jnp.float32) * FORCE
        velocity = state.velocity + push - GRAVITY * jnp.cos(3.0 * state.position)
        velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
        position = jnp.clip(state.position + velocity, MIN_POSITION, MAX_POSITION)
        # The wall on the left stops the car.
        velocity = jnp.where(
            position == jnp.float32(MIN_POSITION), jnp.maximum(velocity, 0.0), velocity
        )
        state = MountainCarState(position, velocity, state.time + 1)
        success = position >= GOAL_POSITION
        reward = success.astype(jnp.float32) if self.sparse else jnp.float32(-1.0)
        return state, TimeStep(
            obs=self._observe(state),
            reward=reward,
            terminated=success | (state.time >= self.max_steps),
            truncated=jnp.zeros((), bool),
            info={"success": success},
        )

    def privileged(self, state: MountainCarState) -> dict[str, jax.Array]:
        return {}

    def _observe(self, state: MountainCarState) -> jax.Array:
        passed = (state.time / self.max_steps).astype(jnp.float32)
        return jnp.stack([state.position, state.velocity, passed])
