"""PAIRED: an adversary designs levels that one agent solves and another does not."""

from __future__ import annotations

from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import optax

from xplore.contracts.component import component
from xplore.contracts.errors import check_least
from xplore.contracts.registry import make_agent, register_world_sampler
from xplore.contracts.types import (
    Agent,
    Environment,
    Key,
    LevelBatch,
    Metrics,
    Mutable,
    PyTree,
    RunSpec,
    Trajectory,
)
from xplore.parts.level_scores import episode_returns
from xplore.parts.level_trials import trial_steps
from xplore.parts.levels import content_ids, fresh_ids, levels_from_ids
from xplore.parts.play import play
from xplore.parts.predictors import MLP

_DIGITS = 16  # whole numbers of a level enter as two digits to this base, one-hot each


class PairedState(NamedTuple):
    """The adversary and the antagonist.

    Attributes:
        params, opt_state: of the adversary's network and its optimiser.
        antagonist: the state of that agent.
        baseline: float32 `[]`, a running mean of the regret.
        designed: the last levels, `[M, ...]`, with their ids.
        metrics: of the last design.
    """

    params: PyTree
    opt_state: PyTree
    antagonist: PyTree
    baseline: jax.Array
    designed: LevelBatch
    metrics: Metrics


class _Designs(NamedTuple):
    """What the adversary chose from, leaves `[D, M, C, ...]` over D steps, and what, `[D, M]`."""

    inputs: jax.Array
    choice: jax.Array


@register_world_sampler("paired")
@final
@component
class PAIRED:
    """An adversary designs M levels before each rollout, for regret = max R_A - mean R_P.

    R_A are returns of an antagonist, which learns on these levels alone, R_P those of the agent
    that is trained (the protagonist), both on the designed levels. The adversary learns by
    REINFORCE with a running baseline. The protagonist's rollout is in the same levels.

    A design begins with a choice among `num_choices` fresh levels and goes on, in environments that
    have `mutate`, with `num_designs` - 1 choices among edits of what was chosen, by a softmax over
    scores that a network gives to whole levels; its reward is at the end.

    Attributes:
        antagonist: id of its agent.
        num_levels: M.
        num_designs, num_choices: see above.
        scoring_steps: of both agents in each level; 0: the longest that an episode can be.
        learning_rate, entropy_coefficient, baseline_rate: of the adversary.

    Reference: Dennis et al. (2020), Emergent complexity and zero-shot transfer via unsupervised
    environment design, arXiv:2012.02096.
    Deviations from the paper: the adversary chooses among proposals in place of placing every
    object, which works in any environment; REINFORCE in place of PPO; antagonist and protagonist
    are scored by episodes that are not the protagonist's rollout.
    """

    antagonist: str = "ppo"
    num_levels: int = 32
    num_designs: int = 8
    num_choices: int = 8
    scoring_steps: int = 0
    learning_rate: float = 1e-3
    entropy_coefficient: float = 0.01
    baseline_rate: float = 0.1

    def __post_init__(self) -> None:
        check_least("paired", self, num_levels=1, num_designs=1, num_choices=2)

    def init(self, key: Key, env: Environment) -> PairedState:
        steps = trial_steps("paired", env, self.scoring_steps, 1)
        key_net, key_agent, key_levels = jax.random.split(key, 3)
        designed = levels_from_ids(env, fresh_ids(key_levels, self.num_levels))
        params = _NETWORK.init(key_net, level_inputs(designed.levels)[0])
        spec = RunSpec(env.spec(), self.num_levels, steps)
        zero = jnp.float32(0)
        return PairedState(
            params,
            self._optimizer().init(params),
            self._antagonist().init(key_agent, spec),
            zero,
            designed,
            dict.fromkeys(_METRICS, zero),
        )

    def sample(
        self, key: Key, state: PairedState, env: Environment, num_levels: int
    ) -> tuple[PairedState, LevelBatch]:
        order = jax.random.permutation(key, jnp.arange(num_levels) % self.num_levels)
        return state, jax.tree.map(lambda x: x[order], state.designed)

    def sample_for(
        self,
        key: Key,
        state: PairedState,
        env: Environment,
        num_levels: int,
        agent: Agent,
        agent_state: PyTree,
    ) -> tuple[PairedState, LevelBatch]:
        key_design, key_one, key_other, key_learn, key_sample = jax.random.split(key, 5)
        batch, designs = self._design(key_design, state.params, env)
        steps = trial_steps("paired", env, self.scoring_steps, 1)
        mean, _ = _returns(play(key_one, env, agent, agent_state, batch, steps))
        rival = self._antagonist()
        traj = play(key_other, env, rival, state.antagonist, batch, steps)
        _, highest = _returns(traj)
        nothing = jnp.zeros_like(traj.reward)
        antagonist, _ = rival.update(key_learn, state.antagonist, traj, nothing)
        regret = highest - mean
        params, opt_state = self._learn(state, designs, regret - state.baseline)
        average = jnp.mean(regret)
        generated = designs.inputs.shape[0] * self.num_levels * self.num_choices
        told = (average, jnp.mean(highest), 2 * steps * self.num_levels, generated)
        state = PairedState(
            params,
            opt_state,
            antagonist,
            state.baseline + self.baseline_rate * (average - state.baseline),
            batch,
            {name: jnp.float32(x) for name, x in zip(_METRICS, told, strict=True)},
        )
        return self.sample(key_sample, state, env, num_levels)

    def update(
        self, state: PairedState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[PairedState, Metrics]:
        return state, state.metrics

    def _design(self, key: Key, params: PyTree, env: Environment) -> tuple[LevelBatch, _Designs]:
        keys = jax.random.split(key, 2 * self.num_designs)
        num = self.num_levels * self.num_choices
        shape = (self.num_levels, self.num_choices)
        proposed = levels_from_ids(env, fresh_ids(keys[0], num)).levels
        levels, taken = proposed, []
        for step in range(self.num_designs if isinstance(env, Mutable) else 1):
            if step and isinstance(env, Mutable):
                edits = jax.random.split(keys[2 * step], num)
                parents = jax.tree.map(lambda x: jnp.repeat(x, self.num_choices, axis=0), levels)
                proposed = jax.vmap(env.mutate)(edits, parents)
            inputs = level_inputs(proposed).reshape(*shape, -1)
            choice = jax.random.categorical(keys[2 * step + 1], _scores(params, inputs))
            index = jnp.arange(self.num_levels) * self.num_choices + choice
            levels = jax.tree.map(lambda x, i=index: x[i], proposed)
            taken.append(_Designs(inputs, choice))
        designs = jax.tree.map(lambda *x: jnp.stack(x), *taken)
        return LevelBatch(levels, content_ids(levels)), designs

    def _learn(
        self, state: PairedState, designs: _Designs, advantage: jax.Array
    ) -> tuple[PyTree, PyTree]:
        def loss(params: PyTree) -> jax.Array:
            log = jax.nn.log_softmax(_scores(params, designs.inputs))
            chosen = jnp.take_along_axis(log, designs.choice[..., None], axis=-1)[..., 0]
            entropy = -jnp.mean(jnp.sum(jnp.exp(log) * log, axis=-1))
            wanted = jnp.mean(jnp.sum(chosen, axis=0) * advantage)
            return -wanted - self.entropy_coefficient * entropy

        slopes = jax.grad(loss)(state.params)
        changes, opt_state = self._optimizer().update(slopes, state.opt_state)
        return optax.apply_updates(state.params, changes), opt_state

    def _antagonist(self) -> Agent:
        return make_agent(self.antagonist)

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)


