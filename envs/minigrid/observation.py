"""What an agent of a MiniGrid task observes, by choice."""

from __future__ import annotations

import functools
from typing import Final, Literal, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.contracts.component import component
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import PyTree
from xplore.envs.minigrid import cells, render
from xplore.envs.minigrid.task import State, Task
from xplore.envs.minigrid.view import MAX_VIEW_SIZE, VIEW_SIZE, partial_view
from xplore.parts.apart import apart

Image = Literal["partial", "full", "one_hot", "compact", "rgb", "rgb_full", "rgb64"]
IMAGES: tuple[Image, ...] = get_args(Image)
_SYMBOLS = (cells.NUM_OBJECTS, len(cells.COLOURS), cells.NUM_DOOR_STATES)
# Upstream's agent in a full view: its object number, red, and its direction as the state.
_AGENT_OBJECT = 10
_NUM_DIRECTIONS = 4
_PIXELS: Final = 64


@final
@component
class View:
    """What is observed of a state.

    Attributes:
        image: "partial", upstream's egocentric image `[size, size, 3]` of object, colour and door
            state; "one_hot" and "compact", the same as `[size, size, 20]` of zeros and ones and as
            a byte of `cells` per cell `[size, size, 1]`; "full", the whole grid
            `[width, height, 3]` with the agent in it; "rgb" and "rgb_full", a picture of either,
            `[rows * tile, columns * tile, 3]`; "rgb64", the whole grid, evenly lit, in the middle
            of `[64, 64, 3]`.
        size: side of the egocentric view; odd, 3 to 9.
        see_through_walls: whether walls and closed doors leave the view open; None: as the task
            has it upstream.
        direction: whether the agent's direction is observed too.
        mission: whether the mission is observed too, as numbers of words (`words`), 0 after its
            end.
        tile_size: pixels of a side of a cell in pictures.

    With `direction` or `mission` the observation is a dict with the leaf `image` and theirs.
    """

    image: Image = "partial"
    size: int = VIEW_SIZE
    see_through_walls: bool | None = None
    direction: bool = False
    mission: bool = False
    tile_size: int = 8

    def __post_init__(self) -> None:
        if self.image not in IMAGES:
            raise ConfigError(
                f"view.image is {self.image!r}: it must be one of {', '.join(IMAGES)}"
            )
        if self.size % 2 == 0 or not 3 <= self.size <= MAX_VIEW_SIZE:
            raise ConfigError(f"view.size is {self.size}: it must be odd, 3 to {MAX_VIEW_SIZE}")
        if not 3 <= self.tile_size <= 64:
            raise ConfigError(f"view.tile_size is {self.tile_size}: it must be 3 to 64")

    def sees_through_walls(self, task: Task) -> bool:
        """Whether walls and closed doors leave the view of `task` open."""
        own = self.see_through_walls
        return task.see_through_walls if own is None else own

    def space(self, task: Task) -> Space:
        """The space of what is observed in `task`."""
        image = self._image_space(task)
        if not (self.direction or self.mission):
            return image
        spaces: dict[str, Space] = {"image": image}
        if self.direction:
            spaces["direction"] = Discrete(_NUM_DIRECTIONS)
        if self.mission:
            shape = (mission_words(task.missions).shape[1], 1)
            spaces["mission"] = Symbolic(shape, (len(words(task.missions)) + 1,))
        return Dict(spaces)

    def _image_space(self, task: Task) -> Space:
        size, tile = self.size, self.tile_size
        match self.image:
            case "partial":
                return Symbolic((size, size, 3), _SYMBOLS)
            case "one_hot":
                return Box((size, size, _num_one_hot()), "uint8", 0, 1)
            case "compact":
                return Symbolic((size, size, 1), (256,))
            case "full":
                symbols = (_AGENT_OBJECT + 1, len(cells.COLOURS), _NUM_DIRECTIONS)
                return Symbolic((task.width, task.height, 3), symbols)
            case "rgb":
                return Box((size * tile, size * tile, 3), "uint8", 0, 255)
            case "rgb64":
                return Box((_PIXELS, _PIXELS, 3), "uint8", 0, 255)
            case "rgb_full":
                return Box((task.height * tile, task.width * tile, 3), "uint8", 0, 255)

    def observe(self, task: Task, state: State) -> PyTree:
        """What is observed of a state of `task`."""
        image = self._image(task, state)
        if not (self.direction or self.mission):
            return image
        observed: dict[str, jax.Array] = {"image": image}
        if self.direction:
            observed["direction"] = state.direction
        if self.mission:
            sentences = jnp.asarray(mission_words(task.missions))
            observed["mission"] = sentences[task.mission(state.extra)][:, None]
        return observed

    def _image(self, task: Task, state: State) -> jax.Array:
        shape = task.width, task.height
        see_through = self.sees_through_walls(task)
        if self.image == "full":
            return full_image(shape, state)
        if self.image == "rgb_full":
            return render.picture(shape, state, self.tile_size, self.size, see_through)
        if self.image == "rgb64":
            tile = _PIXELS // max(shape)
            return render.picture(shape, state, tile, highlight=False, pixels=_PIXELS)
        if self.image == "partial":
            words = partial_view(shape, state, self.size, see_through, _word_of)
            return _parts(words.ravel()).reshape(*words.shape, 3)
        view = partial_view(shape, state, self.size, see_through)
        if self.image == "compact":
            return view[..., None]
        if self.image == "rgb":
            return render.view_picture(view, self.tile_size)
        return jnp.asarray(_one_hot_table())[view.astype(jnp.int32)]


