"""What a run is: four plugs, a budget, and the size of the loop."""

from __future__ import annotations

from typing import final

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.types import Agent, Bonus, Environment, RunSpec, WorldSampler


@final
@component
class Config:
    """One training run of one method on one task; seeds are given to `train`, not here.

    Attributes:
        env, agent, bonus, worlds: the four plugs.
        budget_steps: env steps per seed, spent exactly; a multiple of `num_envs`.
        num_envs: N, envs that run in parallel.
        num_steps: T, steps of each env between two updates. The last update is shorter where
            the budget is not a multiple of T*N.
        num_levels: levels supplied for each rollout, reused in turn should more episodes start in
            it; 0 stands for `max(N, T*N // 16)`.

    Raises:
        ConfigError: the numbers do not fit each other; says which would.
    """

    env: Environment
    agent: Agent
    bonus: Bonus
    worlds: WorldSampler
    budget_steps: int
    num_envs: int = 64
    num_steps: int = 128
    num_levels: int = 0

    def __post_init__(self) -> None:
        for name in ("num_envs", "num_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.num_levels < 0:
            raise ConfigError(
                f"num_levels is {self.num_levels}: give a positive number, or 0 for auto"
            )
        if self.budget_steps < self.steps_per_update:
            raise ConfigError(
                f"a budget of {self.budget_steps:,} steps is below one update of num_envs *"
                f" num_steps = {self.num_envs} * {self.num_steps} = {self.steps_per_update:,}"
                " steps: raise the budget or lower num_envs or num_steps"
            )
        if self.budget_steps % self.num_envs:
            below = self.budget_steps // self.num_envs * self.num_envs
            raise ConfigError(
                f"a budget of {self.budget_steps:,} steps cannot be spent exactly by"
                f" {self.num_envs} envs: the nearest budgets are {below:,} and"
                f" {below + self.num_envs:,}"
            )

    @property
    def steps_per_update(self) -> int:
        """T*N, the env steps of one full update."""
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        """Updates in the budget; the last may be shorter."""
        return -(-self.budget_steps // self.steps_per_update)

    @property
    def levels_per_rollout(self) -> int:
        """`num_levels`, with the default filled in."""
        return self.num_levels or max(self.num_envs, self.steps_per_update // 16)

    def run_spec(self) -> RunSpec:
        """What the plugs are told when their states are made."""
        return RunSpec(self.env.spec(), self.num_envs, self.num_steps)
