"""DEIR: unlike all else in this episode, discounted by how different the way there was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.dynamics import Dynamics, DynamicsState, Encoding
from xplore.parts.episodic import Memory, capacity_for, init_memory, recall, squared_distance
from xplore.parts.history import summarise
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


class DEIRState(NamedTuple):
    """The embeddings, those of each env's episode with the ways to them, and the way so far.

    Attributes:
        dynamics: the encoder and its discriminator.
        memory: of `2 D` numbers, an observation's embedding and the summary of all before it.
        summary: `[N, D]`, of the episode up to where the rollout ended.
    """

    dynamics: DynamicsState
    memory: Memory
    summary: jax.Array


@final
@component
class DEIR:
    """`r = min_i |phi' - phi_i|^2 / (|h - h_i| + 1e-6)` over the observations of the episode.

    phi' embeds o' and h summarises all that was seen before it, as h_i does for the i-th
    observation of the episode (0 for the first): what differs only because the way did pays less.
    A summary is a moving average of embeddings, `h <- keep h + (1 - keep) phi`.
    """

    dynamics: Dynamics = Dynamics("discriminator", embedding_size=16)
    memory_size: int = 128
    keep: float = 0.9

    def __post_init__(self) -> None:
        if self.memory_size < 1:
            raise ConfigError(f"deir(memory_size={self.memory_size}): must be at least 1")
        if isinstance(self.keep, float) and not 0 <= self.keep < 1:
            raise ConfigError(f"deir(keep={self.keep}): must be in [0, 1)")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> DEIRState:
        rows = capacity_for(self.memory_size, spec.env.max_steps)
        size = self.dynamics.embedding_size
        return DEIRState(
            dynamics=self.dynamics.init(key, spec),
            memory=init_memory(spec.num_envs, rows, 2 * size),
            summary=jnp.zeros((spec.num_envs, size)),
        )

    def reward(self, state: DEIRState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        dynamics = self.dynamics.observe(state.dynamics, traj)
        before, after = self.dynamics.embed_rollout(dynamics, traj)
        summary, way, _ = summarise(state.summary, before, after, traj.first, self.keep)
        starts = jnp.concatenate([before, jnp.zeros_like(before)], axis=-1)
        reached = jnp.concatenate([after, way], axis=-1)

        memory, ratio = recall(state.memory, starts, reached, traj.first, 1, _ratio)
        # Nothing is remembered where a run begins amid an episode.
        r_int = jnp.where(jnp.isfinite(ratio[0]), ratio[0], 0.0)
        return DEIRState(dynamics, memory, summary), r_int

    def update(self, key: Key, state: DEIRState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        dynamics, metrics = self.dynamics.update(key, state.dynamics, traj)
        return state._replace(dynamics=dynamics), metrics


def _ratio(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """How far two observations are apart, for how far the ways to them are."""
    size = len(a) // 2
    way = jnp.sqrt(squared_distance(a[size:], b[size:]))
    return squared_distance(a[:size], b[:size]) / (way + 1e-6)


@register_bonus("deir")
def deir(
    coefficient: float = 1e-2,
    memory_size: int = 128,
    keep: float = 0.9,
    encoding: Encoding = "discriminator",
    normaliser: NormaliserKind = "zscore_ema",
    learning_rate: float = 3e-4,
    hidden_size: int = 64,
    embedding_size: int = 16,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """DEIR: discriminative-model-based episodic intrinsic rewards.

    Args:
        coefficient: of the normalised bonus, which may be negative.
        memory_size: last observations of an episode that are remembered, per env; a step costs
            `2 * memory_size * embedding_size` multiplications.
        keep: how much of a summary of the way is kept each step.
        encoding: what the embedding learns from: `discriminator`, `inverse`, `random` (nothing).
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        learning_rate: of Adam.
        hidden_size: width of all networks.
        embedding_size: of an observation.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Wan et al. (2023), DEIR: Efficient and robust exploration through discriminative-
    model-based episodic intrinsic rewards, arXiv:2304.10770.

    Deviations from the paper: the way is a moving average of embeddings, not a GRU's state, and the
    discriminator does not see it; its false successors come from the same rollout, not from a queue
    of novel observations; one pass over a quarter of a rollout, not four over all; MLPs of 64
    without batch normalisation, embeddings of 16; a memory of 128 for whole episodes. As in the
    published code an observation goes with the way to it, not with the way that includes it.
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
    return Scale(Normalise(DEIR(dynamics, memory_size, keep), normaliser), coefficient)
