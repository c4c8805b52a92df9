"""A template: one agent, in one file. See docs/add_an_agent.md."""

from typing import Any, final

import jax
import jax.numpy as jnp

import xplore
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Space
from xplore.parts.observations import features, num_features


@final
@xplore.component
class State:
    """What is learned; `space`, which is no array, is a static part of it."""

    weights: jax.Array  # float32 [D, A]
    space: Space


@xplore.register_agent("my_agent")
@final
@xplore.component
class MyAgent:
    """Q-learning with linear values Q(s, a) = w_a . phi(s) and epsilon-greedy actions.

    Reference: Watkins & Dayan (1992). Deviations from the paper: a rollout is one batch, and the
    intrinsic reward is added to the extrinsic one.
    """

    learning_rate: float = 0.5  # floats are pytree leaves: `vmap` over them works
    epsilon: float = 0.1
    discount: float = 0.95

    def init(self, key: jax.Array, spec: xplore.RunSpec) -> State:
        space, action = spec.env.observation, spec.env.action
        if not isinstance(action, xplore.Discrete):
            raise ConfigError(f"my_agent needs a Discrete action; that of {spec.env.name} is not")
        return State(jnp.zeros((num_features(space), action.num)), space)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()  # no memory

    def act(
        self, key: jax.Array, state: State, carry: Any, obs: Any, first: jax.Array
    ) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
        k_explore, k_uniform, k_ties = jax.random.split(key, 3)
        q = features(state.space, obs) @ state.weights  # [N, A]
        # Ties go at random, but for the greedy agent, which acts without noise.
        ties = jax.random.uniform(k_ties, q.shape) * jnp.where(self.epsilon > 0, 1e-6, 0.0)
        uniform = jax.random.randint(k_uniform, first.shape, 0, q.shape[-1])
        explore = jax.random.bernoulli(k_explore, self.epsilon, first.shape)
        action = jnp.where(explore, uniform, jnp.argmax(q + ties, axis=-1))
        return carry, action.astype(jnp.int32), {}

    def update(
        self, key: jax.Array, state: State, traj: xplore.Trajectory, r_int: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        phi = features(state.space, traj.obs)  # [T, N, D]
        next_q = jnp.max(features(state.space, traj.next_obs) @ state.weights, axis=-1)
        # A time limit is not an end: only `terminated` takes the value of the successor away.
        target = traj.reward + r_int + self.discount * jnp.where(traj.terminated, 0.0, next_q)
        chosen = jax.nn.one_hot(traj.action, state.weights.shape[-1])  # [T, N, A]
        error = target - jnp.sum((phi @ state.weights) * chosen, axis=-1)
        # Each weight moves by the mean error of the steps that used it, however few they are.
        used = jnp.einsum("tnd,tna->da", jnp.abs(phi), chosen)
        step = jnp.einsum("tn,tnd,tna->da", error, phi, chosen) / jnp.maximum(used, 1.0)
        weights = state.weights + self.learning_rate * step
        return State(weights, state.space), {"td_error": jnp.mean(jnp.abs(error))}

    def greedy(self) -> "MyAgent":
        return xplore.replace(self, epsilon=0.0)
