"""Small tasks that are a table of transitions, and the environment made of one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, PyTree, Starts, TimeStep

Array = npt.NDArray[Any]


class Tables(NamedTuple):
    """All transitions of a finite task, `[S, A, K]`: K things can happen after an action.

    Attributes:
        probability: float, sums to 1 over K.
        successor: int, the state that follows.
        reward: float, of that outcome.
        success: bool, that outcome accomplishes the task.
        terminated: bool, it ends the episode.
    """

    probability: Array
    successor: Array
    reward: Array
    success: Array
    terminated: Array

    @classmethod
    def empty(cls, num_states: int, num_actions: int, num_outcomes: int) -> Tables:
        """Nothing happens: every state leads to itself, by its first outcome."""
        shape = (num_states, num_actions, num_outcomes)
        probability = np.zeros(shape)
        probability[..., 0] = 1.0
        itself = np.broadcast_to(np.arange(num_states)[:, None, None], shape)
        return cls(probability, itself.copy(), np.zeros(shape), *np.zeros((2, *shape), bool))


class TableTask(Protocol):
    """What a family says of itself: a component without float leaves, so that tables are NumPy."""

    @property
    def name(self) -> str:
        """For the spec."""
        ...

    @property
    def start(self) -> int:
        """The state in which every episode starts."""
        ...

    @property
    def num_layers(self) -> int:
        """As in `EnvSpec`."""
        ...

    def tables(self) -> Tables:
        """The transitions."""
        ...


class TableState(NamedTuple):
    """Where one is and since when: int32 `[]` each."""

    place: jax.Array
    time: jax.Array


@final
@component
class TableEnv:
    """A task made of its table; the observation is the number of the state.

    Nothing is random about the start: all levels are equal (the level is a zero). At `max_steps`
    the episode is truncated. Privileged: "position", "index" and "state" are the number of the
    state.

    Attributes:
        task: the table.
        max_steps: the time limit.

    Raises:
        ConfigError: a time limit below 1.
    """

    task: TableTask
    max_steps: int

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ConfigError(
                f"{self.task.name}: max_steps is {self.max_steps}: it must be at least 1"
            )

    @property
    def optimal_return(self) -> float:
        """The expected return of the best policy, which may depend on the time: exact."""
        return float(self._evaluate("best", self._tables.reward)[self.task.start])

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions: exact."""
        return float(self._evaluate("random", self._tables.reward)[self.task.start])

    @property
    def random_success(self) -> float:
        """The probability that uniformly random actions succeed within an episode: exact."""
        return float(self._evaluate("random", None)[self.task.start])

    @property
    def _tables(self) -> Tables:
        return _tables(self.task)

    def _evaluate(self, policy: str, reward: Array | None) -> Array:
        """Backward induction over `max_steps`; without rewards, the probability of a success."""
        t = self._tables
        gain = t.success.astype(float) if reward is None else reward
        goes_on = ~t.terminated if reward is not None else ~(t.terminated | t.success)
        value = np.zeros(len(t.reward))
        for _ in range(self.max_steps):
            of_action = np.sum(t.probability * (gain + goes_on * value[t.successor]), axis=2)
            value = of_action.max(1) if policy == "best" else of_action.mean(1)
        return value

    def spec(self) -> EnvSpec:
        num_states, num_actions, _ = self._tables.reward.shape
        number = Discrete(num_states)
        return EnvSpec(
            name=self.task.name,
            observation=number,
            action=Discrete(num_actions),
            max_steps=self.max_steps,
            stochastic=bool(np.any((self._tables.probability % 1.0) != 0.0)),
            privileged=Dict(
                {
                    "position": number,
                    "index": number,
                    "state": Box((1,), "int32", 0, num_states - 1),
                }
            ),
            num_layers=self.task.num_layers,
        )

    def sample_level(self, key: Key) -> PyTree:
        return jnp.zeros((), jnp.uint32)

    def reset_to_level(self, key: Key, level: PyTree) -> tuple[TableState, jax.Array]:
        state = TableState(jnp.int32(self.task.start), jnp.int32(0))
        return state, state.place

    def step(self, key: Key, state: TableState, action: jax.Array) -> tuple[TableState, TimeStep]:
        row = self._row(state, action)
        drawn = jnp.int32(0)
        if self.spec().stochastic:
            # The last outcome with any probability takes what rounding leaves over.
            edges = jnp.cumsum(row.probability)
            last = jnp.sum(edges < edges[-1])
            drawn = jnp.minimum(jnp.sum(jax.random.uniform(key) * edges[-1] >= edges), last)
        successor, reward, success, terminated = (x[drawn] for x in row[1:])
        state = TableState(successor, state.time + 1)
        return state, TimeStep(
            obs=successor,
            reward=reward,
            terminated=terminated,
            truncated=~terminated & (state.time >= self.max_steps),
            info={"success": success},
        )

    def privileged(self, state: TableState) -> dict[str, jax.Array]:
        return {"position": state.place, "index": state.place, "state": state.place[None]}

    def starts(self) -> Starts:
        return Starts(jnp.ones(1), jnp.zeros(1, jnp.uint32))

    def outcomes(self, state: TableState, action: jax.Array) -> Outcomes:
        row = self._row(state, action)
        time = jnp.broadcast_to(state.time + 1, row.successor.shape)
        return Outcomes(
            row.probability, TableState(row.successor, time), row.reward, row.terminated
        )

    def _row(self, state: TableState, action: jax.Array) -> Any:
        """The outcomes of one action, `[K]` each, in the dtypes of a step."""
        dtypes = (jnp.float32, jnp.int32, jnp.float32, bool, bool)
        here = [
            jnp.asarray(table, dtype)[state.place, action]
            for table, dtype in zip(self._tables, dtypes, strict=True)
        ]
        return Tables._make(here)


@functools.cache
def _made(task: Any) -> Tables:
    tables: Tables = task.tables()
    for table in tables:
        table.flags.writeable = False
    return tables


# A Protocol says nothing of hashing: to type checkers, a component may not be a cache's key.
_tables = cast(Callable[[TableTask], Tables], _made)
