"""Cartpole swing-up: a hanging pole, a cost for every push, and a reward only at the top."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Discrete
from xplore.contracts.types import EnvSpec, Key, TimeStep

MASS_CART, MASS_POLE, HALF_LENGTH = 1.0, 0.1, 0.5
FORCE, GRAVITY = 10.0, 9.8
GOOD_RETURN = 100.0  # of an episode that bsuite counts as a swing-up


class CartpoleState(NamedTuple):
    """The cart and the pole, whose angle is 0 upright; and what the episode has had so far."""

    x: jax.Array  # float32 []
    x_dot: jax.Array  # float32 []
    theta: jax.Array  # float32 [], in [0, 2 pi)
    theta_dot: jax.Array  # float32 []
    time: jax.Array  # int32 [], steps
    upright: jax.Array  # int32 [], steps that were paid
    pushes: jax.Array  # int32 [], steps that cost


@register_env("CartpoleSwingup-v0")
@final
@component
class CartpoleSwingup:
    """Swing up a hanging pole and hold it there, in the middle, without moving too fast.

    Actions push left, not at all, and right. A push costs `move_cost`; a step pays 1 when the pole
    is high (cos theta > `height_threshold`) and slow (|theta_dot| < `theta_dot_threshold`) and the
    cart in the middle (|x| < `x_reward_threshold`). Standing still is worth 0, and more than what
    any swing earns that does not get the pole up.

    An episode ends when the cart is off the track (|x| > `x_threshold`) or when its time is over,
    which is seen, so that both are `terminated`, as in bsuite. There time is summed up by 0.01 in
    64 bits and must exceed `max_time`, which it does after 1001 steps; here steps are counted, up
    to that number.

    The level is the start, float32 `[4]`: x, x_dot, the angle from hanging straight, and theta_dot,
    each uniform within `init_range`. The observation is float32 `[8]`: x and x_dot over
    `x_threshold`, sin and cos of theta, theta_dot, the fraction of the time that has passed, and 1
    or -1 for whether the cart is in the middle and whether the pole is slow.

    Attributes:
        height_threshold, theta_dot_threshold, x_reward_threshold: what is paid, see above.
        move_cost: of a push.
        x_threshold: half the length of the track.
        timescale: seconds in a step, of Euler's method.
        max_time: seconds in an episode.
        init_range: how far the start is from rest.

    What it tests: deep exploration with rewards that tell to stop. In experiment K of bsuite's 20,
        `CartpoleSwingup-K-v0`, the pole must be above K/20 and the cart within 1 - K/20.
    Optimal return: not known exactly; below 1001, what every step could pay. bsuite takes a mean
        return of 700 for perfect.
    Random return: about -36, the cost of pushing until the cart is off the track (measured, see the
        tests).
    Solved when: an episode returns more than 100, which bsuite counts as a swing-up:
        `info["success"]`, at its last step. `info["upright"]` are its paid steps.
    Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568;
        Barto, Sutton and Anderson (1983), Neuronlike adaptive elements that can solve difficult
        learning control problems.
    Deviations: 32 bits where upstream has 64; its observation has an axis of length one more.
    """

    height_threshold: float = 0.5
    theta_dot_threshold: float = 1.0
    x_reward_threshold: float = 1.0
    move_cost: float = 0.1
    x_threshold: float = 3.0
    timescale: float = static(default=0.01)
    max_time: float = static(default=10.0)
    init_range: float = 0.05

    def __post_init__(self) -> None:
        for name in ("x_threshold", "timescale", "max_time"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(
                    f"CartpoleSwingup: {name} is {getattr(self, name)}: it must be positive"
                )

    def spec(self) -> EnvSpec:
        return EnvSpec(
            name="CartpoleSwingup",
            observation=Box((8,), "float32"),
            action=Discrete(3),
            max_steps=episode_steps(self.timescale, self.max_time),
        )

    def sample_level(self, key: Key) -> jax.Array:
        return self.init_range * jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[CartpoleState, jax.Array]:
        zero = jnp.zeros((), jnp.int32)
        x, x_dot, off, theta_dot = level
        state = CartpoleState(x, x_dot, math.pi + off, theta_dot, zero, zero, zero)
        return state, self._observe(state)

    def step(
        self, key: Key, state: CartpoleState, action: jax.Array
    ) -> tuple[CartpoleState, TimeStep]:
        state = self._moved(state, (action - 1).astype(jnp.float32) * FORCE)
        pushed = action != 1
        upright = (
            (jnp.cos(state.theta) > self.height_threshold)
            & (jnp.abs(state.theta_dot) < self.theta_dot_threshold)
            & (jnp.abs(state.x) < self.x_reward_threshold)
        )
        state = state._replace(
            time=state.time + 1,
            upright=state.upright + upright.astype(jnp.int32),
            pushes=state.pushes + pushed.astype(jnp.int32),
        )
        over = state.time >= episode_steps(self.timescale, self.max_time)
        terminated = over | (jnp.abs(state.x) > self.x_threshold)
        reward = upright.astype(jnp.float32) - self.move_cost * pushed.astype(jnp.float32)
        so_far = state.upright - self.move_cost * state.pushes
        return state, TimeStep(
            obs=self._observe(state),
            reward=jnp.asarray(reward, jnp.float32),
            terminated=terminated,
            truncated=jnp.zeros((), bool),
            info={
                "success": terminated & (so_far > GOOD_RETURN),
                "upright": state.upright.astype(jnp.float32),
            },
        )

    def privileged(self, state: CartpoleState) -> dict[str, jax.Array]:
        return {}

    def _moved(self, state: CartpoleState, force: jax.Array) -> CartpoleState:
        """One step of Euler's method, each rate taken before the step."""
        sin, cos = jnp.sin(state.theta), jnp.cos(state.theta)
        mass = MASS_CART + MASS_POLE
        of_pole = MASS_POLE * HALF_LENGTH
        push = (force + of_pole * jnp.square(state.theta_dot) * sin) / mass
        inertia = HALF_LENGTH * (4.0 / 3.0 - MASS_POLE * jnp.square(cos) / mass)
        theta_acceleration = (GRAVITY * sin - cos * push) / inertia
        x_acceleration = push - of_pole * theta_acceleration * cos / mass
        dt = self.timescale
        return state._replace(
            x=state.x + dt * state.x_dot,
            x_dot=state.x_dot + dt * x_acceleration,
            theta=jnp.remainder(state.theta + dt * state.theta_dot, 2.0 * math.pi),
            theta_dot=state.theta_dot + dt * theta_acceleration,
        )

    def _observe(self, state: CartpoleState) -> jax.Array:
        central = jnp.abs(state.x) < self.x_reward_threshold
        slow = jnp.abs(state.theta_dot) < self.theta_dot_threshold
        seen = [
            state.x / self.x_threshold,
            state.x_dot / self.x_threshold,
            jnp.sin(state.theta),
            jnp.cos(state.theta),
            state.theta_dot,
            state.time * (self.timescale / self.max_time),
            jnp.where(central, 1.0, -1.0),
            jnp.where(slow, 1.0, -1.0),
        ]
        return jnp.stack([jnp.asarray(x, jnp.float32) for x in seen])


for _k in range(20):
    register_env(
        f"CartpoleSwingup-{_k}-v0", height_threshold=_k / 20, x_reward_threshold=1 - _k / 20
    )(CartpoleSwingup)


@functools.cache
def episode_steps(timescale: float, max_time: float) -> int:
    """The steps after which time, summed up in 64 bits as upstream does, exceeds `max_time`."""
    steps, time = 0, 0.0
    while time <= max_time:
        steps, time = steps + 1, time + timescale
    return steps
