"""Random network distillation: what a network cannot yet predict is worth seeing."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import MLP, Inputs


@dataclasses.dataclass(frozen=True)
class RNDState:
    """Arrays alone, but for what `inputs` keeps static.

    Attributes:
        inputs: how observations are seen, and the moments of those seen so far.
        target: parameters of the random network, fixed.
        predictor: parameters of the network that learns to predict it, and their optimiser.
    """

    inputs: InputState
    target: PyTree
    predictor: Fitted


jax.tree_util.register_dataclass(RNDState, ["inputs", "target", "predictor"], [])


@final
@component
class RND:
    """`r = mean_i (f(x) - g(x))_i^2` with g a random network, f one trained to predict it.

    `x = clip((o' - mean) / std, -5, 5)` with running statistics of the inputs, which take in a
    rollout (of a large one, the envs that make up 32,768 steps) before it is scored, and `std` at
    least 0.01: without them the error of a large or tiny input drowns what is new
    (`normalise_inputs=False` shows it). The predictor learns, in `update`, from `update_fraction`
    of the rollout, drawn with replacement, in `num_minibatches` steps of Adam.
    """

    hidden_size: int = 64
    embedding_size: int = 32
    extra_layers: int = 1
    learning_rate: float = 1e-3
    update_fraction: float = static(default=0.25)
    num_minibatches: int = 8
    inputs: Inputs = "codes"
    normalise_inputs: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.update_fraction <= 1:
            raise ConfigError(f"rnd(update_fraction={self.update_fraction}): must be in (0, 1]")
        for name in ("hidden_size", "embedding_size", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"rnd({name}={getattr(self, name)}): must be at least 1")
        if self.extra_layers < 0:
            raise ConfigError(f"rnd(extra_layers={self.extra_layers}): must not be negative")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        code_key, target_key, predictor_key = jax.random.split(key, 3)
        inputs = init_inputs(
            code_key, spec.env.observation, self.inputs, normalise=self.normalise_inputs
        )
        example = jnp.zeros(num_inputs(inputs))
        predictor = self._predictor().init(predictor_key, example)
        return RNDState(
            inputs=inputs,
            target=self._target().init(target_key, example),
            predictor=init_fitted(predictor, self.learning_rate),
        )

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state = dataclasses.replace(state, inputs=observe_inputs(state.inputs, traj.next_obs))
        numbers = num_inputs(state.inputs) + self.hidden_size
        r_int = map_time(
            lambda obs: self._errors(state, state.predictor.params, obs), traj.next_obs, numbers
        )
        return state, r_int

    def novelties(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array, jax.Array]:
        """Returns the state, and the roots of the errors on `obs` and on `next_obs` `[T, N]`."""
        state, after = self.reward(state, traj)
        numbers = num_inputs(state.inputs) + self.hidden_size
        before = map_time(
            lambda obs: self._errors(state, state.predictor.params, obs), traj.obs, numbers
        )
        return state, jnp.sqrt(before), jnp.sqrt(after)

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        def loss(predictor: PyTree, obs: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            error = jnp.mean(self._errors(state, predictor, obs))
            return error, {"predictor_loss": error}

        predictor, metrics = fit(
            key,
            state.predictor,
            loss,
            flatten_rollout(traj.next_obs),
            learning_rate=self.learning_rate,
            fraction=self.update_fraction,
            num_minibatches=self.num_minibatches,
        )
        return dataclasses.replace(state, predictor=predictor), metrics

    def _target(self) -> MLP:
        return MLP((self.hidden_size, self.embedding_size))

    def _predictor(self) -> MLP:
        return MLP((self.hidden_size,) * (1 + self.extra_layers) + (self.embedding_size,))

    def _errors(self, state: RNDState, predictor: PyTree, obs: PyTree) -> jax.Array:
        x = inputs_of(state.inputs, obs)
        prediction: jax.Array = self._predictor().apply(predictor, x)  # type: ignore[assignment]
        answer: jax.Array = self._target().apply(state.target, x)  # type: ignore[assignment]
        return jnp.mean(jnp.square(prediction - answer), axis=-1)


@register_bonus("rnd")
def rnd(
    coefficient: float = 0.5,
    normaliser: NormaliserKind = "return_std",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    extra_layers: int = 1,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Random network distillation, by default divided by the running std of its discounted return.

    Args:
        coefficient: of the normalised bonus; 0.5 is the paper's 1 beside an extrinsic 2.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        discount: of the intrinsic return whose std `return_std` divides by.
        learning_rate: of the predictor's Adam.
        hidden_size: width of both networks.
        embedding_size: what they output.
        extra_layers: hidden layers the predictor has beyond the target's one.
        update_fraction: part of each rollout the predictor learns from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Burda et al. (2018), Exploration by random network distillation, arXiv:1810.12894.

    Deviations from the paper: MLPs of 64 for convolutions and layers of 512, the predictor
    one layer deeper than the target, not two; one pass over a quarter
    of a rollout at 1e-3, not four at 1e-4; input statistics from the first rollout on, not from
    random steps before it; episodic and two-headed returns are the agent's to choose.
    """
    core = RND(
        hidden_size=hidden_size,
        embedding_size=embedding_size,
        extra_layers=extra_layers,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    return Scale(Normalise(core, normaliser, discount), coefficient)
