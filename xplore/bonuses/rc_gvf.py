"""Random curiosity: what cannot yet be foreseen of many made-up rewards, at once and later on."""

from __future__ import annotations

from typing import Literal, NamedTuple, final, get_args

import jax
import jax.numpy as jnp

from xplore.bonuses.combinators import Normalise, Scale
from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_bonus
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.blocks import map_before, map_time
from xplore.parts.fitting import Fitted, fit, flatten_rollout, init_fitted
from xplore.parts.history import summarise
from xplore.parts.inputs import InputState, init_inputs, inputs_of, num_inputs, observe_inputs
from xplore.parts.normalisers import NormaliserKind
from xplore.parts.predictors import MLP, Inputs, apply_ensemble, init_ensemble

Weight = Literal["variance", "std", "none"]
WEIGHTS: tuple[Weight, ...] = get_args(Weight)


class RCGVFState(NamedTuple):
    """What is seen, asked and foreseen.

    Attributes:
        inputs: how observations are seen.
        network: parameters of two fixed networks: what the heads see of an observation, and the
            random rewards it pays.
        heads: parameters that learn to foresee those, leaves `[num_heads, ...]`.
        began, summary: `[N, D]`, of the episode up to where the rollout that was scored last began
            and ended.
    """

    inputs: InputState
    network: PyTree
    heads: Fitted
    began: jax.Array
    summary: jax.Array


class Rollout(NamedTuple):
    """What matters of a rollout, `[T, N]`: what it pays, what the heads see, where it ends."""

    seen: jax.Array
    rewards: jax.Array
    terminated: jax.Array
    follows: jax.Array


