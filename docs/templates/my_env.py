"""A template: one environment, in one file. See docs/add_an_env.md."""

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

import xplore


class State(NamedTuple):
    """All that `step` needs: arrays of fixed shapes."""

    goal_right: jax.Array  # bool []
    position: jax.Array  # int32 []
    time: jax.Array  # int32 []


@xplore.register_env("MyCorridor-v0")
@xplore.register_env("MyCorridor-21-v0", length=21)
@final
@xplore.component
class MyCorridor:
    """A corridor with an exit at each end, one of which pays; a sign says which.

    What it tests: acting on an observation. Optimal return: 1. Random return: 1/2, less
    what the time limit cuts off. Solved when: the return is at least 0.95.
    """

    length: int = 9  # odd: the start is in the middle

    def __post_init__(self) -> None:
        if self.length < 3 or self.length % 2 == 0:
            raise xplore.XploreError(f"length is {self.length}: give an odd number from 3 up")

    def spec(self) -> xplore.EnvSpec:
        return xplore.EnvSpec(
            name=f"MyCorridor-{self.length}",
            observation=xplore.Discrete(2 * self.length),
            action=xplore.Discrete(2),
            max_steps=4 * self.length,
            privileged=xplore.Dict({"position": xplore.Discrete(self.length)}),
        )

    def sample_level(self, key: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key)  # all that is random about an episode: where the goal is

    def reset_to_level(self, key: jax.Array, level: jax.Array) -> tuple[State, jax.Array]:
        state = State(level, jnp.int32(self.length // 2), jnp.int32(0))
        return state, self._observe(state)

    def step(
        self, key: jax.Array, state: State, action: jax.Array
    ) -> tuple[State, xplore.TimeStep]:
        position = state.position + 2 * action - 1
        state = State(state.goal_right, position, state.time + 1)
        at_left, at_right = position == 0, position == self.length - 1
        success = jnp.where(state.goal_right, at_right, at_left)
        terminated = at_left | at_right
        return state, xplore.TimeStep(
            obs=self._observe(state),
            reward=success.astype(jnp.float32),
            terminated=terminated,
            truncated=~terminated & (state.time >= 4 * self.length),
            info={"success": success},
        )

    def privileged(self, state: State) -> dict[str, jax.Array]:
        return {"position": state.position}

    def _observe(self, state: State) -> jax.Array:
        return state.position + self.length * state.goal_right  # where it is, what the sign says
