"""Embeddings of observations, learned from what actions do: the encoders of curiosity.

`random`: a fixed network. `inverse`: trained to tell the action between two observations, so that
what no action affects leaves no trace. `inverse+forward`: trained to be predictable as well.
`discriminator`: trained to tell the true successor from one of another step.
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
from xplore.parts.blocks import map_before, map_time
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.observations import features, num_features
from xplore.parts.predictors import MLP, Inputs

Encoding = Literal["random", "inverse", "inverse+forward", "discriminator"]
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

    With `discriminator` the encoder learns from the binary cross-entropy of `d(phi, a, phi')`,
    which is to say 1 for the true successor and 0 for that of another row of the minibatch; rows
    whose two candidates look alike count as true alone, and both kinds weigh the same.

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
        if self.encoding == "discriminator":
            params["discriminator"] = self._critic().init(k_inverse, jnp.zeros(2 * size + acts))
        elif self.encoding != "random":
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
        return map_time(lambda x: self.embed_rows(state, x), obs, numbers)

    def embed_rows(self, state: DynamicsState, obs: PyTree) -> jax.Array:
        """The embeddings `[..., D]` of observations `[..., ...]`, all at once."""
        return self._embed(state, state.fitted.params, obs)

    def embed_rollout(self, state: DynamicsState, traj: Trajectory) -> tuple[jax.Array, jax.Array]:
        """The embeddings `[T, N, D]` of `obs` and of `next_obs`, for little more than the latter.

        What is not an episode's first observation is the successor of the one before.
        """
        after = self.embed(state, traj.next_obs)
        before = map_before(lambda x: self.embed_rows(state, x), traj.obs, traj.first, after)
        return before, after

    def predict(self, state: DynamicsState, phi: jax.Array, action: PyTree) -> jax.Array:
        """What the forward model expects of the successor's embedding, `[..., D]`."""
        return self._predict(state.fitted.params, phi, self.acted(state, action))

    def acted(self, state: DynamicsState, action: PyTree) -> jax.Array:
        """Actions as numbers `[..., A]`, one-hot where they are discrete."""
        return features(state.action, action)

    def num_acted(self, state: DynamicsState) -> int:
        """The A of `acted`."""
        return num_features(state.action)

    def update(
        self, key: Key, state: DynamicsState, traj: Trajectory
    ) -> tuple[DynamicsState, Metrics]:
        """Learns from a rollout; metrics are the losses and accuracies of what there is."""
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
        x, next_x = (inputs_of(state.inputs, x) for x in (obs, next_obs))
        phi, next_phi = (self._encode(params, x) for x in (x, next_x))
        acted = features(state.action, action)
        total = jnp.float32(0)
        metrics: Metrics = {}
        if self.encoding == "discriminator":
            total, metrics = self._discriminate(params, phi, acted, next_phi, next_x)
        elif self.encoding != "random":
            total, metrics = self._invert(state, params, phi, action, next_phi)
            total = self.inverse_weight * total
        if self.forward:
            if self.encoding != "inverse+forward":
                phi, next_phi = jax.lax.stop_gradient((phi, next_phi))
            error = self._predict(params, phi, acted) - next_phi
            metrics["forward_loss"] = jnp.mean(jnp.square(error))
            total = total + self.forward_weight * metrics["forward_loss"]
        return total, metrics

    def _invert(
        self,
        state: DynamicsState,
        params: PyTree,
        phi: jax.Array,
        action: PyTree,
        next_phi: jax.Array,
    ) -> tuple[jax.Array, Metrics]:
        acted = features(state.action, action)
        told: jax.Array = self._inverse(acted.shape[-1]).apply(
            params["inverse"], jnp.concatenate([phi, next_phi], axis=-1)
        )  # type: ignore[assignment]
        if not isinstance(state.action, Discrete):
            loss = jnp.mean(jnp.square(told - acted))
            return loss, {"inverse_loss": loss}
        loss = jnp.mean(optax.softmax_cross_entropy(told, acted))
        right = jnp.mean(jnp.argmax(told, -1) == action)
        return loss, {"inverse_loss": loss, "inverse_accuracy": right}

    def _discriminate(
        self,
        params: PyTree,
        phi: jax.Array,
        acted: jax.Array,
        next_phi: jax.Array,
        next_x: jax.Array,
    ) -> tuple[jax.Array, Metrics]:
        # Rows are drawn at random: the next row's successor is that of any other step.
        other_phi, other_x = (jnp.roll(x, 1, axis=0) for x in (next_phi, next_x))
        differ = jnp.any(next_x != other_x, axis=-1).astype(jnp.float32)

        def judge(candidate: jax.Array) -> jax.Array:
            judged: jax.Array = self._critic().apply(
                params["discriminator"], jnp.concatenate([phi, acted, candidate], axis=-1)
            )  # type: ignore[assignment]
            return judged[..., 0]

        true, false = judge(next_phi), judge(other_phi)
        share = differ / jnp.maximum(jnp.sum(differ), 1.0)
        loss = jnp.mean(jax.nn.softplus(-true)) + jnp.sum(share * jax.nn.softplus(false))
        right = jnp.mean(true > 0) + jnp.sum(share * (false < 0))
        return loss / 2, {"discriminator_loss": loss / 2, "discriminator_accuracy": right / 2}

    def _embed(self, state: DynamicsState, params: PyTree, obs: PyTree) -> jax.Array:
        return self._encode(params, inputs_of(state.inputs, obs))

    def _encode(self, params: PyTree, x: jax.Array) -> jax.Array:
        phi: jax.Array = self._encoder().apply(params["encoder"], x)  # type: ignore[assignment]
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

    def _critic(self) -> MLP:
        return MLP((self.hidden_size, 1))
