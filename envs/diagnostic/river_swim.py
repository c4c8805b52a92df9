"""RiverSwim: swimming against the current for a reward that is seldom met by chance."""

from __future__ import annotations

from typing import final

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.envs.diagnostic.tables import TableEnv, Tables

_LEFT, _RIGHT = 0, 1
_BACK, _STAY, _AHEAD = 0, 1, 2


@final
@component
class RiverSwim:
    """The table: action 0 drifts with the current, action 1 swims against it."""

    num_states: int = 6

    def __post_init__(self) -> None:
        if self.num_states < 2:
            raise ConfigError(f"RiverSwim: num_states is {self.num_states}: it must be at least 2")

    @property
    def name(self) -> str:
        return f"RiverSwim-{self.num_states}"

    @property
    def start(self) -> int:
        return 0

    @property
    def num_layers(self) -> int:
        return 0

    def tables(self) -> Tables:
        last = self.num_states - 1
        t = Tables.empty(self.num_states, 2, 3)
        for place in range(self.num_states):
            t.successor[place] = [max(place - 1, 0), place, min(place + 1, last)]
            t.probability[place, _LEFT] = [1.0, 0.0, 0.0]
            t.probability[place, _RIGHT] = [0.05, 0.6, 0.35]
        t.probability[0, _RIGHT] = [0.0, 0.4, 0.6]
        t.probability[last, _RIGHT] = [0.4, 0.6, 0.0]
        t.reward[0, _LEFT] = 0.005
        t.reward[last, _RIGHT] = 1.0
        t.success[last - 1, :, _AHEAD] = True
        t.success[last, _RIGHT, _STAY] = True
        return t


@register_env("RiverSwim-v0")
@register_env("RiverSwim-50-v0", max_steps=50)
@register_env("RiverSwim-100-v0", max_steps=100)
def river_swim(num_states: int = 6, max_steps: int = 20) -> TableEnv:
    """Six places along a river; the current carries one down to a small reward, for free.

    Going left always works and pays 0.005 in the first place. Going right advances with probability
    0.35 (0.6 from the first place), stays with 0.6 and is carried back with 0.05; in the last place
    it pays 1, stays with 0.6 and is carried back with 0.4.

    Args:
        num_states: places along the river.
        max_steps: the time limit H, a truncation.

    What it tests: persistence in a stochastic task, against a reward that is near and small.
    Optimal return: `optimal_return`, by backward induction; for six places 3.3973 for H = 20,
        16.0721 for 50 and 37.5029 for 100. Always right earns 0.428622 per step in the long run,
        always left 0.005 H.
    Random return: `random_return`: 0.0438, 0.1269 and 0.2658; the last place is reached with
        probability `random_success`: 0.0176, 0.0573 and 0.1199.
    Solved when: the mean return exceeds half the optimal one; `info["success"]` is being in the
        last place after a step that was not carried back.
    Reference: Strehl and Littman (2008), An analysis of model-based interval estimation for Markov
        decision processes; numbers as in Osband, Russo and Van Roy (2013), arXiv:1306.0940.
    Deviations: rewards 0.005 and 1 in place of 5 and 10,000, which is the form of the second paper.
    """
    return TableEnv(RiverSwim(num_states), max_steps)
