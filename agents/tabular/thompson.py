"""Thompson sampling for bandits."""

from __future__ import annotations

from typing import final

import jax

from xplore.contracts.component import component, replace
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.bandit import (
    Arms,
    Family,
    check_family,
    draw_means,
    posterior_means,
    pull,
    untried,
)
from xplore.parts.tabular import pick


@register_agent("thompson")
@final
@component
class Thompson:
    """Pulls the arm that is best in a draw from the posterior, a new one for every pull.

    Attributes:
        family: of the rewards, "bernoulli" (uniform prior) or "gaussian" (prior N(0, prior_std^2)).
        prior_std, noise_std: of the Gaussian family.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        deterministic: pull the arm with the best posterior mean.

    Reference: Thompson (1933); Russo et al. (2018), A tutorial on Thompson sampling,
    arXiv:1707.02038.
    """

    family: Family = "bernoulli"
    prior_std: float = 1.0
    noise_std: float = 1.0
    intrinsic_weight: float = 1.0
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_family("thompson", self.family)

    def init(self, key: Key, spec: RunSpec) -> Arms:
        return untried(spec, "thompson")

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: Arms, carry: PyTree, obs: jax.Array, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        mine = jax.tree.map(lambda x: x[obs], state)  # a row an env: each has a draw of its own
        prior = (self.family, self.prior_std, self.noise_std)
        if self.deterministic:
            return carry, pick(key, posterior_means(mine, *prior), ties_at_random=False), ()
        return carry, pick(key, draw_means(key, mine, *prior), ties_at_random=False), ()

    def update(
        self, key: Key, state: Arms, traj: Trajectory, r_int: jax.Array
    ) -> tuple[Arms, Metrics]:
        return pull(state, traj, r_int, self.intrinsic_weight), {}

    def greedy(self) -> Thompson:
        return replace(self, deterministic=True)
