"""Information-directed sampling for bandits, with exact posteriors."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
from jax.scipy import stats

from xplore.contracts.component import component, replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_agent
from xplore.contracts.types import Key, Metrics, PyTree, RunSpec, Trajectory
from xplore.parts.bandit import (
    Arms,
    Family,
    beta_posterior,
    check_family,
    gaussian_posterior,
    posterior_means,
    pull,
    untried,
)
from xplore.parts.tabular import pick


class Ratio(NamedTuple):
    """Of each arm, `[A]`.

    Attributes:
        regret: Delta(a) = E[max_b theta_b] - E[theta_a].
        information: v(a) = Var(E[theta_a | A*]), A* the best arm.
        best: P(A* = a).
    """

    regret: jax.Array
    information: jax.Array
    best: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IDSState:
    """The arms, and float32 `[S, A]`, with what probability each is pulled next."""

    arms: Arms
    policy: jax.Array


@register_agent("ids")
@final
@component
class IDS:
    """Pulls arms by the distribution that minimises (expected regret)^2 / expected information.

    Variance-based: arm a has the information v(a) = sum_a* P(a*) (E[theta_a | a*] - E[theta_a])^2,
    and the minimum is reached by a mix of two arms at most, of which all are tried, each with its
    best share in closed form. Integrals over the posteriors are sums over a grid that spans all
    arms' posteriors by six standard deviations.

    Acting is on the posterior of the last update: with `num_envs=1` and `num_steps=1` it is the
    method of the paper.

    Attributes:
        family: of the rewards, "bernoulli" (uniform prior) or "gaussian" (prior N(0, prior_std^2)).
        prior_std, noise_std: of the Gaussian family.
        grid_size: points of the grid.
        intrinsic_weight: of the intrinsic reward, which is added to the reward.
        deterministic: pull the arm with the best posterior mean.

    Reference: Russo & Van Roy (2018), Learning to optimize via information-directed sampling,
    Operations Research 66, arXiv:1403.5556.
    """

    family: Family = "bernoulli"
    prior_std: float = 1.0
    noise_std: float = 1.0
    grid_size: int = 512
    intrinsic_weight: float = 1.0
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_family("ids", self.family)
        if self.grid_size < 8:
            raise ConfigError(f"ids: grid_size is {self.grid_size}: it must be at least 8")

    def init(self, key: Key, spec: RunSpec) -> IDSState:
        return self._directed(untried(spec, "ids"))

    def initial_carry(self, num_envs: int) -> PyTree:
        return ()

    def act(
        self, key: Key, state: IDSState, carry: PyTree, obs: jax.Array, first: jax.Array
    ) -> tuple[PyTree, jax.Array, PyTree]:
        if self.deterministic:
            means = posterior_means(state.arms, self.family, self.prior_std, self.noise_std)
            return carry, pick(key, means[obs], ties_at_random=False), ()
        drawn = jax.random.categorical(key, jnp.log(state.policy[obs]))
        return carry, drawn.astype(jnp.int32), ()

    def update(
        self, key: Key, state: IDSState, traj: Trajectory, r_int: jax.Array
    ) -> tuple[IDSState, Metrics]:
        return self._directed(pull(state.arms, traj, r_int, self.intrinsic_weight)), {}

    def greedy(self) -> IDS:
        return replace(self, deterministic=True)

    def _directed(self, arms: Arms) -> IDSState:
        policy = jax.vmap(lambda one: minimiser(*self.ratio(one)[:2]))(arms)
        return IDSState(arms, policy)

    def ratio(self, arms: Arms) -> Ratio:
        """Regret and information of the arms of one context, leaves `[A]`."""
        if self.family == "gaussian":
            mean, std = gaussian_posterior(arms, self.prior_std, self.noise_std)
            x = self._grid(jnp.min(mean - 6.0 * std), jnp.max(mean + 6.0 * std))
            log = stats.norm.logpdf(x[None], mean[:, None], std[:, None])
            return grid_ratio(x, jax.nn.softmax(log, axis=-1))
        a, b = beta_posterior(arms)
        mean = a / (a + b)
        std = jnp.sqrt(mean * (1.0 - mean) / (a + b + 1.0))
        low, high = jnp.min(mean - 6.0 * std), jnp.max(mean + 6.0 * std)
        x = self._grid(jnp.maximum(low, 0.0), jnp.minimum(high, 1.0))
        log = stats.beta.logpdf(x[None], a[:, None], b[:, None])
        return grid_ratio(x, jax.nn.softmax(log, axis=-1))

    def _grid(self, low: jax.Array, high: jax.Array) -> jax.Array:
        """The middles of the cells that an interval is cut into."""
        return low + (high - low) * (jnp.arange(self.grid_size) + 0.5) / self.grid_size


def grid_ratio(x: jax.Array, mass: jax.Array) -> Ratio:
    """Regret and information where arm a has value `x[g]` with probability `mass[a, g]`.

    Values of two arms in the same cell of the grid are taken for a tie, half of it to each:
    cumulated masses count half of the cell.
    """
    below = jnp.cumsum(mass, axis=-1) - 0.5 * mass  # P(theta_b < x)
    partial = jnp.cumsum(mass * x[None], axis=-1) - 0.5 * mass * x[None]  # E[theta_b; theta_b < x]
    log_below = jnp.log(jnp.maximum(below, 1e-30))
    others = jnp.exp(jnp.sum(log_below, axis=0)[None] - log_below)  # [A, G], all but a below x
    weight = mass * others
    total = jnp.sum(weight)
    best = jnp.sum(weight, axis=-1) / total
    mean = mass @ x
    # E[theta_b | A* = a]: where a is at x and b below it, b has the mean of its part below x.
    conditional = (weight @ (partial / jnp.maximum(below, 1e-30)).T) / total
    own = weight @ x / total
    joint = jnp.where(jnp.eye(mass.shape[0], dtype=bool), own[:, None], conditional)
    conditional = joint / jnp.maximum(best, 1e-30)[:, None]
    information = best @ jnp.square(conditional - mean[None])
    return Ratio(jnp.maximum(jnp.sum(own) - mean, 0.0), information, best)


def minimiser(regret: jax.Array, information: jax.Array) -> jax.Array:
    """The distribution `[A]` that minimises (pi . regret)^2 / (pi . information).

    For arms i and j with q of the first, d = D_i - D_j and g = v_i - v_j, the derivative vanishes
    at q = D_j / d - 2 v_j / g, apart from where the regret is 0; else an end is best.
    """
    num, (d_i, d_j) = regret.shape[0], jnp.meshgrid(regret, regret, indexing="ij")
    v_i, v_j = jnp.meshgrid(information, information, indexing="ij")
    d, g = d_i - d_j, v_i - v_j
    # Without a difference in one of the two an end is best; the ends are tried anyway.
    flat = (d == 0.0) | (g == 0.0)
    stationary = d_j / jnp.where(flat, 1.0, d) - 2.0 * v_j / jnp.where(flat, 1.0, g)
    q = jnp.where(flat, 0.0, jnp.clip(stationary, 0.0, 1.0))
    candidates = jnp.stack([q, jnp.zeros_like(q), jnp.ones_like(q)])

    def ratio(q: jax.Array) -> jax.Array:
        gained = q * v_i + (1.0 - q) * v_j
        return jnp.square(q * d_i + (1.0 - q) * d_j) / jnp.maximum(gained, 1e-20)

    ratios = jax.vmap(ratio)(candidates)
    which, i, j = jnp.unravel_index(jnp.argmin(ratios), ratios.shape)
    share = candidates[which, i, j]
    arms = jnp.arange(num)
    return share * (arms == i) + (1.0 - share) * (arms == j)
