"""Entropy of what is visited by nearest neighbours, seen through a random encoder."""

from __future__ import annotations

from typing import Literal, NamedTuple, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import steps_at_once
from xplore.parts.dynamics import Dynamics, DynamicsState
from xplore.parts.episodic import nearest
from xplore.parts.normalisers import Moments, NormaliserKind, add_values, init_moments
from xplore.parts.predictors import Inputs

Neighbours = Literal["kth", "mean"]
NEIGHBOURS: tuple[Neighbours, ...] = get_args(Neighbours)
# Of the squared lengths of two embeddings: nearer to each other than this, they are copies.
_ROUNDING = 1e-5


class EntropyState(NamedTuple):
    """The embeddings, the moments of distances so far, and what the bonus has decayed to `[]`."""

    dynamics: DynamicsState
    moments: Moments
    weight: jax.Array


@final
@component
class ParticleEntropy:
    """`r = log(1 + d)`, d the distance of phi(o') to its k-th nearest neighbour in the rollout.

    Neighbours are sought among `num_anchors` observations spread over the rollout, all envs
    together, the observation itself left out. With `neighbours="mean"` d is the mean over the k
    nearest; with `relative`, in units of its mean so far. The bonus is multiplied by
    `(1 - decay)^t`, t the steps each env has taken.

    It is 0 for an observation of which k others are copies, be it ever so new to the run: in a
    world of few states, such as a loop of two, all of it is 0.
    """

    dynamics: Dynamics = Dynamics("random")
    num_neighbours: int = 3
    num_anchors: int = 256
    neighbours: Neighbours = "kth"
    relative: bool = False
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.neighbours not in NEIGHBOURS:
            raise ConfigError(f"neighbours={self.neighbours!r}: must be 'kth' or 'mean'")
        if not 1 <= self.num_neighbours < self.num_anchors:
            raise ConfigError(
                f"num_neighbours={self.num_neighbours}: must be 1 to {self.num_anchors - 1}, below"
                " num_anchors"
            )
        if isinstance(self.decay, float) and not 0 <= self.decay < 1:
            raise ConfigError(f"decay={self.decay}: must be in [0, 1)")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> EntropyState:
        return EntropyState(self.dynamics.init(key, spec), init_moments(), jnp.float32(1))

    def reward(self, state: EntropyState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        dynamics = self.dynamics.observe(state.dynamics, traj)
        phi = self.dynamics.embed(dynamics, traj.next_obs)
        distance, moments = self._distances(phi), state.moments
        if self.relative:
            moments = add_values(moments, distance)
            distance = distance / jnp.maximum(moments.mean, 1e-8)
        num_steps = phi.shape[0]
        faded = state.weight * (1.0 - self.decay) ** jnp.arange(num_steps + 1, dtype=jnp.float32)
        r_int = jnp.log1p(distance) * faded[:-1, None]
        return EntropyState(dynamics, moments, faded[-1]), r_int

    def update(self, key: Key, state: EntropyState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        dynamics, metrics = self.dynamics.update(key, state.dynamics, traj)
        return state._replace(dynamics=dynamics), metrics

    def _distances(self, phi: jax.Array) -> jax.Array:
        """Of embeddings `[T, N, D]` to their neighbours among the anchors: `[T, N]`."""
        num_steps, num_envs, size = phi.shape
        index = _spread(num_steps * num_envs, self.num_anchors)
        anchors = phi.reshape(-1, size)[index]
        k = min(self.num_neighbours, len(index) - 1)
        if k == 0:
            return jnp.zeros((num_steps, num_envs))
        lengths = jnp.sum(jnp.square(anchors), axis=-1)

        def scored(x: tuple[jax.Array, jax.Array]) -> jax.Array:
            phi, place = x
            # By the law of cosines: a matrix product, where differences would be [A, B, D].
            length = jnp.sum(jnp.square(phi), axis=-1)
            both = lengths[:, None] + length[None]
            square = both - 2.0 * anchors @ phi.T
            square = jnp.where(square > _ROUNDING * both, square, 0.0)
            square = jnp.where(place[None] == index[:, None], jnp.inf, square)
            found = jnp.sqrt(nearest(square, k))
            return found[-1] if self.neighbours == "kth" else jnp.mean(found, axis=0)

        rows = steps_at_once(num_steps, len(index) * num_envs) * num_envs
        place = jnp.arange(num_steps * num_envs).reshape(-1, rows)
        distance = jax.lax.map(scored, (phi.reshape(-1, rows, size), place))
        return distance.reshape(num_steps, num_envs)


def _spread(total: int, most: int) -> npt.NDArray[np.int32]:
    """At most `most` of `total` positions, with a share of every env and every time."""
    num = min(total, most)
    # Multiples of the golden ratio fill the unit interval evenly, whatever T and N are.
    places = np.floor((np.arange(num) * 0.6180339887498949 % 1.0) * total).astype(np.int32)
    return np.arange(total, dtype=np.int32) if num == total else np.unique(places)


@register_bonus("re3")
def re3(
    coefficient: float = 0.01,
    num_neighbours: int = 3,
    num_anchors: int = 256,
    decay: float = 1e-5,
    normaliser: NormaliserKind = "std",
    hidden_size: int = 64,
    embedding_size: int = 32,
    inputs: Inputs = "codes",
) -> Scale:
    """Random encoders for efficient exploration: `r = coefficient log(1 + |phi - phi_kNN|)`.

    Args:
        coefficient: of the normalised bonus at the start.
        num_neighbours: k.
        num_anchors: observations of a rollout that neighbours are sought among.
        decay: rho: the bonus is multiplied by `(1 - rho)^t`, t the steps each env has taken.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        hidden_size: width of the encoder, which is fixed.
        embedding_size: of phi.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Seo et al. (2021), State entropy maximization with random encoders for efficient
    exploration, arXiv:2102.09430.

    Deviations from the paper: neighbours are sought among a part of the rollout; inputs are
    standardised and the bonus is divided by its std; an MLP for convolutions.
    """
    dynamics = Dynamics(
        "random", embedding_size=embedding_size, hidden_size=hidden_size, inputs=inputs
    )
    core = ParticleEntropy(dynamics, num_neighbours, num_anchors, decay=decay)
    return Scale(Normalise(core, normaliser), coefficient)
