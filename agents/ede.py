"""EDE: an ensemble of return distributions, which acts on what it does not know as well."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Activation, Symbols, Torso, init_params
from xplore.agents.q_networks import QNetwork, init_heads, make_q_network, of_heads
from xplore.contracts.component import component, later, replace
from xplore.contracts.errors import check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.exploration import ladder
from xplore.parts.fitting import clipped
from xplore.parts.quantiles import (
    Acting,
    beliefs,
    check_acting,
    quantile_loss,
    scores,
    take_quantiles,
)
from xplore.parts.replay import (
    Learned,
    Replay,
    Transition,
    check_replay,
    descend,
    n_step_transitions,
    unlearned,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EDEState:
    """What K heads learned, and from what; the network itself is static.

    Leaves of `learned` and of `prior_params` are `[K, ...]`, but where heads share an encoder;
    `prior_params` never change, and are `()` without priors.
    """

    learned: Learned
    prior_params: PyTree
    replay: PyTree
    env_steps: jax.Array
    network: QNetwork = dataclasses.field(metadata={"static": True})


@register_agent("ede")
@final
@component
class EDE:
    """argmax_a mean(s, a) + phi_i sigma(s, a), sigma the epistemic deviation, phi_i of env i.

    K heads learn M quantiles of the return each. sigma^2 is the variance over heads, averaged over
    quantiles, which does not pay for randomness of the environment.
    phi_i = ucb_coefficient ucb_base^(1 + ucb_power i / (N - 1)): some envs explore, some exploit.

    Heads of a network learn to agree wherever nothing but a reward of 0 has been met, and what they
    have not met looks alike. With `prior_scale`, head k adds prior_scale p_k(s, a) to its
    quantiles, where p_k is a random function that is never learned, in its targets as well: heads
    agree only about what they have learned, and what lies ahead is as uncertain as its end.

    Attributes:
        discount: gamma.
        n_step: rewards that are summed before a value is used.
        num_heads, num_quantiles: K and M.
        share_encoder: heads are the last layers of one network, and learn from the same rows; else
            each is a network, and learns from rows of its own. A third of the cost.
        ucb_coefficient, ucb_base, ucb_power: see above.
        acting: "ucb", as above, "thompson" or "ids"; what they are is said in
            `xplore.parts.quantiles`.
        prior_scale: 0 for none: the method as published. Where heads share an encoder, so do the
            random functions.
        batch_size: rows of a gradient step, of each head (of all where they share an encoder).
        replay_size: transitions that are kept, in the dtype of the observations, for each seed.
        warmup_steps: transitions that are stored before the first gradient step.
        updates_per_rollout: gradient steps after each rollout.
        target_period: gradient steps between two copies of the network to its older self.
        max_grad_norm: global-norm clip; 0 for none.
        intrinsic_weight: of the intrinsic reward, which is added to the reward and stored with it.
        torso: "mlp", "cnn", "impala", "auto" by the shape of the observation, or a flax module.
        symbols: how grid symbols enter: "one_hot", "embed" or "scaled".
        layer_norm: normalise what each layer gives.
        deterministic: act on the mean alone.

    Reference: Jiang et al. (2023), On the importance of exploration for generalization in
    reinforcement learning, arXiv:2306.05483; priors: Osband et al. (2018), arXiv:1806.03335.
    Deviations from the paper, whose heads have one encoder, which one of them trains at a time, and
    rows of their own: heads are whole networks, or share the rows and all train the encoder; fewer
    quantiles; layer normalisation; sizes for small networks. Priors are not in it.
    """

    learning_rate: float = 5e-4
    discount: float = 0.99
    n_step: int = 3
    num_heads: int = 5
    num_quantiles: int = 16
    share_encoder: bool = False
    ucb_coefficient: float = 30.0
    ucb_base: float = 0.6
    ucb_power: float = 7.0
    acting: Acting = "ucb"
    prior_scale: float = later(default=0.0, static=True)
    batch_size: int = 64
    replay_size: int = 32_768
    warmup_steps: int = 1_000
    updates_per_rollout: int = 64
    target_period: int = 32
    max_grad_norm: float = 10.0
    intrinsic_weight: float = 1.0
    torso: Torso = "auto"
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_acting("ede", self.acting)
        check_least(
            "ede",
            self,
            num_heads=2,
            num_quantiles=2,
            n_step=1,
            updates_per_rollout=1,
            target_period=1,
        )

    def init(self, key: Key, spec: RunSpec) -> EDEState:
        of_all = self.num_heads if self.share_encoder else 1
        network = make_q_network("ede", self, spec.env, num_numbers=of_all * self.num_quantiles)
        check_replay("ede", self._replay, spec)

        def drawn(network: QNetwork, key: Key) -> PyTree:
            if self.share_encoder:
                return init_params(network, key, spec.env.observation)
            return init_heads(network, self.num_heads, key, spec.env.observation)

        learned = unlearned(drawn(network, key), self._optimizer())
        prior_params: PyTree = ()
        if self.prior_scale:  # from a stream that no head is drawn from
            prior_params = drawn(self._prior(network), jax.random.fold_in(key, self.num_heads))
        replay = self._replay.init(spec.env)
        return EDEState(learned, prior_params, replay, jnp.int32(0), network)

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: EDEState, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        quantiles = self._quantiles(state, state.learned.params, obs)
        believed = beliefs(quantiles)
        score = believed.mean
        if not self.deterministic:
            phi = self.ucb_coefficient * ladder(self.ucb_base, self.ucb_power, first.shape[0])
            score = scores(key, self.acting, believed, phi)
        return carry, jnp.argmax(score, axis=-1).astype(jnp.int32), ()

    def update(
        self, key: Key, state: EDEState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[EDEState, Metrics]:
        reward = traj.reward + self.intrinsic_weight * r_int
        rows = n_step_transitions(traj, reward, num_steps=self.n_step, discount=self.discount)
        replay = self._replay.add(state.replay, rows)

        def step(learned: Learned, batch: Transition, key: Key) -> tuple[Learned, Metrics]:
            return self._step(state, learned, batch)

        learned, metrics = self._replay.learn(
            key, replay, state.learned, step, self.updates_per_rollout
        )
        steps = state.env_steps + reward.size
        return dataclasses.replace(state, learned=learned, replay=replay, env_steps=steps), metrics

    def greedy(self) -> EDE:
        return replace(self, deterministic=True)

    @property
    def _replay(self) -> Replay:
        return Replay(self.replay_size, self._sets * self.batch_size, self.warmup_steps)

    @property
    def _sets(self) -> int:
        """Sets of rows in a batch: every head has its own, or all have the same."""
        return 1 if self.share_encoder else self.num_heads

    def _optimizer(self) -> optax.GradientTransformation:
        return clipped(optax.adam(self.learning_rate), self.max_grad_norm)

    def _step(
        self, state: EDEState, learned: Learned, batch: Transition
    ) -> tuple[Learned, Metrics]:
        """One gradient step of all heads; the loss is a sum over them: each is for itself."""
        shape = (self._sets, self.batch_size)
        batch = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), batch)
        older = self._quantiles(state, learned.target_params, batch.next_obs, sets=True)
        best = jnp.argmax(jnp.mean(older, axis=-1), axis=-1)
        target = batch.reward[..., None] + batch.discount[..., None] * take_quantiles(older, best)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            quantiles = self._quantiles(state, params, batch.obs, sets=True)
            done = take_quantiles(quantiles, batch.action)
            total = jnp.sum(jnp.mean(quantile_loss(done, target), axis=1))
            return total, {"loss": total / self.num_heads, "value": jnp.mean(done)}

        gradient, metrics = jax.grad(loss, has_aux=True)(learned.params)
        return descend(learned, gradient, self._optimizer(), self.target_period), metrics

    def _prior(self, network: QNetwork) -> QNetwork:
        """The network of the random functions, which have a number for each action."""
        return network.clone(num_numbers=self.num_heads if self.share_encoder else 1)

    def _quantiles(
        self, state: EDEState, params: PyTree, obs: PyTree, *, sets: bool = False
    ) -> jax.Array:
        """What all heads say, `[K, B, A, M]`, of `[B, ...]`, or with `sets` of `[sets, B, ...]`."""
        if self.share_encoder and sets:
            obs, sets = jax.tree.map(lambda x: x[0], obs), False

        def said(network: QNetwork, params: PyTree, num_numbers: int) -> jax.Array:
            if not self.share_encoder:
                of_each = of_heads(network, params, obs, sets=sets)
                return of_each.reshape(*of_each.shape[:3], num_numbers)
            together: Any = network.apply(params, obs)
            shape = (*together.shape[:-1], self.num_heads, num_numbers)
            return jnp.moveaxis(together.reshape(shape), -2, 0)

        quantiles = said(state.network, params, self.num_quantiles)
        if not self.prior_scale:
            return quantiles
        prior = said(self._prior(state.network), state.prior_params, 1)
        return quantiles + self.prior_scale * jnp.broadcast_to(prior, quantiles.shape)
