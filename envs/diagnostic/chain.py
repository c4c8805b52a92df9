"""Chains: a reward at hand, a better one at the far end."""

from __future__ import annotations

from typing import final

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.envs.diagnostic.tables import TableEnv, Tables

_AHEAD, _BACK = 0, 1


@final
@component
class Chain:
    """The table of `chain`: action 0 goes ahead, action 1 back to the start."""

    num_states: int = 5
    slip: float = static(default=0.2)
    small_reward: float = static(default=2.0)
    large_reward: float = static(default=10.0)

    def __post_init__(self) -> None:
        if self.num_states < 2:
            raise ConfigError(f"Chain: num_states is {self.num_states}: it must be at least 2")
        if not 0.0 <= self.slip <= 1.0:
            raise ConfigError(f"Chain: slip is {self.slip}: it is a probability, from 0 to 1")

    @property
    def name(self) -> str:
        return f"Chain-{self.num_states}"

    @property
    def start(self) -> int:
        return 0

    @property
    def num_layers(self) -> int:
        return 0

    def tables(self) -> Tables:
        last = self.num_states - 1
        t = Tables.empty(self.num_states, 2, 2)
        for action in (_AHEAD, _BACK):  # outcome 0 goes ahead, 1 back, whatever was meant
            slips = self.slip if action == _AHEAD else 1.0 - self.slip
            t.probability[:, action] = [1.0 - slips, slips]
        for place in range(self.num_states):
            t.successor[place] = [min(place + 1, last), 0]
        t.reward[..., _BACK] = self.small_reward
        t.reward[last, :, _AHEAD] = self.large_reward
        t.success[last, :, _AHEAD] = True
        return t


@final
@component
class NChain:
    """The table of `n_chain`: action 0 goes left, action 1 right."""

    num_states: int = 10

    def __post_init__(self) -> None:
        if self.num_states < 3:
            raise ConfigError(f"NChain: num_states is {self.num_states}: it must be at least 3")

    @property
    def name(self) -> str:
        return f"NChain-{self.num_states}"

    @property
    def start(self) -> int:
        return 1

    @property
    def num_layers(self) -> int:
        return 0

    def tables(self) -> Tables:
        last = self.num_states - 1
        t = Tables.empty(self.num_states, 2, 1)
        for place in range(self.num_states):
            t.successor[place, :, 0] = [max(place - 1, 0), min(place + 1, last)]
        t.reward[0, 0], t.reward[last, 1] = 0.001, 1.0
        t.success[last, 1] = True
        return t


@register_env("Chain-v0")
def chain(
    num_states: int = 5,
    slip: float = 0.2,
    small_reward: float = 2.0,
    large_reward: float = 10.0,
    max_steps: int = 1000,
) -> TableEnv:
    """Five states in a row: ahead for 10 at the end, or back to the start for 2 at once.

    With probability `slip` the other action's effect takes place, its reward included. Going ahead
    pays nothing but in the last state, which it does not leave.

    Args:
        num_states: states in a row.
        slip: the probability that an action has the other one's effect.
        small_reward: of going back.
        large_reward: of going ahead in the last state.
        max_steps: the time limit, a truncation.

    What it tests: that a plan of several steps is tried although each step could be paid at once.
    Optimal return: `optimal_return`, by backward induction; always ahead earns 3.6768 a step in
        the long run, 0.2 * 2 + 0.8^5 * 10.
    Random return: `random_return`, likewise; 0.5 * 2 + 0.5^5 * 10 = 1.3125 a step.
    Solved when: the mean return exceeds 0.95 of the optimal one; always back has 0.5 of it.
        `info["success"]` is a large reward.
    Reference: Strens (2000), A Bayesian framework for reinforcement learning, whose phases last
        1000 steps.
    Deviations: none known.
    """
    return TableEnv(Chain(num_states, slip, small_reward, large_reward), max_steps)


@register_env("NChain-10-v0")
@register_env("NChain-50-v0", num_states=50)
@register_env("NChain-100-v0", num_states=100)
def n_chain(num_states: int = 10, max_steps: int = 0) -> TableEnv:
    """N states in a row, started in the second: 0.001 at the left end, 1 at the right end.

    Nothing is random. An end pays each time its own direction is chosen in it.

    Args:
        num_states: N.
        max_steps: the time limit, a truncation; 0 stands for N + 9.

    What it tests: deep exploration, with a reward nearby to settle for.
    Optimal return: `optimal_return`; 11 for N + 9 steps, as N - 2 of them lead to the right end.
    Random return: `random_return`, by backward induction.
    Solved when: the mean return exceeds 5; `info["success"]` is a reward of 1.
    Reference: Osband et al. (2016), Deep exploration via bootstrapped DQN, arXiv:1602.04621.
    Deviations: the paper counts 10 for the best policy; the observation is the number of the state,
        not its thermometer code.
    """
    return TableEnv(NChain(num_states), max_steps or num_states + 9)
