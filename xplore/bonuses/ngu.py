"""Never give up: unlike all else in this episode, and the more so the newer it is in the run."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.bonuses.rnd import RND
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.dynamics import Dynamics, DynamicsState, Encoding
from xplore.parts.episodic import Memory, capacity_for, init_memory, recall
from xplore.parts.normalisers import Moments, NormaliserKind, add_values, init_moments
from xplore.parts.predictors import Inputs


class Scales(NamedTuple):
    """Moving averages of squared distances to neighbours `[N]`, and which envs have one."""

    mean: jax.Array
    known: jax.Array


class EpisodicNoveltyState(NamedTuple):
    """The embeddings, those of each env's episode, and the scale of distances between them."""

    dynamics: DynamicsState
    memory: Memory
    scales: Scales


@final
@component
class EpisodicNovelty:
    """`r = 1 / (sqrt(sum_i K(d_i^2 / d_m^2)) + c)` over the k nearest in the episode to phi(o').

    `K(x) = epsilon / (max(x - cluster_distance, 0) + epsilon)`; r is 0 where the similarity, which
    is the denominator, exceeds `max_similarity`. `d_m^2` is a moving average of the mean squared
    distance to the neighbours, one for each env, which goes on over episodes and takes in a step
    before it is used. The observation the episode started with is in the memory, which keeps the
    last `memory_size` observations.
    """

    dynamics: Dynamics = Dynamics("inverse")
    num_neighbours: int = 10
    memory_size: int = 128
    epsilon: float = 1e-4
    cluster_distance: float = 8e-3
    constant: float = 1e-3
    max_similarity: float = 8.0
    momentum: float = 0.997

    def __post_init__(self) -> None:
        for name in ("num_neighbours", "memory_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ngu({name}={getattr(self, name)}): must be at least 1")
        for name in ("epsilon", "constant"):
            value = getattr(self, name)
            if isinstance(value, float) and not value > 0:
                raise ConfigError(f"ngu({name}={value}): must be above 0")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> EpisodicNoveltyState:
        rows = capacity_for(self.memory_size, spec.env.max_steps)
        return EpisodicNoveltyState(
            dynamics=self.dynamics.init(key, spec),
            memory=init_memory(spec.num_envs, rows, self.dynamics.embedding_size),
            scales=Scales(jnp.zeros(spec.num_envs), jnp.zeros(spec.num_envs, bool)),
        )

    def reward(self, state: EpisodicNoveltyState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        dynamics = self.dynamics.observe(state.dynamics, traj)
        before, after = self.dynamics.embed_rollout(dynamics, traj)
        memory, distance = recall(state.memory, before, after, traj.first, self.num_neighbours)
        scales, mean = self._scales(state.scales, distance)
        there = jnp.isfinite(distance)
        relative = jnp.where(there, distance, 0.0) / jnp.maximum(mean, 1e-8)[None]
        apart = jnp.maximum(relative - self.cluster_distance, 0.0)
        kernel = jnp.where(there, self.epsilon / (apart + self.epsilon), 0.0)
        similarity = jnp.sqrt(jnp.sum(kernel, axis=0)) + self.constant
        # Nothing is remembered where a run begins amid an episode.
        known = there[0] & (similarity <= self.max_similarity)
        return EpisodicNoveltyState(dynamics, memory, scales), jnp.where(known, 1 / similarity, 0.0)

    def _scales(self, scales: Scales, distance: jax.Array) -> tuple[Scales, jax.Array]:
        """Takes in squared distances `[k, T, N]`; returns the mean at each step `[T, N]` too."""
        there = jnp.isfinite(distance)
        count = jnp.sum(there, axis=0)
        means = jnp.sum(jnp.where(there, distance, 0.0), axis=0) / jnp.maximum(count, 1)

        def step(scales: Scales, x: tuple[jax.Array, jax.Array]) -> tuple[Scales, jax.Array]:
            mean, told = x
            keep = jnp.where(scales.known, self.momentum, 0.0)
            mean = jnp.where(told, keep * scales.mean + (1 - keep) * mean, scales.mean)
            return Scales(mean, scales.known | told), mean

        return jax.lax.scan(step, scales, (means, count > 0))

    def update(
        self, key: Key, state: EpisodicNoveltyState, traj: Trajectory
    ) -> tuple[PyTree, Metrics]:
        dynamics, metrics = self.dynamics.update(key, state.dynamics, traj)
        return state._replace(dynamics=dynamics), metrics


class NGUState(NamedTuple):
    """Both novelties, and the moments of the lifelong one so far."""

    episodic: EpisodicNoveltyState
    lifelong: PyTree
    moments: Moments


@final
@component
class NGU:
    """`r = r_ep * clip(alpha, 1, max_scale)`, `alpha = 1 + (e - mean(e)) / std(e)`.

    e is the error of a random network distillation; its mean and std are of all errors so far, this
    rollout's included.
    """

    episodic: EpisodicNovelty = EpisodicNovelty()
    lifelong: RND = RND()
    max_scale: float = 5.0

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> NGUState:
        key_episodic, key_lifelong = jax.random.split(key)
        return NGUState(
            episodic=self.episodic.init(key_episodic, spec),
            lifelong=self.lifelong.init(key_lifelong, spec),
            moments=init_moments(),
        )

    def reward(self, state: NGUState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        episodic, r_episodic = self.episodic.reward(state.episodic, traj)
        lifelong, error = self.lifelong.reward(state.lifelong, traj)
        moments = add_values(state.moments, error)
        alpha = 1.0 + (error - moments.mean) * jax.lax.rsqrt(moments.var + 1e-8)
        r_int = r_episodic * jnp.clip(alpha, 1.0, self.max_scale)
        return NGUState(episodic, lifelong, moments), r_int

    def update(self, key: Key, state: NGUState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        key_episodic, key_lifelong = jax.random.split(key)
        episodic, metrics = self.episodic.update(key_episodic, state.episodic, traj)
        lifelong, more = self.lifelong.update(key_lifelong, state.lifelong, traj)
        return state._replace(episodic=episodic, lifelong=lifelong), metrics | more


@register_bonus("ngu")
def ngu(
    coefficient: float = 0.01,
    num_neighbours: int = 10,
    memory_size: int = 128,
    max_scale: float = 5.0,
    encoding: Encoding = "inverse",
    normaliser: NormaliserKind = "std",
    momentum: float = 0.997,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Never give up: episodic novelty by nearest neighbours, scaled by lifelong novelty.

    Args:
        coefficient: of the normalised bonus.
        num_neighbours: k.
        memory_size: last observations of an episode that are remembered, per env; a step costs
            `memory_size * embedding_size` multiplications.
        max_scale: L, the most that lifelong novelty multiplies by; 1: episodic novelty alone.
        encoding: what the embedding learns from: `inverse`, `random` (nothing), `discriminator`.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        momentum: of the moving average of distances.
        learning_rate: of Adam, for embedding and lifelong novelty.
        hidden_size: width of all networks.
        embedding_size: of the embedding, and of what lifelong novelty predicts.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Badia et al. (2020), Never give up: Learning directed exploration strategies,
    arXiv:2002.06038.

    Deviations from the paper: the bonus alone, for any agent, without the family of policies it is
    given to; divided by its std; a memory of 128 for 30,000 observations; MLPs of 64; alpha's mean
    and std include the rollout that is scored.
    """
    dynamics = Dynamics(
        encoding=encoding,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    lifelong = RND(
        hidden_size=hidden_size,
        embedding_size=embedding_size,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    episodic = EpisodicNovelty(dynamics, num_neighbours, memory_size, momentum=momentum)
    return Scale(Normalise(NGU(episodic, lifelong, max_scale), normaliser), coefficient)
