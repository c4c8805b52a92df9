"""Q-learning on rollouts: lambda targets, layer normalisation, no replay, no target network."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso, init_params
from xplore.agents.q_networks import QNetwork, make_q_network
from xplore.contracts.component import component, replace
from xplore.contracts.errors import check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.exploration import (
    Exploration,
    Repeats,
    check_exploration,
    epsilon_at,
    explore,
    no_repeats,
)
from xplore.parts.fitting import clipped, flatten_rollout
from xplore.parts.minibatch import check_minibatches, mean_gradient, shuffled_index
from xplore.parts.quantiles import quantile_loss, take_quantiles
from xplore.parts.returns import lambda_returns, successor_values, take_values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PQNState:
    """Parameters and optimiser state; the network itself is static."""

    params: PyTree
    opt_state: PyTree
    env_steps: jax.Array
    network: Any = dataclasses.field(metadata={"static": True})


class PQNOptions(Protocol):
    """What `pqn_optimizer` reads of an agent."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def anneal_steps(self) -> int: ...


def pqn_optimizer(options: PQNOptions, env_steps: jax.Array | int) -> optax.GradientTransformation:
    """RAdam behind a clip of the gradient's norm, at the learning rate of `env_steps`."""
    rate: Any = options.learning_rate
    if options.anneal_steps:
        rate = rate * jnp.maximum(0.0, 1.0 - env_steps / options.anneal_steps)
    return clipped(optax.radam(rate), options.max_grad_norm)


class Extras(NamedTuple):
    """What acting leaves for learning: `value` `[N]`, or `[N, M]`, that of the best action."""

    value: jax.Array


class Samples(NamedTuple):
    """What the loss is computed from, leaves `[B, ...]`."""

    obs: PyTree
    action: jax.Array
    target: jax.Array