@functools.cache
def _words() -> npt.NDArray[np.uint16]:
    """`cells.UPSTREAM` with the three numbers of a byte in one word."""
    return cells.UPSTREAM.astype(np.uint16) @ np.array([1, 1 << 4, 1 << 7], np.uint16)


def _word_of(view: jax.Array) -> jax.Array:
    return jnp.asarray(_words())[view.astype(jnp.int32)]


@apart
def _parts(words: jax.Array) -> jax.Array:
    # What is read from a table goes a cell at a time, what is shifted goes in wide registers: one
    # look-up of a cell and three shifts take half the time of three look-ups.
    shift, mask = np.array([[0, 4, 7], [15, 7, 3]], np.uint16)
    return (words[:, None] >> shift[None] & mask[None]).astype(jnp.uint8)


def full_image(shape: tuple[int, int], state: State) -> jax.Array:
    """Upstream's fully observable image: uint8 `[width, height, 3]`, the agent in its cell."""
    width, height = shape
    agent = _AGENT_OBJECT | state.direction.astype(jnp.uint16) << 7
    here = np.arange(width * height) == state.position
    shown = jnp.where(here, agent, jnp.asarray(_words())[state.grid.astype(jnp.int32)])
    return _parts(shown.reshape(height, width).T.ravel()).reshape(width, height, 3)


def words(missions: tuple[str, ...]) -> tuple[str, ...]:
    """The words of `missions`, sorted; the number of a word in a mission is its index plus 1.

    >>> words(("go to the goal", "go to the lava"))
    ('go', 'goal', 'lava', 'the', 'to')
    """
    return tuple(sorted({word for mission in missions for word in _split(mission)}))


@functools.cache
def mission_words(missions: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """`[missions, longest]` of word numbers, 0 after the end of a mission.

    >>> mission_words(("go to the goal", "the lava"))
    array([[1, 5, 4, 2],
           [4, 3, 0, 0]], dtype=uint8)
    """
    number = {word: i + 1 for i, word in enumerate(words(missions))}
    found = np.zeros((len(missions), max(len(_split(m)) for m in missions)), np.uint8)
    for row, mission in zip(found, missions, strict=True):
        numbers = [number[word] for word in _split(mission)]
        row[: len(numbers)] = numbers
    return found


def _split(mission: str) -> list[str]:
    return mission.replace(",", " ").split()


def _num_one_hot() -> int:
    return _one_hot_table().shape[1]


@functools.cache
def _one_hot_table() -> npt.NDArray[np.uint8]:
    # Upstream counts its 11 objects, the agent's number among them.
    sizes = (_AGENT_OBJECT + 1, len(cells.COLOURS), cells.NUM_DOOR_STATES)
    # Bytes that stand for nothing may have any number: no row of zeros and ones is theirs.
    parts = [cells.UPSTREAM[:, c, None] == np.arange(n) for c, n in enumerate(sizes)]
    return np.concatenate(parts, axis=1).astype(np.uint8)
