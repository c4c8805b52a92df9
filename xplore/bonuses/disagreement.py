"""Disagreement: where models that learned from different steps foresee different things."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.dynamics import Dynamics, DynamicsState, Encoding
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import MLP, Inputs, apply_ensemble, init_ensemble


class DisagreementState(NamedTuple):
    """The embeddings, and the forward models, leaves `[num_heads, ...]`."""

    dynamics: DynamicsState
    heads: Fitted


@final
@component
class Disagreement:
    """`r = mean_j Var_k f_k(phi(o), a)_j` over `num_heads` forward models f_k.

    Each head learns to predict `phi(o')` from minibatches of its own. What is random in `o'` they
    all come to predict the mean of, so that noise, once known, pays nothing.
    """

    dynamics: Dynamics = Dynamics("random")
    num_heads: int = 5

    def __post_init__(self) -> None:
        if self.num_heads < 2:
            raise ConfigError(f"disagreement(num_heads={self.num_heads}): must be at least 2")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> DisagreementState:
        key_dynamics, key_heads = jax.random.split(key)
        dynamics = self.dynamics.init(key_dynamics, spec)
        size = self.dynamics.embedding_size + self.dynamics.num_acted(dynamics)
        heads = init_ensemble(self._head(), key_heads, size, self.num_heads)
        return DisagreementState(dynamics, init_fitted(heads, self.dynamics.learning_rate))

    def reward(self, state: DisagreementState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        dynamics = self.dynamics.observe(state.dynamics, traj)
        before, _ = self.dynamics.embed_rollout(dynamics, traj)

        def variance(x: tuple[jax.Array, PyTree]) -> jax.Array:
            phi, action = x
            seen = jnp.concatenate([phi, self.dynamics.acted(dynamics, action)], axis=-1)
            foreseen = apply_ensemble(self._head(), state.heads.params, seen)
            return jnp.mean(jnp.var(foreseen, axis=0), axis=-1)

        numbers = self.num_heads * (self.dynamics.hidden_size + self.dynamics.embedding_size)
        r_int = map_time(variance, (before, traj.action), numbers)
        return state._replace(dynamics=dynamics), r_int

    def update(
        self, key: Key, state: DisagreementState, traj: Trajectory
    ) -> tuple[PyTree, Metrics]:
        key_heads, key_dynamics = jax.random.split(key)

        def loss(heads: PyTree, rows: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            obs, action, next_obs = rows
            phi, target = (self.dynamics.embed_rows(state.dynamics, x) for x in (obs, next_obs))
            acted = self.dynamics.acted(state.dynamics, action)
            seen = jnp.concatenate([phi, acted], axis=-1)
            foreseen = apply_ensemble(self._head(), heads, seen, own=True)
            errors = jnp.mean(jnp.square(foreseen - target), axis=(1, 2))
            # A sum over heads: each is moved as if it were alone.
            return jnp.sum(errors), {"forward_loss": jnp.mean(errors)}

        heads, metrics = fit(
            key_heads,
            state.heads,
            loss,
            flatten_rollout((traj.obs, traj.action, traj.next_obs)),
            learning_rate=self.dynamics.learning_rate,
            fraction=self.dynamics.update_fraction,
            num_minibatches=self.dynamics.num_minibatches,
            num_heads=self.num_heads,
        )
        dynamics, more = self.dynamics.update(key_dynamics, state.dynamics, traj)
        return DisagreementState(dynamics, heads), metrics | more

    def _head(self) -> MLP:
        return MLP((self.dynamics.hidden_size, self.dynamics.embedding_size))


@register_bonus("disagreement")
def disagreement(
    coefficient: float = 0.5,
    num_heads: int = 5,
    encoding: Encoding = "random",
    normaliser: NormaliserKind = "return_std",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Disagreement: `r = coefficient * mean_j Var_k f_k(phi(o), a)_j`, normalised.

    Args:
        coefficient: of the normalised bonus.
        num_heads: forward models.
        encoding: what phi learns from: `random` (nothing), `inverse`, `discriminator`.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        discount: of the return whose std `return_std` divides by.
        learning_rate: of Adam.
        hidden_size: width of all networks.
        embedding_size: of phi.
        update_fraction: part of each rollout that is learned from, by all heads together.
        num_minibatches: gradient steps per rollout, of each head.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Pathak, Gandhi and Gupta (2019), Self-supervised exploration via disagreement,
    arXiv:1906.04161.

    Deviations from the paper: the bonus is a reward, not differentiated through; it is divided by
    the std of its return; MLPs of 64.
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
    core = Disagreement(dynamics, num_heads)
    return Scale(Normalise(core, normaliser, discount), coefficient)