@register_agent("pqn")
@final
@component
class PQN:
    """Fits Q(s_t, a_t) to G_t = r_t + gamma [lambda G_{t+1} + (1 - lambda) max_a Q(s_{t+1}, a)].

    Targets are computed once for each rollout, from the values that were acted on, and fitted by
    minibatches for several epochs. They stop at the end of an episode and of the rollout, with the
    value of the true successor; the end of the task has none.

    With M > 1 quantiles the network has M numbers for each action, the quantiles of the return,
    whose mean is its value; the M returns that follow from those of the best action are targets,
    fitted by quantile regression.

    Attributes:
        discount, trace: gamma and lambda.
        num_quantiles: M; 1: the value itself.
        max_grad_norm: global-norm clip; 0 for none.
        anneal_steps: env steps over which the learning rate falls linearly to 0; 0: it is constant.
        exploration: "epsilon", "ladder", "epsilon_z", "sticky" or "noisy"; what they are, and what
            their options mean, is said in `xplore.parts.exploration`.
        epsilon_start, epsilon_end, epsilon_steps: epsilon falls linearly over so many env steps.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        torso: "mlp", "cnn", "impala", "auto" by the shape of the observation, or a flax module.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        layer_norm: without it the method is known to diverge.
        deterministic: act greedily.

    Reference: Gallici et al. (2025), Simplifying deep temporal difference learning,
    arXiv:2407.04811.
    Deviations from the paper: minibatches and epochs as many as those of `ppo` here; quantiles,
    each mixed over steps with those of its own number, are not in it.
    """

    learning_rate: float = 5e-4
    discount: float = 0.99
    trace: float = 0.65
    num_quantiles: int = 1
    max_grad_norm: float = 10.0
    num_epochs: int = 4
    num_minibatches: int = 8
    anneal_steps: int = 0
    exploration: Exploration = "epsilon"
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: int = 50_000
    ladder_power: float = 7.0
    zeta_exponent: float = 2.0
    max_duration: int = 128
    stickiness: float = 0.25
    intrinsic_weight: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_exploration("pqn", self)
        check_least("pqn", self, num_epochs=1, num_minibatches=1, num_quantiles=1)

    def init(self, key: Key, spec: RunSpec) -> PQNState:
        check_minibatches("pqn", spec.num_envs, self.num_minibatches)
        noisy = self.exploration == "noisy"
        network = make_q_network("pqn", self, spec.env, noisy=noisy, num_numbers=self.num_quantiles)
        params = init_params(network, key, spec.env.observation)
        return PQNState(params, pqn_optimizer(self, 0).init(params), jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> Repeats:
        return no_repeats(num_envs)

    def act(
        self, key: Key, state: PQNState, carry: Repeats, obs: PyTree, first: jax.Array
    ) -> tuple[Repeats, jax.Array, Extras]:
        key_noise, key_explore = jax.random.split(key)
        noise = self.exploration == "noisy" and not self.deterministic
        outputs: Any = state.network.apply(state.params, obs, noise, rngs={"noise": key_noise})
        best, value = self._best(outputs)
        extras = Extras(value)
        if self.deterministic:
            return carry, best, extras
        carry, action = explore(
            key_explore, self, carry, best, first,
            num_actions=state.network.num_actions, env_steps=state.env_steps,
        )  # fmt: skip
        return carry, action, extras

    def update(
        self, key: Key, state: PQNState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PQNState, Metrics]:
        num_steps, num_envs = traj.reward.shape
        key_values, key_epochs = jax.random.split(key)
        target = self._targets(key_values, state, traj, r_int)
        samples = flatten_rollout(Samples(traj.obs, traj.action, target))
        optimizer = pqn_optimizer(self, state.env_steps)

        def minibatch(
            learned: tuple[PyTree, PyTree], x: tuple[jax.Array, Key]
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = learned
            index, key = x

            def loss(params: PyTree, rows: tuple[Samples, PyTree]) -> tuple[jax.Array, Metrics]:
                return self._loss(key, params, state.network, rows[0])

            gradient, metrics = mean_gradient(
                loss, params, samples, index, cpu_rows=state.network.cpu_rows
            )
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(
            learned: tuple[PyTree, PyTree], key: Key
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            key_order, key_noise = jax.random.split(key)
            order = shuffled_index(key_order, num_steps, num_envs)
            keys = jax.random.split(key_noise, self.num_minibatches)
            return jax.lax.scan(minibatch, learned, (order.reshape(len(keys), -1), keys))

        keys = jax.random.split(key_epochs, self.num_epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        steps = state.env_steps + num_steps * num_envs
        state = dataclasses.replace(state, params=params, opt_state=opt_state, env_steps=steps)
        return state, {**jax.tree.map(jnp.mean, metrics), "epsilon": epsilon_at(self, steps)}

    def greedy(self) -> PQN:
        return replace(self, deterministic=True)

    def _targets(self, key: Key, state: PQNState, traj: Trajectory, r_int: jax.Array) -> jax.Array:
        """G `[T, N]` or `[T, N, M]`, from the values that were acted on."""

        def evaluate(obs: PyTree) -> jax.Array:
            outputs: Any = state.network.apply(
                state.params, obs, self.exploration == "noisy", rngs={"noise": key}
            )
            return self._best(outputs)[1]

        value = traj.extras.value
        return lambda_returns(
            traj.reward + self.intrinsic_weight * r_int,
            value,
            successor_values(evaluate, value, traj.next_obs, traj.truncated),
            traj.terminated,
            traj.truncated,
            discount=self.discount,
            trace=self.trace,
        )

    def _best(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The best action, int32 `[B]`, and what the network says of it, `[B]` or `[B, M]`."""
        if self.num_quantiles == 1:
            return jnp.argmax(outputs, axis=-1).astype(jnp.int32), jnp.max(outputs, axis=-1)
        best = jnp.argmax(jnp.mean(outputs, axis=-1), axis=-1).astype(jnp.int32)
        return best, take_quantiles(outputs, best)

    def _loss(
        self, key: Key, params: PyTree, network: QNetwork, batch: Samples
    ) -> tuple[jax.Array, Metrics]:
        outputs: Any = network.apply(
            params, batch.obs, self.exploration == "noisy", rngs={"noise": key}
        )
        if self.num_quantiles > 1:
            done = take_quantiles(outputs, batch.action)
            loss = jnp.mean(quantile_loss(done, batch.target))
        else:
            done = take_values(outputs, batch.action)
            loss = 0.5 * jnp.mean(jnp.square(done - batch.target))
        error = done - batch.target
        metrics = {"loss": loss, "value": jnp.mean(done), "td_error": jnp.mean(jnp.abs(error))}
        return loss, metrics
