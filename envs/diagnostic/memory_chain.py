"""The memory chain: bits shown at the start, one of which is asked for at the end."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep


class MemoryLevel(NamedTuple):
    """All that is random about an episode: the bits to keep, and which is asked for."""

    context: jax.Array  # bool [num_bits]
    query: jax.Array  # int32 []


class MemoryState(NamedTuple):
    """The level, and the steps done so far."""

    context: jax.Array  # bool [num_bits]
    query: jax.Array  # int32 []
    time: jax.Array  # int32 []


@register_env("MemoryChain-v0")
@final
@component
class MemoryChain:
    """Bits are shown, time passes, and a question comes: what was bit `query`?

    Every episode has `memory_length + 1` steps, of which the last is paid: 1 for an action equal to
    the bit asked for, -1 otherwise. Everything random is in the level: the step uses no key.

    The observation is float32 `[2 + num_bits]`: `1 - t / memory_length`, the query (its number,
    shown at `t = memory_length - 1` and else 0), and the bits as -1 or 1 (shown at `t = 0` and else
    0). As in bsuite, what a step returns is the observation before time moves: t is 0 at the start,
    0 again after the first step, and k - 1 after step k; so the bits are seen twice, and the last
    action is chosen from the observation with the query.

    Privileged: "index" numbers `(steps done, the bit asked for)`, on which alone all that can still
    be earned depends, so that the task is finite for any number of bits; "position" is the number
    of steps done, and "state" those, the query and the bits. An agent that is given the index needs
    no memory.

    Attributes:
        memory_length: how long the bits are to be kept.
        num_bits: how many there are; a state takes as many bytes, and eight.

    What it tests: memory, over time and over the number of bits. There is nothing to explore: an
        agent without memory earns 0 in expectation (but with `memory_length=1`, where the bits and
        the query are seen together).
    Optimal return: 1.
    Random return: 0.
    Solved when: less than 3/8 of the episodes end in a wrong answer, bsuite's threshold of 0.75 on
        a scale where guessing is 1; `info["success"]` is a right answer and `info["regret"]` 2 for
        a wrong one.
    Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568.
    Deviations: upstream's observation has an axis of length one more.
    """

    memory_length: int = 10
    num_bits: int = 1

    def __post_init__(self) -> None:
        for name in ("memory_length", "num_bits"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"MemoryChain: {name} is {getattr(self, name)}: it must be at least 1"
                )

    @property
    def optimal_return(self) -> float:
        """The return of an agent that remembers."""
        return 1.0

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return 0.0

    def spec(self) -> EnvSpec:
        steps, bits = self.memory_length + 1, self.num_bits
        return EnvSpec(
            name=f"MemoryChain-{self.memory_length}-{bits}",
            observation=Box((2 + bits,), "float32", -1.0, float(max(1, bits - 1))),
            action=Discrete(2),
            max_steps=steps,
            privileged=Dict(
                {
                    "position": Discrete(steps + 1),
                    "index": Discrete(2 * steps),
                    "state": Box((2 + bits,), "int32", 0, max(steps, bits)),
                }
            ),
            num_layers=steps,
        )

    def sample_level(self, key: Key) -> MemoryLevel:
        key_context, key_query = jax.random.split(key)
        return MemoryLevel(
            context=jax.random.bernoulli(key_context, shape=(self.num_bits,)),
            query=jax.random.randint(key_query, (), 0, self.num_bits),
        )

    def reset_to_level(self, key: Key, level: MemoryLevel) -> tuple[MemoryState, jax.Array]:
        state = MemoryState(level.context, level.query, jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(self, key: Key, state: MemoryState, action: jax.Array) -> tuple[MemoryState, TimeStep]:
        last = state.time == self.memory_length
        right = (action == 1) == self._asked(state)
        paid = jnp.where(right, 1.0, -1.0)
        after = state._replace(time=state.time + 1)
        return after, TimeStep(
            obs=self._observe(state),  # before time moves, as in bsuite
            reward=jnp.where(last, paid, 0.0).astype(jnp.float32),
            terminated=last,
            truncated=jnp.zeros((), bool),
            info={
                "success": last & right,
                "regret": jnp.where(last & ~right, 2.0, 0.0).astype(jnp.float32),
            },
        )

    def starts(self) -> Starts:
        """A level with only zeros, and one with only ones: they stand for both answers."""
        context = jnp.broadcast_to(jnp.array([[False], [True]]), (2, self.num_bits))
        return Starts(jnp.full(2, 0.5), MemoryLevel(context, jnp.zeros(2, jnp.int32)))

    def outcomes(self, state: MemoryState, action: jax.Array) -> Outcomes:
        last = state.time == self.memory_length
        paid = jnp.where((action == 1) == self._asked(state), 1.0, -1.0)
        after = state._replace(time=state.time + 1)
        return Outcomes(
            probability=jnp.ones(1, jnp.float32),
            state=jax.tree.map(lambda x: x[None], after),
            reward=jnp.where(last, paid, 0.0).astype(jnp.float32)[None],
            terminated=last[None],
        )

    def privileged(self, state: MemoryState) -> dict[str, jax.Array]:
        time = jnp.minimum(state.time, self.memory_length)
        index = 2 * time + self._asked(state).astype(jnp.int32)
        numbers = jnp.stack([state.time, state.query])
        whole = jnp.concatenate([numbers, state.context.astype(jnp.int32)])
        return {"position": state.time, "index": index, "state": whole}

    def _asked(self, state: MemoryState) -> jax.Array:
        return state.context.at[state.query].get(mode="clip")

    def _observe(self, state: MemoryState) -> jax.Array:
        to_go = 1.0 - state.time / self.memory_length
        query = jnp.where(state.time == self.memory_length - 1, state.query, 0)
        context = jnp.where(state.time == 0, jnp.where(state.context, 1.0, -1.0), 0.0)
        shown = jnp.stack([to_go, query.astype(jnp.float32)])
        return jnp.concatenate([shown, context]).astype(jnp.float32)


# Of bsuite's sweeps, some of each: other sizes are options.
for _length in (5, 10, 20, 30, 50, 100):
    register_env(f"MemoryLen-{_length}-v0", memory_length=_length)(MemoryChain)
for _bits in (1, 2, 5, 10, 20, 40):
    register_env(f"MemorySize-{_bits}-v0", memory_length=2, num_bits=_bits)(MemoryChain)
