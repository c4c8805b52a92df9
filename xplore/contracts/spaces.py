"""What an observation or an action looks like: shapes, dtypes and bounds, without arrays.

Spaces are hashable values and pytree leaves, so they can be static parts of a compiled program.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Discrete:
    """An integer in `[0, num)`: int32 of shape `[]`."""

    num: int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> str:
        return "int32"

    def sample(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num, jnp.int32)


@dataclasses.dataclass(frozen=True)
class Box:
    """An array of `shape` and `dtype` with every entry in `[low, high]` (infinite if unbounded)."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float = -math.inf
    high: float = math.inf

    def sample(self, key: jax.Array) -> jax.Array:
        if jnp.issubdtype(self.dtype, jnp.integer):
            info = np.iinfo(self.dtype)
            low, high = max(self.low, info.min), min(self.high, info.max)
            bits = jax.random.randint(key, self.shape, int(low), int(min(high, 2**31 - 2)) + 1)
            return bits.astype(self.dtype)
        low, high = max(self.low, -10.0), min(self.high, 10.0)
        return jax.random.uniform(key, self.shape, self.dtype, low, high)


@dataclasses.dataclass(frozen=True)
class Symbolic:
    """A uint8 array whose last axis holds symbols: channel `c` is in `[0, cardinalities[c])`.

    A MiniGrid view is `Symbolic((7, 7, 3), (11, 6, 4))`: object, colour and state of a cell.
    """

    shape: tuple[int, ...]
    cardinalities: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return "uint8"

    def sample(self, key: jax.Array) -> jax.Array:
        bits = jax.random.bits(key, self.shape, jnp.uint32)
        high = jnp.broadcast_to(jnp.asarray(self.cardinalities, jnp.uint32), self.shape)
        return (bits % high).astype(jnp.uint8)


@dataclasses.dataclass(frozen=True, init=False)
class Dict:
    """Named spaces; its values are plain dicts. Iteration goes by the sorted names."""

    items: tuple[tuple[str, Space], ...]

    def __init__(
        self, spaces: Mapping[str, Space] | None = None, *, items: tuple[Any, ...] = ()
    ) -> None:
        pairs = spaces.items() if spaces is not None else items
        object.__setattr__(self, "items", tuple(sorted((str(k), v) for k, v in pairs)))

    def __getitem__(self, name: str) -> Space:
        return dict(self.items)[name]

    def __contains__(self, name: object) -> bool:
        return name in dict(self.items)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.items)

    def sample(self, key: jax.Array) -> dict[str, Any]:
        keys = jax.random.split(key, max(len(self.items), 1))
        return {name: space.sample(k) for (name, space), k in zip(self.items, keys, strict=False)}


Space = Discrete | Box | Symbolic | Dict


def contains(space: Space, value: Any) -> bool:
    """Whether a concrete value (one, or a batch of them) lies in `space`, dtype included."""
    if isinstance(space, Dict):
        return (
            isinstance(value, Mapping)
            and sorted(value) == list(space.names)
            and all(contains(s, value[name]) for name, s in space.items)
        )
    array = jnp.asarray(value)
    if (
        str(array.dtype) != space.dtype
        or array.shape[array.ndim - len(space.shape) :] != space.shape
    ):
        return False
    if isinstance(space, Discrete):
        return bool(jnp.all((array >= 0) & (array < space.num)))
    if isinstance(space, Symbolic):
        symbols = array.astype(jnp.int32)  # 256 symbols do not fit the comparison in a byte
        return all(bool(jnp.all(symbols[..., c] < n)) for c, n in enumerate(space.cardinalities))
    # A bound such as 2**32 - 1 does not fit every dtype: compare as floats.
    wide = array.astype(jnp.float32)
    return bool(jnp.all((wide >= space.low) & (wide <= space.high)))


def shape_dtype(space: Space) -> Any:
    """`jax.ShapeDtypeStruct`s of one value of `space`, as a pytree."""
    if isinstance(space, Dict):
        return {name: shape_dtype(s) for name, s in space.items}
    return jax.ShapeDtypeStruct(space.shape, jnp.dtype(space.dtype))
