"""Intrinsic curiosity: where the consequences of actions are not yet foreseen."""

from __future__ import annotations

from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.dynamics import Dynamics, DynamicsState, Encoding
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import Inputs


@final
@component
class ForwardError:
    """`r = |f(phi(o), a) - phi(o')|^2 / 2`, f and phi those of `dynamics`."""

    dynamics: Dynamics = Dynamics("inverse", forward=True)

    def __post_init__(self) -> None:
        if not self.dynamics.forward:
            raise ConfigError("ForwardError: its dynamics have no forward model: use forward=True")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> DynamicsState:
        return self.dynamics.init(key, spec)

    def reward(self, state: DynamicsState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state = self.dynamics.observe(state, traj)
        before, after = self.dynamics.embed_rollout(state, traj)

        def error(x: tuple[jax.Array, PyTree, jax.Array]) -> jax.Array:
            before, action, after = x
            miss = self.dynamics.predict(state, before, action) - after
            return jnp.sum(jnp.square(miss), axis=-1) / 2

        numbers = self.dynamics.hidden_size + 3 * self.dynamics.embedding_size
        return state, map_time(error, (before, traj.action, after), numbers)

    def update(self, key: Key, state: DynamicsState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        return self.dynamics.update(key, state, traj)


@register_bonus("icm")
def icm(
    coefficient: float = 0.5,
    encoding: Encoding = "inverse",
    normaliser: NormaliserKind = "return_std",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    inverse_weight: float = 0.8,
    forward_weight: float = 0.2,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Intrinsic curiosity module: `r = coefficient / 2 |f(phi(o), a) - phi(o')|^2`, normalised.

    Args:
        coefficient: of the normalised bonus; the paper's eta where `normaliser` is `none`.
        encoding: what phi learns from: `inverse`, `inverse+forward`, `discriminator`; or `random`.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        discount: of the return whose std `return_std` divides by.
        learning_rate: of Adam.
        inverse_weight: of the inverse model's loss.
        forward_weight: of the forward model's loss.
        hidden_size: width of all networks.
        embedding_size: of phi.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Pathak et al. (2017), Curiosity-driven exploration by self-supervised prediction,
    arXiv:1705.05363; `random` and the normaliser: Burda et al. (2018), arXiv:1808.04355.

    Deviations from the paper: phi learns from the inverse model alone, since the forward loss makes
    it collapse to what is easily foreseen (`inverse+forward` is the paper's); the bonus is divided
    by the std of its return, without which no coefficient fits two tasks; MLPs of 64.
    """
    dynamics = Dynamics(
        encoding=encoding,
        forward=True,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        learning_rate=learning_rate,
        inverse_weight=inverse_weight,
        forward_weight=forward_weight,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    return Scale(Normalise(ForwardError(dynamics), normaliser, discount), coefficient)
