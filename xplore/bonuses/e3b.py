"""Elliptical episodic bonus: what lies outside the ellipse this episode has filled."""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, final, get_args

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.dynamics import Dynamics, DynamicsState, Encoding
from xplore.parts.episodic import enlarge, init_inverse
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs

Features = Literal["embedding", "position"]
FEATURES: tuple[Features, ...] = get_args(Features)


class E3BState(NamedTuple):
    """The embeddings (`()` for positions), and each env's inverse of C `[N, D, D]`."""

    dynamics: DynamicsState | tuple[()]
    inverse: jax.Array


@final
@component
class E3B:
    """`r = phi^T C^-1 phi` of phi(o'), with `C = ridge I + sum phi phi^T` over the episode so far.

    The observation the episode started with is in C. Embeddings are brought to mean 0 and length 1,
    so that a direction that is new pays `1 / ridge`, the most there is, whatever the network's
    scale. With `features="position"` phi is one-hot: `r = 1 / (ridge + n)`, n the visits before.
    """

    dynamics: Dynamics = Dynamics("inverse")
    ridge: float = 0.1
    features: Features = "embedding"

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            known = ", ".join(FEATURES)
            raise ConfigError(f"e3b(features={self.features!r}): must be one of {known}")
        if isinstance(self.ridge, float) and not self.ridge > 0:
            raise ConfigError(f"e3b(ridge={self.ridge}): must be above 0")

    def reads(self) -> tuple[str, ...]:
        return ("position",) if self.features == "position" else ()

    def init(self, key: Key, spec: RunSpec) -> E3BState:
        if self.features == "embedding":
            dynamics = self.dynamics.init(key, spec)
            size = self.dynamics.embedding_size
            return E3BState(dynamics, init_inverse(spec.num_envs, size, self.ridge))
        space = dict(spec.env.privileged.items).get("position")
        if not isinstance(space, Discrete):
            raise ConfigError(
                f"e3b(features='position'): {spec.env.name} tells no position:"
                " use features='embedding'"
            )
        return E3BState((), init_inverse(spec.num_envs, space.num, self.ridge))

    def reward(self, state: E3BState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        dynamics, starts, after = self._features(state, traj)

        def step(
            inverse: jax.Array, x: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            start, phi, first = x
            return enlarge(inverse, phi, first, self.ridge, start)

        inverse, r_int = jax.lax.scan(step, state.inverse, (starts, after, traj.first))
        return E3BState(dynamics, inverse), r_int

    def update(self, key: Key, state: E3BState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        if self.features == "position":
            return state, {}
        dynamics, metrics = self.dynamics.update(key, cast(DynamicsState, state.dynamics), traj)
        return state._replace(dynamics=dynamics), metrics

    def _features(
        self, state: E3BState, traj: Trajectory
    ) -> tuple[DynamicsState | tuple[()], jax.Array, jax.Array]:
        if self.features == "position":
            size = state.inverse.shape[-1]
            at, to = (p["position"] for p in (traj.privileged, traj.next_privileged))
            return (), jax.nn.one_hot(at, size), jax.nn.one_hot(to, size)
        dynamics = self.dynamics.observe(cast(DynamicsState, state.dynamics), traj)
        before, after = self.dynamics.embed_rollout(dynamics, traj)
        return dynamics, _unit(before), _unit(after)


def _unit(phi: jax.Array) -> jax.Array:
    phi = phi - jnp.mean(phi, axis=-1, keepdims=True)
    return phi * jax.lax.rsqrt(jnp.sum(jnp.square(phi), axis=-1, keepdims=True) + 1e-8)


@register_bonus("e3b")
def e3b(
    coefficient: float = 0.05,
    ridge: float = 0.1,
    features: Features = "embedding",
    encoding: Encoding = "inverse",
    normaliser: NormaliserKind = "std",
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Elliptical episodic bonus: `r = coefficient * phi(o')^T C^-1 phi(o')`, normalised.

    Args:
        coefficient: of the normalised bonus.
        ridge: lambda, `C = lambda I` before an episode.
        features: `embedding`, or `position` (one-hot): then the bonus is an episodic count.
        encoding: what phi learns from: `inverse`, `random` (nothing), `discriminator`.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        learning_rate: of Adam.
        hidden_size: width of all networks.
        embedding_size: D of phi; a step costs `4 D^2` operations and each env `4 D^2` bytes.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Henaff et al. (2022), Exploration via elliptical episodic bonuses, arXiv:2210.05805.

    Deviations from the paper: paid for the observation reached, not the one left (whose bonus the
    published code pays a step later); embeddings have length 1; the bonus is divided by its std,
    where the published running std is over the sums of a batch, so that its coefficient of 1 is
    about 0.05 here; 32 features for 1,024; nothing is clipped.
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
    return Scale(Normalise(E3B(dynamics, ridge, features), normaliser), coefficient)
