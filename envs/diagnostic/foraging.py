"""Foraging: a world without end, whose food is eaten, grows again, and moves elsewhere."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete, Symbolic
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep

Array = npt.NDArray[Any]
_DX, _DY = (0, 1, 0, -1, 0), (0, 0, 1, 0, -1)  # stay, right, down, left, up
NUM_ACTIONS = 5


class ForagingState(NamedTuple):
    """The forager's cell, int32 `[]`, and of each patch `[P]` its cell, quality and ripeness."""

    position: jax.Array
    cell: jax.Array
    quality: jax.Array
    ripe: jax.Array


@final
@component
class Foraging:
    """An N x N torus with P patches of food; see `foraging`. A level is a `ForagingState`."""

    size: int = 16
    num_patches: int = 8
    qualities: tuple[float, ...] = static(default=(0.25, 0.5, 1.0))
    hazard: float = static(default=0.02)
    regrowth: float = static(default=0.1)
    view_size: int = 5

    def __post_init__(self) -> None:
        if self.num_patches < 1 or not self.qualities:
            raise ConfigError(
                "Foraging: give at least one patch, num_patches, and one of qualities"
            )
        if self.view_size % 2 == 0 or not 1 <= self.view_size <= self.size:
            raise ConfigError(
                f"Foraging: view_size is {self.view_size}: it must be odd, and at most size ="
                f" {self.size}"
            )
        for name in ("hazard", "regrowth"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(
                    f"Foraging: {name} is {getattr(self, name)}: it is a probability, from 0 to 1"
                )

    def spec(self) -> EnvSpec:
        cells, p, v = self.size**2, self.num_patches, self.view_size
        return EnvSpec(
            name=f"Foraging-{self.size}",
            observation=Symbolic((v, v, 1), (2 + len(self.qualities),)),
            action=Discrete(NUM_ACTIONS),
            max_steps=0,
            stochastic=True,
            privileged=Dict(
                {
                    "position": Discrete(cells),
                    "state": Box((1 + 3 * p,), "int32", 0, max(cells, len(self.qualities))),
                }
            ),
        )

    def sample_level(self, key: Key) -> ForagingState:
        key_position, key_cell, key_quality = jax.random.split(key, 3)
        cells, shape = self.size**2, (self.num_patches,)
        return ForagingState(
            jax.random.randint(key_position, (), 0, cells, jnp.int32),
            jax.random.randint(key_cell, shape, 0, cells, jnp.int32),
            jax.random.randint(key_quality, shape, 0, len(self.qualities), jnp.int32),
            jnp.ones(shape, bool),
        )

    def reset_to_level(self, key: Key, level: ForagingState) -> tuple[ForagingState, jax.Array]:
        return level, self._observe(level)

    def step(
        self, key: Key, state: ForagingState, action: jax.Array
    ) -> tuple[ForagingState, TimeStep]:
        key_grow, key_moves, key_which, key_cell, key_quality = jax.random.split(key, 5)
        after, reward = self.eaten(state, action)
        grows = jax.random.uniform(key_grow, (self.num_patches,)) < self.regrowth
        moves = jax.random.uniform(key_moves) < self.hazard
        which = jax.random.randint(key_which, (), 0, self.num_patches)
        cell = jax.random.randint(key_cell, (), 0, self.size**2, jnp.int32)
        quality = jax.random.randint(key_quality, (), 0, len(self.qualities), jnp.int32)
        after = self.grown(after, grows, moves, which, cell, quality)
        return after, TimeStep(
            obs=self._observe(after),
            reward=reward,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            info={"success": reward >= max(self.qualities), "eaten": reward},
        )

    def privileged(self, state: ForagingState) -> dict[str, jax.Array]:
        parts = (state.position[None], state.cell, state.quality, state.ripe.astype(jnp.int32))
        return {"position": state.position, "state": jnp.concatenate(parts)}

    def eaten(self, state: ForagingState, action: jax.Array) -> tuple[ForagingState, jax.Array]:
        """The state after a move and the meal it leads to, and what the meal is worth."""
        n = self.size
        x = (state.position % n + jnp.asarray(_DX)[action]) % n
        y = (state.position // n + jnp.asarray(_DY)[action]) % n
        position = y * n + x
        here = state.ripe & (state.cell == position)
        worth = jnp.asarray(self.qualities, jnp.float32)[state.quality]
        after = state._replace(position=position, ripe=state.ripe & ~here)
        return after, jnp.sum(jnp.where(here, worth, 0.0))

    def grown(
        self,
        state: ForagingState,
        grows: jax.Array,
        moves: jax.Array,
        which: jax.Array,
        cell: jax.Array,
        quality: jax.Array,
    ) -> ForagingState:
        """What a world makes of its draws: patches that ripen, and one that is elsewhere now."""
        redrawn = moves & (jnp.arange(self.num_patches) == which)
        return ForagingState(
            state.position,
            jnp.where(redrawn, cell, state.cell),
            jnp.where(redrawn, quality, state.quality),
            state.ripe | grows | redrawn,
        )

    def _observe(self, state: ForagingState) -> jax.Array:
        """The torus around the forager: 0 nothing, 1 an eaten patch, 2 + the quality of a ripe."""
        n, half = self.size, self.view_size // 2
        shown = jnp.where(state.ripe, 2 + state.quality, 1)
        offset = jnp.arange(-half, half + 1)
        x, y = (state.position % n + offset) % n, (state.position // n + offset) % n
        seen = (y[:, None] * n + x[None, :])[:, :, None] == state.cell[None, None, :]
        # Where patches share a cell, the best shows.
        best = jnp.max(jnp.where(seen, shown[None, None, :], 0), axis=-1)
        return best[..., None].astype(jnp.uint8)


@final
@component
class SmallForaging:
    """Foraging small enough to write down: its "index" is where patches are from the forager.

    A torus has no landmarks: states that differ by a shift of everything are one. The index is made
    of each patch's offset from the forager, its quality and its ripeness, `(2 Q N^2)^P` in all.
    """

    world: Foraging

    def __post_init__(self) -> None:
        if self._num_states > 1 << 16:
            raise ConfigError(
                f"Foraging: {self._num_states:,} states are too many to write down: lower size,"
                " num_patches or the number of qualities, or leave out `finite`"
            )

    @property
    def _num_states(self) -> int:
        return (2 * len(self.world.qualities) * self.world.size**2) ** self.world.num_patches

    @property
    def optimal_average_reward(self) -> float:
        """Of a step in the long run, by the best policy that sees the whole world: exact."""
        return _average_reward(self.world, best=True)

    @property
    def random_average_reward(self) -> float:
        """Of a step in the long run, by uniformly random actions: exact."""
        return _average_reward(self.world, best=False)

    def spec(self) -> EnvSpec:
        spec = self.world.spec()
        told = {**dict(spec.privileged.items), "index": Discrete(self._num_states)}
        return dataclasses.replace(spec, privileged=Dict(told))

    def sample_level(self, key: Key) -> ForagingState:
        return self.world.sample_level(key)

    def reset_to_level(self, key: Key, level: ForagingState) -> tuple[ForagingState, jax.Array]:
        return self.world.reset_to_level(key, level)

    def step(
        self, key: Key, state: ForagingState, action: jax.Array
    ) -> tuple[ForagingState, TimeStep]:
        return self.world.step(key, state, action)

    def privileged(self, state: ForagingState) -> dict[str, jax.Array]:
        n, num_qualities = self.world.size, len(self.world.qualities)
        x = (state.cell % n - state.position % n) % n
        y = (state.cell // n - state.position // n) % n
        patch = ((y * n + x) * num_qualities + state.quality) * 2 + state.ripe
        index = jnp.int32(0)
        for i in range(self.world.num_patches):
            index = index * (2 * num_qualities * n * n) + patch[i]
        return {**self.world.privileged(state), "index": index}

    def starts(self) -> Starts:
        kinds = self.world.size**2 * len(self.world.qualities)
        every = itertools.product(range(kinds), repeat=self.world.num_patches)
        patch = np.array(list(every), np.int32)
        num = len(patch)
        cell, quality = np.divmod(patch, len(self.world.qualities))
        levels = ForagingState(
            jnp.zeros(num, jnp.int32),
            jnp.asarray(cell, jnp.int32),
            jnp.asarray(quality, jnp.int32),
            jnp.ones(patch.shape, bool),
        )
        return Starts(jnp.full(num, 1.0 / num, jnp.float32), levels)

    def outcomes(self, state: ForagingState, action: jax.Array) -> Outcomes:
        w = self.world
        after, reward = w.eaten(state, action)
        # Every subset of patches may ripen; then nothing moves, or one patch to one of all places.
        grows = np.array(list(itertools.product((False, True), repeat=w.num_patches)))
        likely = np.where(grows, w.regrowth, 1.0 - w.regrowth).prod(1)
        sizes = (w.num_patches, w.size**2, len(w.qualities))
        elsewhere = np.indices(sizes, np.int32).reshape(3, -1)
        which, cell, quality = np.pad(elsewhere, ((0, 0), (1, 0)))
        moved = np.full(len(which), w.hazard / elsewhere.shape[1])
        moved[0] = 1.0 - w.hazard
        first, second = np.indices((len(grows), len(which))).reshape(2, -1)
        draws = (grows[first], second > 0, which[second], cell[second], quality[second])
        states = jax.vmap(w.grown, (None, 0, 0, 0, 0, 0))(after, *map(jnp.asarray, draws))
        probability = jnp.asarray(likely[first] * moved[second], jnp.float32)
        return Outcomes(
            probability=probability,
            state=states,
            reward=jnp.broadcast_to(reward, probability.shape),
            terminated=jnp.zeros(probability.shape, bool),
        )


@functools.cache
def _average_reward(world: Any, best: bool) -> float:
    """By value iteration on differences; of each patch, axes (offset y, x, quality, ripe)."""
    n, p, num_q = world.size, world.num_patches, len(world.qualities)
    axes = np.arange(4 * p).reshape(p, 4)
    value = np.zeros((n, n, num_q, 2) * p)
    change = np.array([0.0, 1.0])
    while np.ptp(change) >= 1e-9:
        grown = _ripened(value, axes[:, 3], world.regrowth)
        eaten = (1.0 - world.hazard) * grown
        for i in range(p):
            moved = np.take(value, [1], axes[i, 3]).mean(tuple(axes[i, :3]), keepdims=True)
            others = _ripened(moved, np.delete(axes[:, 3], i), world.regrowth)
            eaten = eaten + world.hazard / p * others
        for y, x, quality, ripe in axes:  # by where one has moved to: what is there is eaten
            here: list[slice] = [slice(None)] * (4 * p)
            here[y] = here[x] = slice(0, 1)
            gone, there = list(here), list(here)
            gone[ripe], there[ripe] = slice(0, 1), slice(1, 2)
            worth = np.reshape(world.qualities, [-1 if a == quality else 1 for a in range(4 * p)])
            eaten[tuple(there)] = worth + eaten[tuple(gone)]
        of_action = [  # a patch at offset x is at x - 1 after a move to the right
            np.roll(eaten, [dy] * p + [dx] * p, (*axes[:, 0], *axes[:, 1]))
            for dx, dy in zip(_DX, _DY, strict=True)
        ]
        new = np.max(of_action, axis=0) if best else np.mean(of_action, axis=0)
        change = new - value
        value = new - new.flat[0]
    return float((change.max() + change.min()) / 2)


def _ripened(value: Array, axes: Array, probability: float) -> Array:
    """The expected value before the patches with these axes of ripeness ripen, or do not."""
    for axis in axes:
        gone, there = np.take(value, [0], axis), np.take(value, [1], axis)
        gone = (1.0 - probability) * gone + probability * there
        value = np.concatenate([gone, there], axis=axis)
    return value


@register_env("Foraging-v0")
@register_env(
    "Foraging-Tiny-v0", size=4, num_patches=2, qualities=(0.25, 1.0), view_size=3, finite=True
)
def foraging(
    size: int = 16,
    num_patches: int = 8,
    qualities: tuple[float, ...] = (0.25, 0.5, 1.0),
    hazard: float = 0.02,
    regrowth: float = 0.1,
    view_size: int = 5,
    finite: bool = False,
) -> Foraging | SmallForaging:
    """A forager on an N x N torus: what it knows grows old, so that exploring never ends.

    Each patch of food has a cell, a quality and is ripe or not. Moving to the cell of a ripe patch,
    or staying in it, eats it and pays its quality; an eaten patch ripens with probability
    `regrowth` a step. With probability `hazard` a step, one patch is moved to another cell, ripe
    and with another quality, all uniform. Actions: stay, right, down, left, up.

    An episode never ends. The observation is the `view_size` squared part of the torus around the
    forager, in symbols: nothing, an eaten patch, or the quality of a ripe one.

    Args:
        size: N.
        num_patches: patches of food.
        qualities: what a meal may pay.
        hazard: probability that some patch moves, in a step.
        regrowth: probability that an eaten patch ripens, in a step.
        view_size: side of the view, odd.
        finite: lists starts and outcomes, for worlds of few states (a `SmallForaging`).

    What it tests: lifelong exploration: a place is worth seeing again after a while.
    Optimal return: there is none, as nothing ends; `optimal_average_reward` of a small world is
        exact, of a policy that sees the whole world.
    Random return: `random_average_reward`, likewise.
    Solved when: the average reward exceeds 0.8 of the optimal one; `info["success"]` is a meal of
        the best quality or more, `info["eaten"]` the reward.
    Reference: a task of our own; on patches, Charnov (1976), Optimal foraging, the marginal value
        theorem.
    Deviations: no original to deviate from.
    """
    world = Foraging(size, num_patches, tuple(qualities), hazard, regrowth, view_size)
    return SmallForaging(world) if finite else world
