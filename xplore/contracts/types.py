"""The data that flows through the loop, and what each of its four plugs must offer.

Axes are named T (time), N (parallel envs) throughout. No base classes: a plug is any component with
these methods, and `xplore.testing` holds it to what they promise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax

from xplore.contracts.spaces import Dict, Space

Key: TypeAlias = jax.Array
PyTree: TypeAlias = Any
Metrics: TypeAlias = dict[str, jax.Array]


NOTHING = Dict()


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What a method may know of an environment before it runs: shapes, dtypes, spaces; no arrays.

    Attributes:
        name: the task's name, for messages and file names.
        observation: space of one observation.
        action: space of one action.
        max_steps: an episode is truncated (or terminated) after at most this many steps; 0: never.
        stochastic: whether `step` uses its key. Where False the loop passes the same key always.
        privileged: names and spaces of `Environment.privileged(state)`. By convention "position" is
            a `Discrete` index of where the agent is, "state" an integer `Box` that identifies the
            whole state (two states are equal iff these are), "carrying" a `Discrete` for what is
            held, "index" a `Discrete` number of the state (see `FiniteEnvironment`).
        num_layers: L > 0: indices are L layers of one size, in order; episodes start in the first,
            and a step that does not terminate leads to the next one. 0: nothing is said.
    """

    name: str
    observation: Space
    action: Space
    max_steps: int
    stochastic: bool = False
    privileged: Dict = NOTHING
    num_layers: int = 0


class RunSpec(NamedTuple):
    """What a plug is told when its state is made: the environment and the size of the loop."""

    env: EnvSpec
    num_envs: int
    num_steps: int


class TimeStep(NamedTuple):
    """What one environment step returns.

    Attributes:
        obs: the true successor observation, also where the episode ends.
        reward: float32 `[]`, the extrinsic reward.
        terminated: bool `[]`, the task ended: nothing can follow.
        truncated: bool `[]`, a time limit cut the episode: the successor has a value.
        info: `{"success": bool []}`, True on the step that accomplishes the task, and what else an
            environment wants averaged into the episode metrics (scalars, the same names always).
    """

    obs: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: dict[str, jax.Array]


class Trajectory(NamedTuple):
    """A rollout; leaves are `[T, N, ...]` but for `carry`, which is `[N, ...]`.

    Attributes:
        obs: what the action was chosen from.
        action: what was done.
        reward: float32, extrinsic.
        next_obs: the true successor of `obs`, never the next episode's first observation.
        terminated, truncated: bool, kept apart; an episode ended where either holds.
        first: bool, `obs` is the first observation of its episode.
        level_id: uint32, the level this step was taken in.
        info: `TimeStep.info`.
        privileged, next_privileged: of the states of `obs` and `next_obs`; only the names that the
            run's plugs declare they read.
        extras: what `Agent.act` returned (log-probabilities, values, ...).
        carry: the agent's carry before the first step of this rollout.
    """

    obs: PyTree
    action: PyTree
    reward: jax.Array
    next_obs: PyTree
    terminated: jax.Array
    truncated: jax.Array
    first: jax.Array
    level_id: jax.Array
    info: dict[str, jax.Array]
    privileged: dict[str, jax.Array]
    next_privileged: dict[str, jax.Array]
    extras: PyTree
    carry: PyTree


class LevelBatch(NamedTuple):
    """Levels a world sampler supplies: `levels` with leaves `[n, ...]`, `level_id` uint32 `[n]`."""

    levels: PyTree
    level_id: jax.Array


@runtime_checkable
class Environment(Protocol):
    """The dynamics of one task, for one env: the loop vmaps. No auto-reset, no hidden jit."""

    def spec(self) -> EnvSpec:
        """Shapes, dtypes, spaces."""
        ...

    def sample_level(self, key: Key) -> PyTree:
        """Draws a level: a fixed-shape pytree of arrays with all that is random of the start."""
        ...

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[PyTree, PyTree]:
        """Returns `(state, obs)` at the start of THIS level, exactly."""
        ...

    def step(self, key: Key, state: PyTree, action: PyTree) -> tuple[PyTree, TimeStep]:
        """One transition. After an episode's end its result is never used."""
        ...

    def privileged(self, state: PyTree) -> dict[str, jax.Array]:
        """What is known of `state` beyond its observation, as declared in `spec().privileged`."""
        ...


