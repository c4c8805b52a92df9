"""CombinationLock: one right action a step, and any other spoils it."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.envs.diagnostic.tables import TableEnv, Tables

Wrong = Literal["start", "fail"]


@final
@component
class CombinationLock:
    """The table: state i is the lock with i right digits dialled; all digits end the episode."""

    num_digits: int = 10
    num_actions: int = 4
    wrong: Wrong = "start"
    lock_seed: int = 0

    def __post_init__(self) -> None:
        if self.num_digits < 1:
            raise ConfigError(f"CombinationLock: num_digits is {self.num_digits}: give at least 1")
        if self.num_actions < 2:
            raise ConfigError(
                f"CombinationLock: num_actions is {self.num_actions}: it must be at least 2"
            )
        if self.wrong not in ("start", "fail"):
            raise ConfigError(
                f"CombinationLock: wrong is {self.wrong!r}: a wrong action leads to 'start', or to"
                " 'fail', the end of the episode"
            )
        if not 0 <= self.lock_seed < 2**32:
            raise ConfigError(
                f"CombinationLock: lock_seed is {self.lock_seed}: it must fit 32 bits"
            )

    @property
    def name(self) -> str:
        return f"CombinationLock-{self.num_digits}"

    @property
    def start(self) -> int:
        return 0

    @property
    def num_layers(self) -> int:
        return self.num_digits if self.wrong == "fail" else 0

    def combination(self) -> tuple[int, ...]:
        """The action that is right in each state."""
        generator = np.random.RandomState(self.lock_seed)
        return tuple(generator.randint(self.num_actions, size=self.num_digits).tolist())

    def tables(self) -> Tables:
        last = self.num_digits - 1
        t = Tables.empty(self.num_digits, self.num_actions, 1)
        t.successor[:] = 0
        t.terminated[:] = self.wrong == "fail"
        for place, right in enumerate(self.combination()):
            t.successor[place, right] = min(place + 1, last)
            t.terminated[place, right] = t.success[place, right] = place == last
        t.reward[t.success] = 1.0
        return t


@register_env("CombinationLock-5-v0", num_digits=5)
@register_env("CombinationLock-10-v0")
@register_env("CombinationLock-20-v0", num_digits=20)
def combination_lock(
    num_digits: int = 10,
    num_actions: int = 4,
    wrong: Wrong = "start",
    lock_seed: int = 0,
    max_steps: int = 0,
) -> TableEnv:
    """A lock of n digits: the right one of A actions advances, any other leads back to the start.

    The last right digit pays 1 and terminates. The combination is drawn once, from `lock_seed`.

    Args:
        num_digits: n.
        num_actions: A.
        wrong: `start`, or `fail`, with which a wrong action ends the episode.
        lock_seed: of the combination.
        max_steps: the time limit, a truncation; 0 stands for 4 n, or n with `fail`.

    What it tests: deep exploration without a gradient: no reward tells a start that is nearly right
        from one that is all wrong.
    Optimal return: 1.
    Random return: `random_return`, the probability of A^-n an attempt to dial it by chance, by
        backward induction over the attempts of an episode; exactly A^-n with `fail`.
    Solved when: the mean return exceeds 0.5; `info["success"]` is the open lock.
    Reference: Whitehead (1991), Complexity and cooperation in Q-learning; Koenig and Simmons
        (1993), Complexity analysis of real-time reinforcement learning.
    Deviations: the reward is paid at the goal, steps cost nothing.
    """
    default = num_digits if wrong == "fail" else 4 * num_digits
    task = CombinationLock(num_digits, num_actions, wrong, lock_seed)
    return TableEnv(task, max_steps or default)
