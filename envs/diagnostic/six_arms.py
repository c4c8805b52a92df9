"""SixArms: the more an arm pays, the harder it is to get to."""

from __future__ import annotations

from typing import Final, final

from xplore.contracts.component import component
from xplore.contracts.registry import register_env
from xplore.envs.diagnostic.tables import TableEnv, Tables

REWARDS: Final = (50.0, 133.0, 300.0, 800.0, 1660.0, 6000.0)
PROBABILITIES: Final = (1.0, 0.15, 0.1, 0.05, 0.03, 0.01)
_LEAVES_FIRST_ARM: Final = 4


@final
@component
class SixArms:
    """The table: state 0 is the hub, state i + 1 the arm that action i may lead to."""

    @property
    def name(self) -> str:
        return "SixArms"

    @property
    def start(self) -> int:
        return 0

    @property
    def num_layers(self) -> int:
        return 0

    def tables(self) -> Tables:
        t = Tables.empty(7, 6, 2)
        for action, (reward, enters) in enumerate(zip(REWARDS, PROBABILITIES, strict=True)):
            arm = action + 1
            t.probability[0, action] = [1.0 - enters, enters]
            t.successor[0, action] = [0, arm]
            t.successor[arm] = 0
            stays = [a for a in range(6) if a != _LEAVES_FIRST_ARM] if arm == 1 else [action]
            t.successor[arm, stays] = arm
            t.reward[arm, stays] = reward
        t.success[6, 5] = True
        return t


@register_env("SixArms-v0")
def six_arms(max_steps: int = 5000) -> TableEnv:
    """A hub with six arms, entered with probabilities 1, .15, .1, .05, .03 and .01.

    Action i tries arm i from the hub, and stays there if it fails. In an arm, its own action stays
    and pays 50, 133, 300, 800, 1660 or 6000; all others go back to the hub. In the first arm, all
    actions but the fifth stay and pay.

    Args:
        max_steps: the time limit, a truncation.

    What it tests: trying again what has failed often, where less is had for certain.
    Optimal return: `optimal_return`, by backward induction; for 5000 steps, the best arm until
        too little time is left to enter it.
    Random return: `random_return`, likewise.
    Solved when: the mean return exceeds 0.9 of the optimal one; `info["success"]` is a reward of
        the best arm.
    Reference: Strehl and Littman (2008), An analysis of model-based interval estimation for Markov
        decision processes, whose experiments last 5000 steps.
    Deviations: none known; rewards are not scaled.
    """
    return TableEnv(SixArms(), max_steps)
