"""What actor-critics with a clipped objective share: advantages, the loss, the descent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import distrax
import jax
import jax.numpy as jnp
import optax

from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, Metrics, Policy, PyTree, RunSpec, Trajectory
from xplore.parts.fitting import clipped
from xplore.parts.minibatch import check_minibatches
from xplore.parts.returns import gae


class ClippedOptions(Protocol):
    """What such an agent is tuned by; the agents' docstrings say what each option means."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def discount(self) -> float: ...
    @property
    def trace(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def entropy_coefficient(self) -> float: ...
    @property
    def value_coefficient(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def adam_epsilon(self) -> float: ...
    @property
    def num_epochs(self) -> int: ...
    @property
    def num_minibatches(self) -> int: ...
    @property
    def clip_value(self) -> bool: ...
    @property
    def anneal_steps(self) -> int: ...
    @property
    def value_heads(self) -> int: ...
    @property
    def intrinsic_discount(self) -> float: ...
    @property
    def intrinsic_episodic(self) -> bool: ...
    @property
    def extrinsic_coefficient(self) -> float: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LearnerState:
    """Parameters, optimiser state and env steps so far; the network itself is static."""

    params: PyTree
    opt_state: PyTree
    env_steps: jax.Array
    network: Any = dataclasses.field(metadata={"static": True})


class Taken(NamedTuple):
    """Steps as they were taken, and the values to learn: the last two are `[..., value_heads]`."""

    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    target: jax.Array


def check_options(name: str, options: ClippedOptions) -> None:
    """Refuses numbers that no run could use, with a ConfigError."""
    if options.value_heads not in (1, 2):
        raise ConfigError(f"{name}: value_heads is {options.value_heads}: it must be 1 or 2")
    check_least(name, options, num_epochs=1, num_minibatches=1)


def check_run(name: str, options: ClippedOptions, spec: RunSpec) -> Discrete:
    """Returns the action space, or refuses the run with a ConfigError."""
    if not isinstance(spec.env.action, Discrete):
        raise ConfigError(
            f"{name} acts in discrete action spaces; {spec.env.name} has {spec.env.action}:"
            " choose an environment with discrete actions, or the 'random' agent"
        )
    check_minibatches(name, spec.num_envs, options.num_minibatches)
    return spec.env.action


def optimizer_of(
    options: ClippedOptions, env_steps: jax.Array | int
) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm, at the learning rate of `env_steps`."""
    rate: Any = options.learning_rate
    if options.anneal_steps:
        rate = rate * jnp.maximum(0.0, 1.0 - env_steps / options.anneal_steps)
    return clipped(optax.adam(rate, eps=options.adam_epsilon), options.max_grad_norm)


def choose(key: Key, logits: jax.Array, *, deterministic: bool) -> tuple[jax.Array, jax.Array]:
    """Actions int32 `[N]`, drawn or the most likely, and their log-probabilities."""
    policy: Any = distrax.Categorical(logits=logits)
    action = policy.mode() if deterministic else policy.sample(seed=key)
    return action.astype(jnp.int32), policy.log_prob(action)


def policy_of(state: LearnerState) -> Policy:
    """The policy of a learner whose network gives `(logits, values)` of observations."""

    def logits(params: PyTree, obs: PyTree) -> jax.Array:
        found: jax.Array = state.network.apply(params, obs)[0]
        return found

    return Policy(state.params, logits, lambda params: dataclasses.replace(state, params=params))


def advantages(
    options: ClippedOptions,
    traj: Trajectory,
    r_int: jax.Array,
    value: jax.Array,
    successor: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Advantages `[T, N]` and value targets `[T, N, value_heads]`.

    Args:
        options: one value head or two, with the discounts and weights of the streams.
        traj: the rollout.
        r_int: `[T, N]`.
        value: `[T, N, value_heads]`, of the observations acted on.
        successor: `[T, N, value_heads]`, of their true successors.
    """
    ends = (traj.terminated, traj.truncated)
    if options.value_heads == 1:
        reward = options.extrinsic_coefficient * traj.reward + r_int
        advantage = gae(
            reward, value[..., 0], successor[..., 0], *ends,
            discount=options.discount, trace=options.trace,
        )  # fmt: skip
        return advantage, advantage[..., None] + value
    extrinsic = gae(
        traj.reward, value[..., 0], successor[..., 0], *ends,
        discount=options.discount, trace=options.trace,
    )  # fmt: skip
    seen_next = successor[..., 1]
    if not options.intrinsic_episodic:
        # The stream goes on: what follows an episode's end is the next episode's start.
        seen_next = jnp.concatenate([value[1:, :, 1], successor[-1:, :, 1]])
    intrinsic = gae(
        r_int, value[..., 1], seen_next, *ends,
        discount=options.intrinsic_discount, trace=options.trace,
        episodic=options.intrinsic_episodic,
    )  # fmt: skip
    target = jnp.stack([extrinsic, intrinsic], axis=-1) + value
    return options.extrinsic_coefficient * extrinsic + intrinsic, target


def standardised(advantage: jax.Array) -> jax.Array:
    """A minibatch's advantages with mean 0 and std 1."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-8)


def clipped_loss(
    options: ClippedOptions,
    logits: jax.Array,
    value: jax.Array,
    taken: Taken,
    advantage: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """The loss, a mean over all axes of `advantage`, and its parts.

    -min(rho A, clip(rho, 1-eps, 1+eps) A) + value loss - entropy bonus.

    Args:
        options: coefficients and clips.
        logits: `[..., A]`, by the parameters to be learned.
        value: `[..., value_heads]`, by the same.
        taken: what was done, by the parameters that acted.
        advantage: `[...]`.
    """
    policy = distrax.Categorical(logits=logits)
    log_ratio = policy.log_prob(taken.action) - taken.log_prob
    ratio = jnp.exp(log_ratio)
    near = jnp.clip(ratio, 1.0 - options.clip, 1.0 + options.clip)
    policy_loss = -jnp.mean(jnp.minimum(ratio * advantage, near * advantage))
    error = jnp.square(value - taken.target)
    if options.clip_value:
        near = taken.value + jnp.clip(value - taken.value, -options.clip, options.clip)
        error = jnp.maximum(error, jnp.square(near - taken.target))
    value_loss = 0.5 * jnp.mean(jnp.sum(error, axis=-1))
    entropy = jnp.mean(policy.entropy())
    loss = (
        policy_loss + options.value_coefficient * value_loss - options.entropy_coefficient * entropy
    )
    metrics = {
        "loss": loss,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
        "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > options.clip),
    }
    return loss, metrics


def descend(
    key: Key,
    options: ClippedOptions,
    state: LearnerState,
    order: Callable[[Key], jax.Array],
    gradient: Callable[[PyTree, jax.Array], tuple[PyTree, Metrics]],
    num_rows: int,
) -> tuple[LearnerState, Metrics]:
    """Takes a gradient step for each minibatch of each epoch; metrics are means over them.

    Args:
        key: consumed.
        options: epochs, minibatches and the optimiser.
        state: what to move.
        order: draws the order of an epoch, int32 `[M]`, to be split into minibatches.
        gradient: of `(params, index [B])`, with metrics.
        num_rows: env steps learned from, by which the learning rate is annealed.
    """
    optimizer = optimizer_of(options, state.env_steps)

    def minibatch(
        learned: tuple[PyTree, PyTree], index: jax.Array
    ) -> tuple[tuple[PyTree, PyTree], Metrics]:
        params, opt_state = learned
        slopes, metrics = gradient(params, index)
        updates, opt_state = optimizer.update(slopes, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), metrics

    def epoch(learned: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Metrics]:
        return jax.lax.scan(minibatch, learned, order(key).reshape(options.num_minibatches, -1))

    keys = jax.random.split(key, options.num_epochs)
    (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
    steps = state.env_steps + num_rows
    state = dataclasses.replace(state, params=params, opt_state=opt_state, env_steps=steps)
    return state, jax.tree.map(jnp.mean, metrics)
