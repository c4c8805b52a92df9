"""The umbrella chain: a first action whose consequence shows at the end, among distractions."""

from __future__ import annotations

from typing import NamedTuple, final

import jax
import jax.numpy as jnp

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep


class UmbrellaLevel(NamedTuple):
    """What is random about the start: the forecast, the hand, and the first distractors."""

    need: jax.Array  # bool []
    have: jax.Array  # bool []
    distractors: jax.Array  # bool [n_distractor]


class UmbrellaState(NamedTuple):
    """All that decides what follows; distractors are drawn anew at each step and not kept."""

    need: jax.Array  # bool []
    have: jax.Array  # bool []
    time: jax.Array  # int32 []


@register_env("UmbrellaChain-v0")
@final
@component
class UmbrellaChain:
    """Take the umbrella or not, at the first step; whether that was right shows after L steps.

    The first action is whether to take the umbrella, later ones do nothing. The last step pays 1
    for having it if and only if it is needed, and -1 otherwise; every step before pays 1 or -1, at
    random. The forecast never changes; what the first observation says of the hand does not matter
    either, since the first action decides.

    The observation is float32 `[3 + n_distractor]`: whether the umbrella is needed, whether it is
    held, `1 - time / L`, and bits that are drawn at each step and mean nothing. Privileged: "index"
    and "position" number `(time, need, have)`, which are "state".

    The first distractors are in the level, as they are of the start; the later ones come from the
    step's key: a state is six bytes whatever the number of distractors.

    Attributes:
        chain_length: L, also the length of every episode.
        n_distractor: how many bits of the observation mean nothing.

    What it tests: credit assignment over L noisy rewards, and leaving out what means nothing.
    Optimal return: 1, expected.
    Random return: 0.
    Solved when: the mean of `info["regret"]`, 2 where the last step paid -1, is below 1/2 (bsuite);
        `info["success"]` is that it paid 1.
    Reference: Osband et al. (2020), Behaviour suite for reinforcement learning, arXiv:1908.03568.
    Deviations: upstream's observation has an axis of length one more.
    """

    chain_length: int = 10
    n_distractor: int = 20

    def __post_init__(self) -> None:
        if self.chain_length < 1:
            raise ConfigError(
                f"UmbrellaChain: chain_length is {self.chain_length}: it must be at least 1"
            )
        if self.n_distractor < 0:
            raise ConfigError(
                f"UmbrellaChain: n_distractor is {self.n_distractor}: it must be at least 0"
            )

    @property
    def optimal_return(self) -> float:
        """The expected return of the best policy; the rewards on the way have mean 0."""
        return 1.0

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return 0.0

    def spec(self) -> EnvSpec:
        length = self.chain_length
        return EnvSpec(
            name=f"UmbrellaChain-{length}-{self.n_distractor}",
            observation=Box((3 + self.n_distractor,), "float32", 0.0, 1.0),
            action=Discrete(2),
            max_steps=length,
            stochastic=True,
            privileged=Dict(
                {
                    "position": Discrete(4 * length),
                    "index": Discrete(4 * length),
                    "state": Box((3,), "int32", 0, length),
                }
            ),
            num_layers=length,
        )

    def sample_level(self, key: Key) -> UmbrellaLevel:
        bits = jax.random.bernoulli(key, shape=(2 + self.n_distractor,))
        return UmbrellaLevel(need=bits[0], have=bits[1], distractors=bits[2:])

    def reset_to_level(self, key: Key, level: UmbrellaLevel) -> tuple[UmbrellaState, jax.Array]:
        state = UmbrellaState(level.need, level.have, jnp.zeros((), jnp.int32))
        return state, self._observe(state, level.distractors)

    def step(
        self, key: Key, state: UmbrellaState, action: jax.Array
    ) -> tuple[UmbrellaState, TimeStep]:
        bits = jax.random.bernoulli(key, shape=(1 + self.n_distractor,))
        return self.resolve(state, action, bits[0], bits[1:])

    def resolve(
        self, state: UmbrellaState, action: jax.Array, coin: jax.Array, distractors: jax.Array
    ) -> tuple[UmbrellaState, TimeStep]:
        """`step`, given what chance decides.

        Args:
            state: before the step.
            action: int32 `[]`.
            coin: bool `[]`, whether a step before the last pays 1 or -1.
            distractors: bool `[n_distractor]`, of the next observation.
        """
        state = self._after(state, action)
        last = state.time == self.chain_length
        right = state.have == state.need
        reward = jnp.where(jnp.where(last, right, coin), 1.0, -1.0)
        return state, TimeStep(
            obs=self._observe(state, distractors),
            reward=reward.astype(jnp.float32),
            terminated=last,
            truncated=jnp.zeros((), bool),
            info={
                "success": last & right,
                "regret": jnp.where(last & ~right, 2.0, 0.0).astype(jnp.float32),
            },
        )

    def starts(self) -> Starts:
        number = jnp.arange(4)
        nothing = jnp.zeros((4, self.n_distractor), bool)
        levels = UmbrellaLevel(need=number >= 2, have=number % 2 == 1, distractors=nothing)
        return Starts(jnp.full(4, 0.25), levels)

    def outcomes(self, state: UmbrellaState, action: jax.Array) -> Outcomes:
        after = self._after(state, action)
        last = after.time == self.chain_length
        paid = jnp.where(after.have == after.need, 1.0, -1.0)
        return Outcomes(
            probability=jnp.ones(1, jnp.float32),
            state=jax.tree.map(lambda x: x[None], after),
            reward=jnp.where(last, paid, 0.0).astype(jnp.float32)[None],
            terminated=last[None],
        )

    def privileged(self, state: UmbrellaState) -> dict[str, jax.Array]:
        need, have = state.need.astype(jnp.int32), state.have.astype(jnp.int32)
        time = jnp.minimum(state.time, self.chain_length - 1)
        index = 4 * time + 2 * need + have
        return {"position": index, "index": index, "state": jnp.stack([state.time, need, have])}

    def _after(self, state: UmbrellaState, action: jax.Array) -> UmbrellaState:
        have = jnp.where(state.time == 0, action == 1, state.have)
        return UmbrellaState(state.need, have, state.time + 1)

    def _observe(self, state: UmbrellaState, distractors: jax.Array) -> jax.Array:
        to_go = 1.0 - state.time / self.chain_length
        known = jnp.stack([state.need.astype(jnp.float32), state.have.astype(jnp.float32), to_go])
        return jnp.concatenate([known, distractors.astype(jnp.float32)]).astype(jnp.float32)


_SWEEP = (*range(1, 11), 12, 14, 17, 20, 25, *range(30, 101, 10))  # bsuite's, of both experiments
for _number in _SWEEP:
    register_env(f"UmbrellaLength-{_number}-v0", chain_length=_number)(UmbrellaChain)
    register_env(f"UmbrellaDistract-{_number}-v0", chain_length=20, n_distractor=_number)(
        UmbrellaChain
    )