class Starts(NamedTuple):
    """Levels with their probabilities: `probability` float32 `[L]`, `levels` leaves `[L, ...]`."""

    probability: jax.Array
    levels: PyTree


class Outcomes(NamedTuple):
    """Everything that one step can lead to; leaves have a leading axis K.

    Attributes:
        probability: float32 `[K]`, sums to 1; may be 0 where fewer than K things can happen.
        state: the env state that follows; leaves `[K, ...]`.
        reward: float32 `[K]`, expected, given that outcome.
        terminated: bool `[K]`.
    """

    probability: jax.Array
    state: PyTree
    reward: jax.Array
    terminated: jax.Array


@runtime_checkable
class FiniteEnvironment(Environment, Protocol):
    """An environment whose dynamics can be written down: what exact answers are computed from.

    `spec().privileged` must have an "index": the number of a state, the time since the start left
    out unless the dynamics depend on it.
    """

    def starts(self) -> Starts:
        """Every level there is, or some that stand for all: by index, values are the same."""
        ...

    def outcomes(self, state: PyTree, action: PyTree) -> Outcomes:
        """What `step` draws from. Says nothing of the time limit, which is the spec's."""
        ...


@runtime_checkable
class Mutable(Environment, Protocol):
    """An environment whose levels can be changed a little."""

    def mutate(self, key: Key, level: PyTree) -> PyTree:
        """A level near `level`, one random edit away; as valid as those of `sample_level`."""
        ...


@runtime_checkable
class Solvable(Environment, Protocol):
    """An environment that knows how hard its levels are."""

    def optimal_steps(self, level: PyTree) -> jax.Array:
        """int32 `[]`, the fewest steps to success, whatever the time limit; -1: there is none."""
        ...


@runtime_checkable
class Varying(Environment, Protocol):
    """An environment whose levels are drawn with options that differ from level to level.

    Attributes:
        names: of the options.
        low, high: the least and the greatest value of each.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def sample_level_with(self, key: Key, values: jax.Array) -> PyTree:
        """Draws a level of the options `values`, float32 `[len(names)]`."""
        ...


@runtime_checkable
class WorldFamily(Mutable, Solvable, Protocol):
    """An environment whose levels can also be edited, solved, checked and written down.

    Where `optimal_steps` is not exact, the environment's docstring says in what sense.
    """

    def is_valid(self, level: PyTree) -> jax.Array:
        """Whether `level` is well formed, solvable or not: bool `[]`."""
        ...

    def level_to_text(self, level: PyTree) -> str:
        """`level` as text that can be read."""
        ...

    def level_from_text(self, text: str) -> PyTree:
        """The inverse of `level_to_text`. Raises ConfigError where `text` is no level."""
        ...


@runtime_checkable
class Bonus(Protocol):
    """What is worth seeing on the way: an intrinsic reward."""

    def reads(self) -> tuple[str, ...]:
        """Names in `EnvSpec.privileged` this bonus reads; `()` if it sees what the agent sees."""
        ...

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        """The state before the first step. Raises ConfigError if it cannot work there."""
        ...

    def reward(self, state: PyTree, traj: Trajectory) -> tuple[PyTree, jax.Array]:
        """Scores a rollout: float32 `[T, N]`, paid on the transition that reached `next_obs`.

        May move memories and statistics (which forget at `first`, per env), but never learns.
        """
        ...

    def update(self, key: Key, state: PyTree, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns from the rollout that was just scored; the only place with gradients."""
        ...