@final
@component
class RCGVF:
    """`r = sum_j mean_k (v_kj - G_kj)^2 * Var_k v_kj` at o', over rewards j and heads k.

    A fixed random network pays P rewards z(o) for every observation. Heads v_k see an embedding of
    o' and a summary of its episode, `h <- keep h + (1 - keep) phi`, and learn the discounted future

        G_t = z(o_t) + discount ((1 - trace) v_(t+1) + trace G_(t+1)),

    which is z(o_t) alone where the episode terminated. Where the successor is not known, at a time
    limit and at the end of a rollout, `v_t` stands in for what follows; from those steps nothing is
    learned. With `discount=0` and `weight="none"` it is random network distillation.

    Heads learn from `update_fraction` of the envs, drawn anew each rollout.
    """

    num_rewards: int = 16
    num_heads: int = 2
    discount: float = 0.6
    trace: float = 0.95
    weight: Weight = "variance"
    keep: float = 0.9
    hidden_size: int = 64
    embedding_size: int = 32
    learning_rate: float = 1e-3
    update_fraction: float = static(default=0.25)
    num_minibatches: int = 8
    inputs: Inputs = "codes"

    def __post_init__(self) -> None:
        if self.weight not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise ConfigError(f"rc_gvf(weight={self.weight!r}): must be one of {known}")
        if not 0 < self.update_fraction <= 1:
            raise ConfigError(f"rc_gvf(update_fraction={self.update_fraction}): must be in (0, 1]")
        least = {"num_heads": 1 if self.weight == "none" else 2}
        for name in (
            "num_heads",
            "num_rewards",
            "hidden_size",
            "embedding_size",
            "num_minibatches",
        ):
            if getattr(self, name) < least.get(name, 1):
                value, low = getattr(self, name), least.get(name, 1)
                raise ConfigError(f"rc_gvf({name}={value}): must be at least {low}")
        for name in ("discount", "trace", "keep"):
            value = getattr(self, name)
            if isinstance(value, float) and not 0 <= value < 1:
                raise ConfigError(f"rc_gvf({name}={value}): must be in [0, 1)")

    def reads(self) -> tuple[str, ...]:
        return ()

    def init(self, key: Key, spec: RunSpec) -> RCGVFState:
        key_inputs, key_encoder, key_rewards, key_heads = jax.random.split(key, 4)
        inputs = init_inputs(key_inputs, spec.env.observation, self.inputs)
        example = jnp.zeros(num_inputs(inputs))
        network = (
            self._encoder().init(key_encoder, example),
            self._payer().init(key_rewards, example),
        )
        heads = init_ensemble(self._head(), key_heads, 2 * self.embedding_size, self.num_heads)
        summary = jnp.zeros((spec.num_envs, self.embedding_size))
        heads_fitted = init_fitted(heads, self.learning_rate)
        return RCGVFState(inputs, network, heads_fitted, summary, summary)

    def reward(self, state: RCGVFState, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        state = state._replace(inputs=observe_inputs(state.inputs, traj.next_obs))
        summary, rollout = self._look(state, traj, state.summary)
        values = apply_ensemble(self._head(), state.heads.params, rollout.seen)
        error = jnp.mean(jnp.square(values - self._futures(values, rollout)), axis=0)
        if self.weight != "none":
            spread = jnp.var(values, axis=0, ddof=1)
            error = error * (spread if self.weight == "variance" else jnp.sqrt(spread))
        state = state._replace(began=state.summary, summary=summary)
        return state, jnp.sum(error, axis=-1)

    def update(self, key: Key, state: RCGVFState, traj: Trajectory) -> tuple[PyTree, Metrics]:
        key_envs, key_fit = jax.random.split(key)
        num_envs = traj.reward.shape[1]
        num = max(1, round(num_envs * self.update_fraction))
        envs = (jax.random.randint(key_envs, (), 0, num_envs) + jnp.arange(num)) % num_envs
        some: Trajectory = jax.tree.map(lambda x: x[:, envs], traj._replace(carry=()))
        _, rollout = self._look(state, some, state.began[envs])
        values = apply_ensemble(self._head(), state.heads.params, rollout.seen)
        futures = jnp.moveaxis(self._futures(values, rollout), 0, 2)
        known = (rollout.follows | rollout.terminated).astype(jnp.float32)

        def loss(heads: PyTree, rows: PyTree, key: Key) -> tuple[jax.Array, Metrics]:
            seen, future, known = rows
            miss = apply_ensemble(self._head(), heads, seen) - jnp.moveaxis(future, 1, 0)
            errors = jnp.mean(jnp.square(miss), axis=-1)
            error = jnp.sum(errors * known[None], axis=1) / jnp.maximum(jnp.sum(known), 1.0)
            return jnp.sum(error), {"value_loss": jnp.mean(error)}

        heads, metrics = fit(
            key_fit,
            state.heads,
            loss,
            flatten_rollout((rollout.seen, futures, known)),
            learning_rate=self.learning_rate,
            fraction=1.0,
            num_minibatches=self.num_minibatches,
        )
        return state._replace(heads=heads), metrics

    def _look(
        self, state: RCGVFState, traj: Trajectory, began: jax.Array
    ) -> tuple[jax.Array, Rollout]:
        size = self.embedding_size

        def look(obs: PyTree) -> jax.Array:
            x = inputs_of(state.inputs, obs)
            models = (self._encoder(), self._payer())
            said = [m.apply(p, x) for m, p in zip(models, state.network, strict=True)]
            return jnp.concatenate(said, axis=-1)  # type: ignore[arg-type]

        numbers = num_inputs(state.inputs) + 2 * self.hidden_size
        after = map_time(look, traj.next_obs, numbers)
        phi, rewards = after[..., :size], after[..., size:]
        before = map_before(look, traj.obs, traj.first, after)[..., :size]
        summary, _, history = summarise(began, before, phi, traj.first, self.keep)
        goes_on = ~(traj.terminated | traj.truncated)
        begins_next = jnp.concatenate([traj.first[1:], jnp.ones_like(traj.first[:1])])
        seen = jnp.concatenate([phi, history], axis=-1)
        return summary, Rollout(seen, rewards, traj.terminated, goes_on & ~begins_next)

    def _futures(self, values: jax.Array, rollout: Rollout) -> jax.Array:
        """The G of every head, `[K, T, N, P]`, by its own values."""

        def step(
            later: tuple[jax.Array, jax.Array], x: tuple[jax.Array, ...]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            value_next, future_next = later
            value, rewards, terminated, follows = x
            known = (1 - self.trace) * value_next + self.trace * future_next
            follow = jnp.where(follows[None, :, None], known, value)
            follow = jnp.where(terminated[None, :, None], 0.0, follow)
            future = rewards[None] + self.discount * follow
            return (value, future), future

        by_time = jnp.moveaxis(values, 1, 0)
        blank = jnp.zeros_like(by_time[0])
        x = (by_time, rollout.rewards, rollout.terminated, rollout.follows)
        _, futures = jax.lax.scan(step, (blank, blank), x, reverse=True)
        return jnp.moveaxis(futures, 0, 1)

    def _encoder(self) -> MLP:
        return MLP((self.hidden_size, self.embedding_size))

    def _payer(self) -> MLP:
        return MLP((self.hidden_size, self.num_rewards))

    def _head(self) -> MLP:
        return MLP((self.hidden_size, self.num_rewards))


@register_bonus("rc_gvf")
def rc_gvf(
    coefficient: float = 0.5,
    num_rewards: int = 16,
    num_heads: int = 2,
    pseudo_discount: float = 0.6,
    trace: float = 0.95,
    weight: Weight = "variance",
    keep: float = 0.9,
    normaliser: NormaliserKind = "return_std",
    discount: float = 0.99,
    learning_rate: float = 1e-3,
    hidden_size: int = 64,
    embedding_size: int = 32,
    update_fraction: float = 0.25,
    num_minibatches: int = 8,
    inputs: Inputs = "codes",
) -> Scale:
    """Random curiosity with general value functions, divided by the std of its return.

    Args:
        coefficient: of the normalised bonus.
        num_rewards: P, random rewards.
        num_heads: K, predictors of their discounted future.
        pseudo_discount: of that future; 0: the rewards of the observation itself.
        trace: lambda of the returns that are learned.
        weight: of errors: `variance` or `std` of the heads' predictions, or `none`.
        keep: how much of a summary of the episode is kept each step.
        normaliser: `none`, `std`, `return_std`, `zscore_ema` or `minmax`.
        discount: of the return whose std `return_std` divides by.
        learning_rate: of Adam.
        hidden_size: width of all networks.
        embedding_size: of what the heads see of an observation, and of the summary.
        update_fraction: part of the envs that is learned from.
        num_minibatches: gradient steps per rollout.
        inputs: symbols as fixed random `codes`, `one_hot` or `scaled` numbers.

    Reference: Ramesh et al. (2022), Exploring through random curiosity with general value
    functions, arXiv:2211.10282.

    Deviations from the paper: heads see a moving average of random embeddings, not the state of a
    recurrent network that is learned; how error and disagreement are multiplied is our reading,
    `docs/decisions/0009-how-rc-gvf-weighs-errors.md`; the bonus is divided by the std of its
    return; MLPs of 64.
    """
    core = RCGVF(
        num_rewards=num_rewards,
        num_heads=num_heads,
        discount=pseudo_discount,
        trace=trace,
        weight=weight,
        keep=keep,
        hidden_size=hidden_size,
        embedding_size=embedding_size,
        learning_rate=learning_rate,
        update_fraction=update_fraction,
        num_minibatches=num_minibatches,
        inputs=inputs,
    )
    return Scale(Normalise(core, normaliser, discount), coefficient)
