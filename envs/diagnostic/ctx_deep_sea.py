"""CtxDeepSea: DeepSea in many worlds, whose maps the agent can read, or learn by heart."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from xplore.contracts.component import component, static
from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import register_env
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, Key, Outcomes, Starts, TimeStep
from xplore.envs.families import compass
from xplore.envs.families.compass import Look

Mapping = Literal["random", "identity"]
# A cell by its bit, 0, 1 or hidden; with the diver in it, three more; and where there is no cell.
_HIDDEN, _WITH_DIVER, _NO_CELL = 2, 3, 6
STYLE: Final = compass.Style(
    letters="01?abc.",
    colours=(
        *((40, 60, 110), (150, 190, 235), (90, 90, 100)),
        *((235, 120, 40), (250, 225, 60), (235, 235, 235), (0, 0, 0)),
    ),
    shapes=("block",) * 3 + ("disc",) * 3 + ("block",),
)


class CtxDeepSeaState(NamedTuple):
    """The level, and where the diver is: int32 `[]` each; `row` is N when the episode is over."""

    words: jax.Array
    row: jax.Array
    column: jax.Array


@register_env("CtxDeepSea-3-16-v0", size=3)
@register_env("CtxDeepSea-6-16-v0", size=6)
@register_env("CtxDeepSea-8-16-v0", size=8)
@register_env("CtxDeepSea-10-16-v0", size=10)
@register_env("CtxDeepSea-12-16-v0", size=12)
@register_env("CtxDeepSea-16-16-v0", size=16)
@register_env("CtxDeepSea-3-16-Hidden-v0", size=3, hidden=True)
@register_env("CtxDeepSea-6-16-Hidden-v0", size=6, hidden=True)
@register_env("CtxDeepSea-8-16-Hidden-v0", size=8, hidden=True)
@register_env("CtxDeepSea-10-16-Hidden-v0", size=10, hidden=True)
@register_env("CtxDeepSea-12-16-Hidden-v0", size=12, hidden=True)
@register_env("CtxDeepSea-16-16-Hidden-v0", size=16, hidden=True)
@final
@component
class CtxDeepSea:
    """A DeepSea whose cells have a bit each, drawn per level: the action that goes right there.

    Rules and rewards are DeepSea's: going right costs 0.01/N, going right in the last column pays
    1, an episode lasts N steps. What differs is that each level has a map of its own, and that the
    observation shows it: float32, the one-hot cell `[N * N]` (all zeros on the floor), the bits of
    all cells `[N * N]` row by row (left out if `hidden`), and D bits that mean nothing.

    So there are two ways to learn. What is right in a level can be found out by exploring it, which
    says nothing of the next level; or it can be learned once and for all that the right action is
    the bit of one's cell, among N^2 + D bits.

    A level is uint32 `[ceil((N * N + D) / 32)]`: the packed bits of the map and the meaningless
    ones. Privileged: "position" and "index" are `row * N + column` (on the floor, that of the last
    row), "state" is the level's words, the row and the column. `starts` gives one level, whose bits
    are all 1: the values of cells are the same in all levels, though not the actions.

    Attributes:
        size: N.
        num_nuisance_bits: D.
        hidden: leaves the map out of the observation.
        mapping: `identity` makes action 1 right in every cell of every level, and all bits 1.
        unscaled_move_cost: what going right all the way costs.
        look: "symbols", or "rgb": 64 x 64 pixels, a tile for each bit of the map and, in rows
            below it, of the others; the diver's shows the bit of its cell too.

    What it tests: generalising over worlds against learning them by heart; with `hidden`, or
        `mapping="identity"`, exploration within a world alone; with N = 3, generalisation alone.
    Optimal return: 0.99.
    Random return: 2^-N - 0.005; `random_success` is 2^-N, also that of a policy that knows other
        levels by heart.
    Solved when: the mean return on held-out levels exceeds 0.9; `info["success"]` is the treasure.
    Reference: after Osband et al. (2020), Behaviour suite for reinforcement learning,
        arXiv:1908.03568, whose mapping of actions is the same in all episodes.
    Deviations: a family of our own, without an original.
    """

    size: int = 8
    num_nuisance_bits: int = 16
    hidden: bool = False
    mapping: Mapping = "random"
    unscaled_move_cost: float = static(default=0.01)
    look: Look = "symbols"

    def __post_init__(self) -> None:
        compass.check_look(self.look)
        if self.size < 1:
            raise ConfigError(f"CtxDeepSea: size is {self.size}: it must be at least 1")
        if self.num_nuisance_bits < 0:
            raise ConfigError(
                f"CtxDeepSea: num_nuisance_bits is {self.num_nuisance_bits}: it must be at least 0"
            )
        if self.mapping not in ("random", "identity"):
            raise ConfigError(
                f"CtxDeepSea: mapping is {self.mapping!r}: choose 'random' or 'identity'"
            )
        if self.look == "rgb" and self._picture_rows > compass.PIXELS:
            raise ConfigError(
                f"CtxDeepSea: look is 'rgb' with {self._picture_rows} rows of bits:"
                f" {compass.PIXELS} pixels show {compass.PIXELS} at most"
            )

    @property
    def optimal_return(self) -> float:
        """The return of the best policy, in every level."""
        return 1.0 - self.unscaled_move_cost

    @property
    def random_success(self) -> float:
        """The probability that uniformly random actions reach the treasure in an episode."""
        return 2.0**-self.size

    @property
    def random_return(self) -> float:
        """The expected return of uniformly random actions."""
        return self.random_success - 0.5 * self.unscaled_move_cost

    @property
    def level_bits(self) -> int:
        """Information in a level that can matter to anyone: a bit for each cell within reach."""
        return 0 if self.mapping == "identity" else self.size * (self.size + 1) // 2

    @property
    def relevant_bits(self) -> int:
        """Information in a level that the best policy needs: the bits of the diagonal."""
        return 0 if self.mapping == "identity" else self.size

    @property
    def _num_bits(self) -> int:
        return self.size**2 + self.num_nuisance_bits

    @property
    def _picture_rows(self) -> int:
        return -(-self._num_bits // self.size)

    @property
    def _num_words(self) -> int:
        return -(-self._num_bits // 32)

    def spec(self) -> EnvSpec:
        n = self.size
        width = n * n + self._num_bits - (n * n if self.hidden else 0)
        vector = Box((width,), "float32", 0.0, 1.0)
        return EnvSpec(
            name=f"CtxDeepSea-{n}-{self.num_nuisance_bits}" + ("-Hidden" if self.hidden else ""),
            observation=vector if self.look == "symbols" else compass.space("rgb", STYLE, n, n),
            action=Discrete(2),
            max_steps=n,
            privileged=Dict(
                {
                    "position": Discrete(n * n),
                    "index": Discrete(n * n),
                    "state": Box((self._num_words + 2,), "uint32", 0.0, 2.0**32 - 1),
                }
            ),
            num_layers=n,
        )

    def sample_level(self, key: Key) -> jax.Array:
        words = jax.random.bits(key, (self._num_words,), jnp.uint32)
        if self.mapping == "identity":
            words = words | jnp.asarray(self._map_mask())
        return words

    def reset_to_level(self, key: Key, level: jax.Array) -> tuple[CtxDeepSeaState, jax.Array]:
        state = CtxDeepSeaState(level, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
        return state, self._observe(state)

    def step(
        self, key: Key, state: CtxDeepSeaState, action: jax.Array
    ) -> tuple[CtxDeepSeaState, TimeStep]:
        after, reward, success = self._move(state, action)
        return after, TimeStep(
            obs=self._observe(after),
            reward=reward,
            terminated=after.row == self.size,
            truncated=jnp.zeros((), bool),
            info={"success": success},
        )

    def privileged(self, state: CtxDeepSeaState) -> dict[str, jax.Array]:
        index = jnp.minimum(state.row, self.size - 1) * self.size + state.column
        place = jnp.stack([state.row, state.column]).astype(jnp.uint32)
        return {
            "position": index,
            "index": index,
            "state": jnp.concatenate([state.words, place]),
        }

    def starts(self) -> Starts:
        return Starts(jnp.ones(1), jnp.full((1, self._num_words), 2**32 - 1, jnp.uint32))

    def outcomes(self, state: CtxDeepSeaState, action: jax.Array) -> Outcomes:
        after, reward, _ = self._move(state, action)
        ended = after.row == self.size
        after, reward, ended = jax.tree.map(lambda x: x[None], (after, reward, ended))
        return Outcomes(jnp.ones(1, jnp.float32), after, reward, ended)

    def mutate(self, key: Key, level: jax.Array) -> jax.Array:
        """`level` with one bit turned, of the map or a meaningless one; as hard as before."""
        least = self.size**2 if self.mapping == "identity" else 0
        if least == self._num_bits:
            return level
        bit = jax.random.randint(key, (), least, self._num_bits)
        here = jnp.arange(self._num_words) == bit // 32
        return level ^ jnp.where(here, jnp.uint32(1) << (bit % 32).astype(jnp.uint32), 0)

    def optimal_steps(self, level: jax.Array) -> jax.Array:
        """N, exact: the treasure is reached in the last step of an episode, in every level."""
        return jnp.full((), self.size, jnp.int32)

    def is_valid(self, level: jax.Array) -> jax.Array:
        """Every level is, but that all bits of an identity map are 1."""
        mask = jnp.asarray(self._map_mask())
        return jnp.all(level & mask == mask) | (self.mapping != "identity")

    def level_to_text(self, level: jax.Array) -> str:
        """The bits of the map, a line a row, and a line of all others."""
        bits = np.unpackbits(np.asarray(level, "<u4").view(np.uint8), bitorder="little")
        n, letters = self.size, "".join(map(str, bits))
        rows = [letters[i : i + n] for i in range(0, n * n, n)]
        return "\n".join([*rows, letters[n * n :]]).strip()

    def level_from_text(self, text: str) -> jax.Array:
        """The inverse of `level_to_text`."""
        letters = "".join(text.split())
        if len(letters) != 32 * self._num_words or set(letters) - {"0", "1"}:
            raise ConfigError(
                f"CtxDeepSea: a level is {32 * self._num_words} letters 0 and 1, not {text!r:.40}"
            )
        packed = np.packbits(np.array(list(letters), np.uint8), bitorder="little")
        return jnp.asarray(packed.view("<u4").astype(np.uint32))

    def action_map(self, level: jax.Array) -> jax.Array:
        """The action that goes right in each cell of a level: int32 `[N, N]`."""
        return self._bits(level)[: self.size**2].reshape(self.size, self.size).astype(jnp.int32)

    def _move(
        self, state: CtxDeepSeaState, action: jax.Array
    ) -> tuple[CtxDeepSeaState, jax.Array, jax.Array]:
        n = self.size
        cell = state.row * n + state.column
        word = state.words.at[cell // 32].get(mode="clip")
        right = action == (word >> (cell % 32).astype(jnp.uint32) & 1).astype(jnp.int32)
        success = right & (state.column == n - 1)
        reward = success - jnp.where(right, self.unscaled_move_cost / n, 0.0)
        column = jnp.clip(state.column + jnp.where(right, 1, -1), 0, n - 1)
        after = CtxDeepSeaState(state.words, state.row + 1, column)
        return after, reward.astype(jnp.float32), success

    def _observe(self, state: CtxDeepSeaState) -> jax.Array:
        if self.look == "rgb":
            return compass.picture(STYLE, self._codes(state))
        n = self.size
        index = jnp.arange(n * n)
        cell = (index == state.row * n + state.column).astype(jnp.float32)
        bits = self._bits(state.words).astype(jnp.float32)
        return jnp.concatenate([cell, bits[n * n :] if self.hidden else bits])

    def _codes(self, state: CtxDeepSeaState) -> jax.Array:
        """The numbers of tiles `[rows, N]` of `STYLE`."""
        n = self.size
        bits = self._bits(state.words).astype(jnp.int32)
        cell = jnp.where(self.hidden, _HIDDEN, bits[: n * n])
        here = jnp.arange(n * n) == state.row * n + state.column
        shown = [jnp.where(here, cell + _WITH_DIVER, cell), bits[n * n :]]
        rest = jnp.full(self._picture_rows * n - self._num_bits, _NO_CELL)
        return jnp.concatenate([*shown, rest]).reshape(-1, n)

    def _bits(self, words: jax.Array) -> jax.Array:
        """All bits of a level, those of the map first: uint32 `[N * N + D]`."""
        unpacked = words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None, :] & 1
        return unpacked.reshape(-1)[: self._num_bits]

    def _map_mask(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
        is_map = np.arange(32 * self._num_words) < self.size**2
        return np.packbits(is_map, bitorder="little").view("<u4").astype(np.uint32)
