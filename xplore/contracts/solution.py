"""What is known of the shortest way through a level, where it takes a search on the host."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from xplore.contracts.types import PyTree


class Solution(NamedTuple):
    """The shortest way through a level that was found, and what is proven of all others.

    Attributes:
        least: no way has fewer steps; -1: it is proven that there is none.
        plan: int32 `[n]`, the actions of one that leads to success; None where none was found. In a
            stochastic environment it does so where chance is kind, as the docstring there says.
    """

    least: int
    plan: npt.NDArray[np.int32] | None

    @property
    def exact(self) -> bool:
        """Whether nothing is left open: a shortest plan, or a proof that there is none."""
        return self.least < 0 or (self.plan is not None and len(self.plan) == self.least)


@runtime_checkable
class Planned(Protocol):
    """A family whose `optimal_steps` is a bound, and which can search for the shortest way."""

    def shortest_plan(self, level: PyTree) -> Solution:
        """Searches on the host, for milliseconds to seconds; deterministic; not to be traced."""
        ...
