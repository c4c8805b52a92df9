"""Plans in a learned model to go where several such models disagree."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.agents.networks import Symbols
from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.registry import register_agent
from xplore.contracts.spaces import Discrete, Space
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.observations import features, num_features
from xplore.parts.predictors import MLP, apply_ensemble, init_ensemble
from xplore.parts.replay import (
    Learned,
    Replay,
    Transition,
    check_replay,
    descend,
    n_step_transitions,
    unlearned,
)
from xplore.parts.returns import take_values
from xplore.parts.starts import mean_at_starts


class Minds(NamedTuple):
    """What gradient steps move: the models, leaves `[K, ...]`, and the values."""

    models: Learned
    values: Learned


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PlanState:
    """What was learned, and from what.

    Attributes:
        minds: learned from `replay`.
        model_steps: float32 `[]`, steps that were imagined.
        start_value: float32 `[]`, what exploring is worth from the start of an episode.
    """

    minds: Minds
    replay: PyTree
    model_steps: jax.Array
    start_value: jax.Array
    space: Space = dataclasses.field(metadata={"static": True})
    num_actions: int = dataclasses.field(metadata={"static": True})


class _Imagined(NamedTuple):
    """Steps in imagination: `x` `[H, B, D]`, `action` `[H, B]`, `reward` `[H, B, 2]` (for
    exploring, of the task), `alive` `[H, B]`, the probability of going on after the step.
    """

    x: jax.Array
    action: jax.Array
    reward: jax.Array
    alive: jax.Array


@register_agent("plan2explore")
@final
@component
class Plan2Explore:
    """K models f_k(x, a) of the features x of what is seen next; acts to where they disagree.

    Each model is fitted to steps of its own, drawn from a replay, and says what comes next, what it
    earns and whether the episode ends there. From replayed observations H steps are imagined, each
    start by one of the models, and two values are learned from them, each with its own maximum: of
    the models' disagreement sum_j Var_k f_k(x, a)_j, which is known without a real step, and of the
    reward of the task. It acts by Q_explore + task_weight Q_task, `greedy()` by Q_task alone.

    A model has weights of its own for each action: what one was seen to do says nothing of others.

    Attributes:
        num_models: K.
        horizon_steps: H.
        task_weight: of the task while exploring; 0: it explores for nothing else.
        disagreement_weight: of the disagreement in the first value.
        discount: gamma.
        trace: lambda; an imagined return goes on until an action that is not the best by its value.
        imagined_epsilon: probability of a uniform action in imagination.
        epsilon: probability of a uniform real action.
        intrinsic_weight: of the intrinsic reward, which is added to the task's.
        batch_size: steps for each model in a gradient step, and imagined starts.
        replay_size: transitions that are kept.
        updates_per_rollout: gradient steps of models and values after each rollout.
        target_period: gradient steps between two copies of the values to their older self.
        symbols: how grid symbols become features: "one_hot" or "scaled".
        hidden_sizes: of the values; the models have one layer of the first size.
        deterministic: act for the task, without noise.

    Reference: Sekar et al. (2020), Planning to explore via self-supervised world models,
    arXiv:2005.05960; the disagreement: Pathak, Gandhi and Gupta (2019), arXiv:1906.04161.
    Deviations from the paper: features of one observation are the state, there is no recurrent
    latent; values of discrete actions in place of an actor; one of the models steps, drawn for each
    start.
    """

    traits: ClassVar[tuple[str, ...]] = ("model",)

    learning_rate: float = 1e-3
    model_learning_rate: float = 1e-3
    discount: float = 0.99
    num_models: int = 5
    horizon_steps: int = 5
    task_weight: float = 1.0
    disagreement_weight: float = 1.0
    trace: float = 0.8
    imagined_epsilon: float = 0.2
    epsilon: float = 0.0
    intrinsic_weight: float = 1.0
    batch_size: int = 64
    replay_size: int = 16_384
    updates_per_rollout: int = 32
    target_period: int = 8
    symbols: Symbols = "scaled"
    hidden_sizes: tuple[int, ...] = (64, 64)
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_least(
            "plan2explore",
            self,
            horizon_steps=1,
            updates_per_rollout=1,
            target_period=1,
            batch_size=1,
        )
        if self.num_models < 2:
            raise ConfigError(f"plan2explore: num_models is {self.num_models}: two can disagree")
        if self.symbols == "embed":
            raise ConfigError("plan2explore: symbols is 'embed': use 'one_hot' or 'scaled'")

    def init(self, key: Key, spec: RunSpec) -> PlanState:
        action, space = spec.env.action, spec.env.observation
        if not isinstance(action, Discrete):
            raise ConfigError(
                f"plan2explore has a value for each action; {spec.env.name} has {action}: choose an"
                " environment with discrete actions"
            )
        check_replay("plan2explore", self._replay, spec)
        size = num_features(space, self._symbols)
        key_models, key_values = jax.random.split(key)
        models = init_ensemble(
            self._model(size), key_models, (size + 1) * action.num, self.num_models
        )
        values = self._value(action.num).init(key_values, jnp.zeros(size))
        minds = Minds(unlearned(models, self._fit_models()), unlearned(values, self._fit_values()))
        replay = self._replay.init(spec.env)
        return PlanState(minds, replay, jnp.float32(0), jnp.float32(0), space, action.num)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def act(
        self, key: Key, state: PlanState, carry: tuple[()], obs: PyTree, first: jax.Array
    ) -> tuple[tuple[()], jax.Array, tuple[()]]:
        x = features(state.space, obs, self._symbols)
        q = self._values(state.num_actions, state.minds.values.params, x)
        if self.deterministic:
            return (), jnp.argmax(q[..., 1], axis=-1).astype(jnp.int32), ()
        return (), self._explore(key, q, self.epsilon), ()

    def update(
        self, key: Key, state: PlanState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PlanState, Metrics]:
        reward = traj.reward + self.intrinsic_weight * r_int
        rows = n_step_transitions(traj, reward, num_steps=1, discount=1.0)
        replay = self._replay.add(state.replay, rows)
        start_value = self._start_value(state, traj)

        def step(minds: Minds, batch: Transition, key: Key) -> tuple[Minds, Metrics]:
            x, after = (
                features(state.space, obs, self._symbols) for obs in (batch.obs, batch.next_obs)
            )
            models, metrics = self._learn_models(state.num_actions, minds.models, batch, x, after)
            start = x[: self.batch_size]
            imagined = self._imagine(key, state.num_actions, models.params, minds.values, start)
            values, more = self._learn_values(
                state.num_actions, minds.values, imagined, start_value
            )
            return Minds(models, values), metrics | more

        minds, metrics = self._replay.learn(
            key, replay, state.minds, step, self.updates_per_rollout
        )
        made = self.updates_per_rollout * self.batch_size * self.horizon_steps
        imagined = state.model_steps + made
        metrics["model_steps"] = imagined
        state = dataclasses.replace(
            state, minds=minds, replay=replay, model_steps=imagined, start_value=start_value
        )
        return state, metrics

    def greedy(self) -> Plan2Explore:
        return replace(self, deterministic=True)

    @property
    def _symbols(self) -> Any:
        return self.symbols

    @property
    def _replay(self) -> Replay:
        """Each model gets rows of its own."""
        return Replay(self.replay_size, self.batch_size * self.num_models, 1)

    def _model(self, size: int) -> MLP:
        """Says the features that follow, the reward, and the logit of an end."""
        return MLP((self.hidden_sizes[0], size + 2))

    def _value(self, num_actions: int) -> MLP:
        return MLP((*self.hidden_sizes, num_actions * 2))

    def _fit_models(self) -> optax.GradientTransformation:
        return optax.adam(self.model_learning_rate)

    def _fit_values(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _values(self, num_actions: int, params: PyTree, x: jax.Array) -> jax.Array:
        """Both values of each action, `[..., A, 2]`."""
        q: Any = self._value(num_actions).apply(params, x)
        return q.reshape(*x.shape[:-1], num_actions, 2)

    def _explore(self, key: Key, q: jax.Array, epsilon: float | jax.Array) -> jax.Array:
        """Actions by what is acted for, but some uniform."""
        key_explore, key_uniform = jax.random.split(key)
        best = jnp.argmax(q[..., 0] + self.task_weight * q[..., 1], axis=-1).astype(jnp.int32)
        uniform = jax.random.randint(key_uniform, best.shape, 0, q.shape[-2], jnp.int32)
        return jnp.where(jax.random.bernoulli(key_explore, epsilon, best.shape), uniform, best)

    def _said(
        self, num_actions: int, params: PyTree, x: jax.Array, action: jax.Array, *, own: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What the models say of `(x, action)`: features `[K, ..., D]`, reward, logit of an end."""
        acted = jax.nn.one_hot(action, num_actions)
        # Where all features are 0, the 1 beside them still says which action it is.
        with_one = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        gated = (acted[..., :, None] * with_one[..., None, :]).reshape(*x.shape[:-1], -1)
        said = apply_ensemble(self._model(x.shape[-1]), params, gated, own=own)
        return said[..., :-2], said[..., -2], said[..., -1]

    def _learn_models(
        self, num_actions: int, models: Learned, batch: Transition, x: jax.Array, after: jax.Array
    ) -> tuple[Learned, Metrics]:
        def by_model(rows: jax.Array) -> jax.Array:
            return rows.reshape(self.num_models, self.batch_size, *rows.shape[1:])

        x, after, action, reward = map(by_model, (x, after, batch.action, batch.reward))
        ended = by_model(batch.discount == 0.0).astype(jnp.float32)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            seen, earned, end = self._said(num_actions, params, x, action, own=True)
            terms = {
                "forward_loss": jnp.sum(jnp.square(seen - after), axis=-1),
                "reward_loss": jnp.square(earned - reward),
                "end_loss": optax.sigmoid_binary_cross_entropy(end, ended),
            }
            # A sum over models: each is moved as if it were alone.
            total = sum((jnp.sum(jnp.mean(t, axis=1)) for t in terms.values()), jnp.float32(0))
            return total, {name: jnp.mean(t) for name, t in terms.items()}

        gradient, metrics = jax.grad(loss, has_aux=True)(models.params)
        return descend(models, gradient, self._fit_models(), 1), metrics

    def _imagine(
        self, key: Key, num_actions: int, models: PyTree, values: Learned, start: jax.Array
    ) -> tuple[_Imagined, jax.Array]:
        """H steps from `start` `[B, D]`, and where they lead."""
        key_model, key_act = jax.random.split(key)
        rows = jnp.arange(start.shape[0])
        mind = jax.random.randint(key_model, rows.shape, 0, self.num_models)

        def one(x: jax.Array, key: Key) -> tuple[jax.Array, _Imagined]:
            q = self._values(num_actions, values.params, x)
            action = self._explore(key, q, self.imagined_epsilon)
            seen, earned, end = self._said(num_actions, models, x, action, own=False)
            apart = jnp.sum(jnp.var(seen, axis=0), axis=-1)
            reward = jnp.stack(
                [self.disagreement_weight * apart, jnp.mean(earned, axis=0)], axis=-1
            )
            alive = 1.0 - jax.nn.sigmoid(jnp.mean(end, axis=0))
            return seen[mind, rows], _Imagined(x, action, reward, alive)

        last, steps = jax.lax.scan(one, start, jax.random.split(key_act, self.horizon_steps))
        return steps, last

    def _start_value(self, state: PlanState, traj: Trajectory) -> jax.Array:
        """What exploring is worth at the starts of a rollout, in the mean; float32 `[]`."""
        x = features(state.space, traj.obs, self._symbols)
        q = self._values(state.num_actions, state.minds.values.params, x)
        return mean_at_starts(jnp.max(q[..., 0], axis=-1), traj.first, state.start_value)

    def _targets(
        self,
        num_actions: int,
        params: PyTree,
        steps: _Imagined,
        last: jax.Array,
        start_value: jax.Array,
    ) -> jax.Array:
        """What both values are to be, `[H, B, 2]`, by those of `params`.

        After an end exploring goes on with an episode from the start: were it worth nothing, an
        agent would keep away from successes that end one.
        """
        reached = jnp.concatenate([steps.x, last[None]])
        older = self._values(num_actions, params, reached)  # [H + 1, B, A, 2]
        best = jnp.max(older, axis=-2)
        done = steps.action[..., None, None]
        is_best = jnp.take_along_axis(older[:-1], done, axis=-2)[..., 0, :] >= best[:-1]
        # The return goes on where the next action is the best one, by that value.
        follows = jnp.concatenate([is_best[1:], jnp.zeros_like(is_best[:1])])

        ended = jnp.stack([start_value, jnp.zeros_like(start_value)])[None]

        def back(total: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            reward, alive, after, follows = x
            mixed = jnp.where(follows, self.trace * total + (1.0 - self.trace) * after, after)
            alive = alive[..., None]
            total = reward + self.discount * (alive * mixed + (1.0 - alive) * ended)
            return total, total

        xs = (steps.reward, steps.alive, best[1:], follows)
        return jax.lax.scan(back, jnp.zeros_like(best[0]), xs, reverse=True)[1]

    def _learn_values(
        self,
        num_actions: int,
        values: Learned,
        imagined: tuple[_Imagined, jax.Array],
        start_value: jax.Array,
    ) -> tuple[Learned, Metrics]:
        steps, last = imagined
        target = self._targets(num_actions, values.target_params, steps, last, start_value)

        def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
            q = jnp.moveaxis(self._values(num_actions, params, steps.x), -1, 0)  # [2, H, B, A]
            q = q.reshape(2, -1, num_actions)
            error = take_values(q, steps.action.reshape(-1)) - target.reshape(-1, 2).T
            total = jnp.mean(jnp.sum(jnp.square(error), axis=0))
            return total, {
                "value_loss": total,
                "value": jnp.mean(q[1]),
                "disagreement": jnp.mean(steps.reward[0, :, 0]),
            }

        gradient, metrics = jax.grad(loss, has_aux=True)(values.params)
        return descend(values, gradient, self._fit_values(), self.target_period), metrics
