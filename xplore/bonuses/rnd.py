"""Random network distillation: what a network cannot yet predict is worth seeing."""

from __future__ import annotations

import dataclasses
from typing import final

import jax
import jax.numpy as jnp
import optax

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.spaces import Space, shape_dtype
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_time
from xplore.parts.normalisers import Moments, add_values, init_moments, standardise
from xplore.parts.predictors import MLP, Inputs, encode, init_codes

_STATISTICS_ROWS = 1 << 15


@dataclasses.dataclass(frozen=True)
class RNDState:
    """Arrays, and the observation space, which is static.

    Attributes:
        space: of one observation.
        codes: what the inputs of symbols are, fixed.
        target: parameters of the random network, fixed.
        predictor: parameters of the network that learns to predict it.
        optimiser: the optimiser's state.
        inputs: moments `[D]` of the inputs seen so far.
    """

    space: Space
    codes: PyTree
    target: PyTree
    predictor: PyTree
    optimiser: PyTree
    inputs: Moments


jax.tree_util.register_dataclass(
    RNDState,
    data_fields=["codes", "target", "predictor", "optimiser", "inputs"],
    meta_fields=["space"],
)


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
        space = spec.env.observation
        codes = init_codes(code_key, space)
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape_dtype(space))
        example = encode(space, codes, blank, self.inputs)
        predictor = self._predictor().init(predictor_key, example)
        return RNDState(
            space=space,
            codes=codes,
            target=self._target().init(target_key, example),
            predictor=predictor,
            optimiser=optax.adam(self.learning_rate).init(predictor),
            inputs=init_moments(example.shape),
        )

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        if self.normalise_inputs:
            state = dataclasses.replace(state, inputs=self._observe(state, traj.next_obs))
        numbers = state.inputs.mean.size + self.hidden_size
        r_int = map_time(
            lambda obs: self._errors(state, state.predictor, obs), traj.next_obs, numbers
        )
        return state, r_int

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        num_rows = traj.reward.size
        size = max(1, round(num_rows * self.update_fraction / self.num_minibatches))
        rows = jax.random.randint(key, (self.num_minibatches, size), 0, num_rows)
        flat = jax.tree.map(lambda x: x.reshape(num_rows, *x.shape[2:]), traj.next_obs)
        adam = optax.adam(self.learning_rate)

        def loss_fn(predictor: PyTree, obs: PyTree) -> jax.Array:
            return jnp.mean(self._errors(state, predictor, obs))

        def step(
            carry: tuple[PyTree, PyTree], row: jax.Array
        ) -> tuple[tuple[PyTree, PyTree], jax.Array]:
            predictor, optimiser = carry
            obs = jax.tree.map(lambda x: x[row], flat)
            loss, gradient = jax.value_and_grad(loss_fn)(predictor, obs)
            changes, optimiser = adam.update(gradient, optimiser)
            return (optax.apply_updates(predictor, changes), optimiser), loss

        carry = (state.predictor, state.optimiser)
        (predictor, optimiser), losses = jax.lax.scan(step, carry, rows)
        state = dataclasses.replace(state, predictor=predictor, optimiser=optimiser)
        return state, {"predictor_loss": jnp.mean(losses)}

    def _target(self) -> MLP:
        return MLP((self.hidden_size, self.embedding_size))

    def _predictor(self) -> MLP:
        return MLP((self.hidden_size,) * (1 + self.extra_layers) + (self.embedding_size,))

    def _observe(self, state: RNDState, obs: PyTree) -> Moments:
        num_steps, num_envs = jax.tree.leaves(obs)[0].shape[:2]
        most = max(1, _STATISTICS_ROWS // num_steps)
        some = jax.tree.map(lambda x: x[:, : min(num_envs, most)], obs)
        return add_values(state.inputs, encode(state.space, state.codes, some, self.inputs))

    def _errors(self, state: RNDState, predictor: PyTree, obs: PyTree) -> jax.Array:
        x = encode(state.space, state.codes, obs, self.inputs)
        if self.normalise_inputs:
            x = standardise(state.inputs, x)
        prediction: jax.Array = self._predictor().apply(predictor, x)  # type: ignore[assignment]
        answer: jax.Array = self._target().apply(state.target, x)  # type: ignore[assignment]
        return jnp.mean(jnp.square(prediction - answer), axis=-1)


@register_bonus("rnd")
def rnd(
    coefficient: float = 0.5,
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    extra_layers: int = 1,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Random network distillation, divided by the running std of its discounted return.

    Args:
        coefficient: of the normalised bonus; 0.5 is the paper's 1 beside an extrinsic 2.
        discount: of the intrinsic return whose std the bonus is divided by.
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
    return Scale(Normalise(core, "return_std", discount), coefficient)
