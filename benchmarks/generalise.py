"""The suite `generalise`: 200 training levels, 1,000 held-out ones; CPU."""

from __future__ import annotations

from typing import Final

from xplore.benchmarks.generalisation import GRID, HELD_OUT, METHODS, TRIES, method
from xplore.benchmarks.suite import Suite

NUM_LEVELS: Final = 200

SUITE = Suite(
    name="generalise",
    description=f"{NUM_LEVELS} training levels, {HELD_OUT:,} held-out ones: gap, tails, detours",
    tasks=GRID.tasks,
    methods=tuple(method(name, NUM_LEVELS) for name in METHODS),
    seeds=10,
    eval_levels=HELD_OUT,
    eval_episodes=TRIES,
    tags=("cpu",),
)
