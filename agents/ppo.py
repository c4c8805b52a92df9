"""Proximal policy optimisation, feed-forward."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, final

import distrax
import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, ActorCritic, Symbols, Torso, resolve_torso
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.spaces import Discrete
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.minibatch import check_minibatches, mean_gradient, shuffled_index
from xplore.parts.returns import gae, successor_values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PPOState:
    """Parameters and optimiser state; the network itself is static."""

    params: PyTree
    opt_state: PyTree
    env_steps: jax.Array
    network: ActorCritic = dataclasses.field(metadata={"static": True})


class Extras(NamedTuple):
    """What acting leaves for learning: `log_prob` `[N]`, `value` `[N, value_heads]`."""

    log_prob: jax.Array
    value: jax.Array


class Samples(NamedTuple):
    """What the loss is computed from, leaves `[B, ...]`; `target` is `[B, value_heads]`."""

    obs: PyTree
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    target: jax.Array


@register_agent("ppo")
@final
@component
class PPO:
    """Clipped-surrogate actor-critic on the sum of extrinsic and intrinsic reward.

    Maximises E[min(rho A, clip(rho, 1-eps, 1+eps) A)] + entropy bonus - value loss, with advantages
    normalised per minibatch and a time limit bootstrapped from the true successor.

    With `value_heads=2` the intrinsic stream has a value head, a discount and a horizon of its own:
    A = extrinsic_coefficient A_ext + A_int, as in RND. Its size comes from the bonus.

    Attributes:
        discount, trace: gamma and lambda of generalised advantage estimation.
        value_heads: 1 (sum of the rewards) or 2.
        intrinsic_discount, intrinsic_episodic: of the second head.
        extrinsic_coefficient: weight of the extrinsic reward (one head) or advantage (two heads).
        max_grad_norm: global-norm clip; 0 for none.
        anneal_steps: env steps over which the learning rate falls linearly to 0; 0: it is constant.
        torso: "mlp", "cnn", or "auto" by the shape of the observation.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        deterministic: act with the most likely action.

    Reference: Schulman et al. (2017), arXiv:1707.06347; two heads: Burda et al. (2019),
    arXiv:1810.12894.
    Deviations from the paper: value clipping is off by default. With a non-episodic intrinsic head
    the last step of a rollout bootstraps from its true successor even if the episode ended there.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    entropy_coefficient: float = 0.005
    value_coefficient: float = 0.5
    max_grad_norm: float = 0.5
    adam_epsilon: float = 1e-5
    num_epochs: int = 4
    num_minibatches: int = 8
    clip_value: bool = False
    anneal_steps: int = 0
    value_heads: int = 1
    intrinsic_discount: float = 0.99
    intrinsic_episodic: bool = False
    extrinsic_coefficient: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.value_heads not in (1, 2):
            raise ConfigError(f"ppo: value_heads is {self.value_heads}: it must be 1 or 2")
        for name in ("num_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ppo: {name} is {getattr(self, name)}: it must be at least 1")

    def init(self, key: Key, spec: RunSpec) -> PPOState:
        if not isinstance(spec.env.action, Discrete):
            raise ConfigError(
                f"ppo acts in discrete action spaces; {spec.env.name} has {spec.env.action}:"
                " choose an environment with discrete actions, or the 'random' agent"
            )
        check_minibatches("ppo", spec.num_envs, self.num_minibatches)
        resolve_torso(self.torso, spec.env.observation)
        network = ActorCritic(
            space=spec.env.observation,
            num_actions=spec.env.action.num,
            value_heads=self.value_heads,
            torso=self.torso,
            symbols=self.symbols,
            hidden_sizes=self.hidden_sizes,
            activation=self.activation,
        )
        key_params, key_obs = jax.random.split(key)
        obs = jax.tree.map(lambda x: x[None], spec.env.observation.sample(key_obs))
        params = network.init(key_params, obs)
        return PPOState(params, self._optimizer(0).init(params), jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: PPOState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, Extras]:
        logits, value = self._outputs(state.network, state.params, obs)
        policy: Any = distrax.Categorical(logits=logits)
        action = policy.mode() if self.deterministic else policy.sample(seed=key)
        return carry, action.astype(jnp.int32), Extras(policy.log_prob(action), value)

    def update(
        self, key: Key, state: PPOState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PPOState, Metrics]:
        advantage, target = self._advantages(state, traj, r_int)
        num_steps, num_envs = traj.reward.shape
        kept: Extras = traj.extras
        samples = Samples(traj.obs, traj.action, kept.log_prob, kept.value, target)
        flat = (samples, advantage)
        flat = jax.tree.map(lambda x: x.reshape(num_steps * num_envs, *x.shape[2:]), flat)
        samples, advantage = flat
        optimizer = self._optimizer(state.env_steps)

        def loss(params: PyTree, rows: tuple[Samples, jax.Array]) -> tuple[jax.Array, Metrics]:
            return self._loss(params, state.network, *rows)

        def minibatch(
            learned: tuple[PyTree, PyTree], index: jax.Array
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            params, opt_state = learned
            scaled = advantage[index]
            scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-8)
            gradient, metrics = mean_gradient(
                loss, params, samples, index, scaled, cpu_rows=state.network.cpu_rows
            )
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), metrics

        def epoch(
            learned: tuple[PyTree, PyTree], key: Key
        ) -> tuple[tuple[PyTree, PyTree], Metrics]:
            order = shuffled_index(key, num_steps, num_envs)
            return jax.lax.scan(minibatch, learned, order.reshape(self.num_minibatches, -1))

        keys = jax.random.split(key, self.num_epochs)
        (params, opt_state), metrics = jax.lax.scan(epoch, (state.params, state.opt_state), keys)
        steps = state.env_steps + num_steps * num_envs
        state = dataclasses.replace(state, params=params, opt_state=opt_state, env_steps=steps)
        return state, jax.tree.map(jnp.mean, metrics)

    def greedy(self) -> PPO:
        return replace(self, deterministic=True)

    @staticmethod
    def _outputs(network: ActorCritic, params: PyTree, obs: PyTree) -> tuple[jax.Array, jax.Array]:
        outputs: Any = network.apply(params, obs)
        return outputs[0], outputs[1]

    def _optimizer(self, env_steps: jax.Array | int) -> optax.GradientTransformation:
        rate: Any = self.learning_rate
        if self.anneal_steps:
            rate = rate * jnp.maximum(0.0, 1.0 - env_steps / self.anneal_steps)
        adam = optax.adam(rate, eps=self.adam_epsilon)
        if isinstance(self.max_grad_norm, float) and self.max_grad_norm == 0.0:
            return adam
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adam)

    def _advantages(
        self, state: PPOState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Advantages `[T, N]` and value targets `[T, N, value_heads]`."""
        value = traj.extras.value
        ends = (traj.terminated, traj.truncated)
        successor = self._successor_values(state, traj, value)
        if self.value_heads == 1:
            reward = self.extrinsic_coefficient * traj.reward + r_int
            advantage = gae(
                reward, value[..., 0], successor[..., 0], *ends,
                discount=self.discount, trace=self.trace,
            )  # fmt: skip
            return advantage, advantage[..., None] + value
        extrinsic = gae(
            traj.reward, value[..., 0], successor[..., 0], *ends,
            discount=self.discount, trace=self.trace,
        )  # fmt: skip
        seen_next = successor[..., 1]
        if not self.intrinsic_episodic:
            # The stream goes on: what follows an episode's end is the next episode's start.
            seen_next = jnp.concatenate([value[1:, :, 1], successor[-1:, :, 1]])
        intrinsic = gae(
            r_int, value[..., 1], seen_next, *ends,
            discount=self.intrinsic_discount, trace=self.trace, episodic=self.intrinsic_episodic,
        )  # fmt: skip
        target = jnp.stack([extrinsic, intrinsic], axis=-1) + value
        return self.extrinsic_coefficient * extrinsic + intrinsic, target

    def _successor_values(self, state: PPOState, traj: Trajectory, value: jax.Array) -> jax.Array:
        def evaluate(obs: PyTree) -> jax.Array:
            values: Any = state.network.apply(state.params, obs, method="value")
            return values

        return successor_values(evaluate, value, traj.next_obs, traj.truncated)

    def _loss(
        self, params: PyTree, network: ActorCritic, batch: Samples, advantage: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        logits, value = self._outputs(network, params, batch.obs)
        policy = distrax.Categorical(logits=logits)
        log_ratio = policy.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        policy_loss = -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))
        error = jnp.square(value - batch.target)
        if self.clip_value:
            near = batch.value + jnp.clip(value - batch.value, -self.clip, self.clip)
            error = jnp.maximum(error, jnp.square(near - batch.target))
        value_loss = 0.5 * jnp.mean(jnp.sum(error, axis=-1))
        entropy = jnp.mean(policy.entropy())
        loss = (
            policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
        )
        metrics = {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
            "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > self.clip),
        }
        return loss, metrics
