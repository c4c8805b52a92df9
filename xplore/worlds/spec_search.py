"""Which options a level is drawn with: those in which success is neither sure nor hopeless."""

from __future__ import annotations

import dataclasses
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError, check_least
from xplore.contracts.registry import register_world_sampler
from xplore.contracts.types import Environment, Key, LevelBatch, Metrics, Trajectory, Varying
from xplore.parts.level_set import in_proportion, outcomes_at
from xplore.parts.levels import level_key

_MOST_CELLS = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SpecSearchState:
    """Of each cell of options a running mean of success, float32 `[C]`.

    Attributes:
        success: see above.
        names: of the options; static.
    """

    success: jax.Array
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})


@register_world_sampler("spec_search")
@final
@component
class SpecSearch:
    """P(cell) = eps / C + (1 - eps) p(1 - p) / sum, of cells of options with mean success p.

    It searches a spec's parameters: the environment's levels differ in options that have ranges
    (`Varying`, such as a TOML file with `[ranges]`), and each range is cut into `num_bins` parts,
    C = num_bins^options cells in all. A level is drawn by a new seed with options that are uniform
    in their cell. A cell begins at p = 1/2, so that all are tried first.

    Attributes:
        num_bins: parts of each option's range.
        uniform: eps.
        rate: step size of the means, for each rollout in which an episode of the cell ended.

    Reference: Portelas et al. (2020), Teacher algorithms for curriculum learning of deep RL in
    continuously parameterized environments, arXiv:1910.07224 (a teacher over parameters);
    p(1 - p): Rutherford et al. (2024), No regrets, arXiv:2408.15099.
    Deviations from the papers: a grid in place of a mixture of Gaussians, learnability in place of
    absolute learning progress, and it is measured in training, not in tries of its own.
    """

    num_bins: int = 8
    uniform: float = 0.2
    rate: float = 0.2

    def __post_init__(self) -> None:
        check_least("spec_search", self, num_bins=2)
        for name in ("uniform", "rate"):
            value = getattr(self, name)
            if isinstance(value, float) and not 0 < value <= 1:
                raise ConfigError(
                    f"spec_search: {name} is {value}: it must be above 0 and at most 1"
                )

    def init(self, key: Key, env: Environment) -> SpecSearchState:
        if not isinstance(env, Varying):
            raise ConfigError(
                f"spec_search looks for options, and all levels of {env.spec().name} are drawn with"
                " the same: give a spec with [ranges], or Varied(env, names, low, high)"
            )
        num_cells = self.num_bins ** len(env.names)
        if num_cells > _MOST_CELLS:
            raise ConfigError(
                f"spec_search: {self.num_bins} bins of {len(env.names)} options are {num_cells:,}"
                f" cells: with fewer bins there would be at most {_MOST_CELLS:,}"
            )
        return SpecSearchState(jnp.full(num_cells, 0.5, jnp.float32), tuple(env.names))

    def sample(
        self, key: Key, state: SpecSearchState, env: Any, num_levels: int
    ) -> tuple[SpecSearchState, LevelBatch]:
        key_cell, key_seed = jax.random.split(key)
        shape = (num_levels,)
        cell = jax.random.categorical(key_cell, jnp.log(self._weights(state)), shape=shape)
        num_cells = state.success.size
        # The cell is the rest of an id by C: an id names one level, and update() sees its cell.
        seed = jax.random.bits(key_seed, shape, jnp.uint32) >> 2
        ids = seed - seed % num_cells + cell.astype(jnp.uint32)
        return state, LevelBatch(jax.vmap(lambda i: self._level(env, i, num_cells))(ids), ids)

    def update(
        self, state: SpecSearchState, batch: LevelBatch, traj: Trajectory
    ) -> tuple[SpecSearchState, Metrics]:
        num_cells = state.success.size
        episodes, successes = outcomes_at(traj.level_id % num_cells, num_cells, traj)
        rate = successes / jnp.maximum(episodes, 1.0)
        step = jnp.where(episodes > 0, self.rate, 0.0)
        state = dataclasses.replace(state, success=state.success + step * (rate - state.success))
        weights = self._weights(state)
        places = (self._places(num_cells, len(state.names)) + 0.5) / self.num_bins
        means = weights @ places  # of each option, as a share of its range
        told = {f"share_of_{name}": means[i] for i, name in enumerate(state.names)}
        entropy = -jnp.sum(weights * jnp.log(weights)) / np.log(num_cells)
        return state, {"entropy": entropy, **told}

    def _weights(self, state: SpecSearchState) -> jax.Array:
        """The chance of each cell, `[C]`."""
        return in_proportion(state.success * (1.0 - state.success), self.uniform)

    def _places(self, num_cells: int, num_options: int) -> np.ndarray:
        """Where each cell is along each option: whole numbers `[C, options]`."""
        cells = np.arange(num_cells)[:, None]
        return cells // self.num_bins ** np.arange(num_options) % self.num_bins

    def _level(self, env: Any, level_id: jax.Array, num_cells: int) -> Any:
        key_values, key_level = jax.random.split(level_key(level_id))
        place = jnp.asarray(self._places(num_cells, len(env.names)))[level_id % num_cells]
        low, high = (jnp.asarray(bounds, jnp.float32) for bounds in (env.low, env.high))
        share = (place + jax.random.uniform(key_values, low.shape)) / self.num_bins
        return env.sample_level_with(key_level, low + (high - low) * share)