@runtime_checkable
class Agent(Protocol):
    """How to act and how to learn from a rollout."""

    def init(self, key: Key, spec: RunSpec) -> PyTree:
        """The state before the first step. Raises ConfigError if the environment is not for it."""
        ...

    def initial_carry(self, num_envs: int) -> PyTree:
        """Recurrent state with leaves `[N, ...]`; `()` for a feed-forward agent."""
        ...

    def act(
        self, key: Key, state: PyTree, carry: PyTree, obs: PyTree, first: jax.Array
    ) -> tuple[PyTree, PyTree, PyTree]:
        """Returns `(carry, action [N, ...], extras)` for a batch of observations `[N, ...]`.

        `first` `[N]` marks episode starts: a recurrent agent resets its carry there.
        """
        ...

    def update(
        self, key: Key, state: PyTree, traj: Trajectory, r_int: jax.Array
    ) -> tuple[PyTree, Metrics]:
        """Learns from a rollout and its intrinsic rewards `[T, N]`, a separate stream."""
        ...

    def greedy(self) -> Agent:
        """The same agent acting as it thinks best, without noise; works on the same state."""
        ...


@runtime_checkable
class SeesReward(Agent, Protocol):
    """An agent that is told what its actions earn while it acts; others learn it in `update`."""

    def see_reward(self, carry: PyTree, reward: jax.Array) -> PyTree:
        """The carry that `act` left, now knowing the extrinsic reward `[N]` of that step."""
        ...


class Policy(NamedTuple):
    """The part of an agent's state that says what it does, to be fitted from outside.

    Attributes:
        params: what can be fitted.
        logits: of `(params, obs [B, ...])`: unnormalised log-probabilities `[B, A]`.
        put: of `params`: the agent's state with these in place of its own.
    """

    params: PyTree
    logits: Callable[[PyTree, PyTree], jax.Array]
    put: Callable[[PyTree], PyTree]


@runtime_checkable
class HasPolicy(Agent, Protocol):
    """An agent that can be taught by examples of what to do: its actions are drawn from logits."""

    def policy(self, state: PyTree) -> Policy:
        """What of `state` acts."""
        ...


@runtime_checkable
class Simulates(Agent, Protocol):
    """An agent that looks ahead with the environment itself: privileged, as none can in the world.

    The loop and the evaluation give it the environment; where there is none to be given, its `act`
    is what it does without.
    """

    def act_in(
        self,
        key: Key,
        state: PyTree,
        carry: PyTree,
        obs: PyTree,
        first: jax.Array,
        env: Environment,
        env_state: PyTree,
    ) -> tuple[PyTree, PyTree, PyTree]:
        """As `act`, of the env states `[N, ...]` that are behind `obs`; extras of the same shape.

        What it steps is a copy: the run goes on from `env_state`, and such steps are not counted as
        real. Its metrics should say how many they were, as "model_steps".
        """
        ...


@runtime_checkable
class WorldSampler(Protocol):
    """Which levels are entered."""

    def init(self, key: Key, env: Environment) -> PyTree:
        """The state before the first level."""
        ...

    def sample(
        self, key: Key, state: PyTree, env: Environment, num_levels: int
    ) -> tuple[PyTree, LevelBatch]:
        """Supplies `num_levels` levels for the next rollout."""
        ...

    def update(self, state: PyTree, batch: LevelBatch, traj: Trajectory) -> tuple[PyTree, Metrics]:
        """Learns from how the rollout went in them."""
        ...


@runtime_checkable
class SeesAgent(WorldSampler, Protocol):
    """A sampler that tries levels out before it supplies any: it is shown who will enter them.

    The loop calls `sample_for` in place of `sample` but for the first levels of a run.
    """

    def sample_for(
        self,
        key: Key,
        state: PyTree,
        env: Environment,
        num_levels: int,
        agent: Agent,
        agent_state: PyTree,
    ) -> tuple[PyTree, LevelBatch]:
        """As `sample`, after what `parts.play` played; the agent learns nothing from that."""
        ...


@runtime_checkable
class ReadsPrivileged(WorldSampler, Protocol):
    """A world sampler that learns from more than agents see of a rollout."""

    def reads(self) -> tuple[str, ...]:
        """Names in `EnvSpec.privileged` that its `update` reads."""
        ...
