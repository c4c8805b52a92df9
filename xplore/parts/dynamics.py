"""Embeddings of observations, learned from what actions do: the encoders of curiosity.

`random`: a fixed network. `inverse`: trained to tell the action between two observations, so that
what no action affects leaves no trace. `inverse+forward`: trained to be predictable as well.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, final, get_args

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Discrete, Space
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.observations import features, num_features
from xplore.parts.predictors import MLP, Inputs

Encoding = Literal["random", "inverse", "inverse+forward"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)


@final
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DynamicsState:
    """The parameters of encoder, inverse and forward model, the inputs, and the action space."""

    fitted: Fitted
    inputs: InputState
    action: Space = dataclasses.field(metadata={"static": True})


@final
@component
class Dynamics:
    """An encoder phi with an inverse model (phi, phi' -> a) and a forward model (phi, a -> phi').

    The loss is `inverse_weight * L_inv + forward_weight * L_fwd`, L_inv the cross-entropy of the
    action (the squared error of one that is not discrete), L_fwd `mean_i (f(phi, a) - phi')_i^2`.
    The encoder learns from L_inv, and with `inverse+forward` from L_fwd too; the forward model
    always learns from L_fwd, if there is one.

    Attributes:
        encoding: what the encoder learns from.
        forward: whether there is a forward model.
        embedding_size: D of `embed`.
        hidden_size: width of all networks, one hidden layer each.
        learning_rate: of Adam.
        inverse_weight, forward_weight: of the two losses.
        update_fraction: part of each rollout that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: how symbols are encoded.
        normalise_inputs: whether inputs are standardised by running moments.
    """

    encoding: Encoding = "inverse"
    forward: bool = False
    embedding_size: int = 32
    hidden_size: int = 64
    learning_rate: float = 1e-3
    inverse_weight: float = 1.0
    forward_weight: float = 1.0
    update_fraction: float = static(default=0.25)
    num_minibatches: int = 8
    inputs: Inputs = "codes"
    normalise_inputs: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            known = ", ".join(ENCODINGS)
            raise ConfigError(f"encoding is {self.encoding!r}: it must be one of {known}")
        if not 0 < self.update_fraction <= 1:
            raise ConfigError(f"update_fraction is {self.update_fraction}: must be in (0, 1]")
        for name in ("embedding_size", "hidden_size", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: must be at least 1")

    @property
    def learns(self) -> bool:
        """Whether anything is trained."""
        return self.encoding != "random" or self.forward

    def init(self, key: Key, spec: RunSpec) -> DynamicsState:
        """Untrained networks for a run."""
        k_inputs, k_encoder, k_inverse, k_forward = jax.random.split(key, 4)
        inputs = init_inputs(
            k_inputs, spec.env.observation, self.inputs, normalise=self.normalise_inputs
        )
        action = spec.env.action
        size, acts = self.embedding_size, num_features(action)
        params = {"encoder": self._encoder().init(k_encoder, jnp.zeros(num_inputs(inputs)))}
        if self.encoding != "random":
            params["inverse"] = self._inverse(acts).init(k_inverse, jnp.zeros(2 * size))
        if self.forward:
            params["forward"] = self._forward().init(k_forward, jnp.zeros(size + acts))
        return DynamicsState(init_fitted(params, self.learning_rate), inputs, action)

    def observe(self, state: DynamicsState, traj: Trajectory) -> DynamicsState:
        """Takes a rollout into the moments of the inputs; to be called before it is scored."""
        return dataclasses.replace(state, inputs=observe_inputs(state.inputs, traj.next_obs))

    def embed(self, state: DynamicsState, obs: PyTree) -> jax.Array:
        """The embeddings `[T, N, D]` of observations `[T, N, ...]`, in blocks of time."""
        numbers = num_inputs(state.inputs) + self.hidden_size
        return map_time(lambda x: self._embed(state, state.fitted.params, x), obs, numbers)

    def predict(self, state: DynamicsState, phi: jax.Array, action: PyTree) -> jax.Array:
        """What the forward model expects of the successor's embedding, `[..., D]`."""
        return self._predict(state.fitted.params, phi, features(state.action, action))

    def update(
        self, key: Key, state: DynamicsState, traj: Trajectory
    ) -> tuple[DynamicsState, Metrics]:
        """Learns from a rollout; metrics `inverse_loss`, `inverse_accuracy`, `forward_loss`."""
        if not self.learns:
            return state, {}
        data = flatten_rollout((traj.obs, traj.action, traj.next_obs))

        def loss(params: PyTree, rows: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            return self._loss(state, params, *rows)

        fitted, metrics = fit(
            key,
            state.fitted,
            loss,
            data,
            learning_rate=self.learning_rate,
            fraction=self.update_fraction,
            num_minibatches=self.num_minibatches,
        )
        return dataclasses.replace(state, fitted=fitted), metrics

    def _loss(
        self, state: DynamicsState, params: PyTree, obs: PyTree, action: PyTree, next_obs: PyTree
    ) -> tuple[jax.Array, Metrics]:
        phi, next_phi = (self._embed(state, params, x) for x in (obs, next_obs))
        acted = features(state.action, action)
        total, metrics = jnp.float32(0), {}
        if self.encoding != "random":
            told: jax.Array = self._inverse(acted.shape[-1]).apply(
                params["inverse"], jnp.concatenate([phi, next_phi], axis=-1)
            )  # type: ignore[assignment]
            if isinstance(state.action, Discrete):
                inverse = jnp.mean(optax.softmax_cross_entropy(told, acted))
                metrics["inverse_accuracy"] = jnp.mean(jnp.argmax(told, -1) == action)
            else:
                inverse = jnp.mean(jnp.square(told - acted))
            metrics["inverse_loss"] = inverse
            total = total + self.inverse_weight * inverse
        if self.forward:
            if self.encoding != "inverse+forward":
                phi, next_phi = jax.lax.stop_gradient((phi, next_phi))
            error = self._predict(params, phi, acted) - next_phi
            metrics["forward_loss"] = jnp.mean(jnp.square(error))
            total = total + self.forward_weight * metrics["forward_loss"]
        return total, metrics

    def _embed(self, state: DynamicsState, params: PyTree, obs: PyTree) -> jax.Array:
        phi: jax.Array = self._encoder().apply(  # type: ignore[assignment]
            params["encoder"], inputs_of(state.inputs, obs)
        )
        return phi

    def _predict(self, params: PyTree, phi: jax.Array, acted: jax.Array) -> jax.Array:
        after: jax.Array = self._forward().apply(  # type: ignore[assignment]
            params["forward"], jnp.concatenate([phi, acted], axis=-1)
        )
        return after

    def _encoder(self) -> MLP:
        return MLP((self.hidden_size, self.embedding_size))

    def _inverse(self, num_outputs: int) -> MLP:
        return MLP((self.hidden_size, num_outputs))

    def _forward(self) -> MLP:
        return MLP((self.hidden_size, self.embedding_size))