_NETWORK = MLP((64, 1))
_METRICS = ("regret", "antagonist_return", "scoring_steps", "levels_generated")


def _scores(params: PyTree, inputs: jax.Array) -> jax.Array:
    """Of levels as inputs `[..., D]`, `[...]`."""
    scores: Any = _NETWORK.apply(params, inputs)
    return scores[..., 0]


def level_inputs(levels: PyTree) -> jax.Array:
    """Levels `[n, ...]` as float32 `[n, D]`: floats as they are, whole numbers as digits."""

    def inputs(leaf: jax.Array) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        flat = leaf.reshape(leaf.shape[0], -1)
        if jnp.issubdtype(flat.dtype, jnp.floating):
            return flat.astype(jnp.float32)
        if flat.dtype == jnp.bool_:
            return flat.astype(jnp.float32)
        digits = jnp.stack([flat % _DIGITS, flat // _DIGITS % _DIGITS], axis=-1)
        return jax.nn.one_hot(digits, _DIGITS).reshape(leaf.shape[0], -1)

    parts = [inputs(leaf) for leaf in jax.tree.leaves(levels)]
    return jnp.concatenate([p for p in parts if p.shape[1]], axis=-1)


def _returns(traj: Trajectory) -> tuple[jax.Array, jax.Array]:
    """Mean and highest return of the episodes that ended, of each level `[M]`; 0 where none did."""
    ended = traj.terminated | traj.truncated
    returns = episode_returns(traj)
    count = jnp.sum(ended, axis=0)
    mean = jnp.sum(jnp.where(ended, returns, 0.0), axis=0) / jnp.maximum(count, 1)
    highest = jnp.max(jnp.where(ended, returns, -jnp.inf), axis=0)
    return mean, jnp.where(count > 0, highest, 0.0)
