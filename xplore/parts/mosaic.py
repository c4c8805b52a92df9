"""Pictures of boards, a tile for each cell."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xplore.parts.apart import apart


def mosaic(tiles: npt.NDArray[np.uint8], pixels: int | None = None) -> Callable[..., jax.Array]:
    """A function that paints boards with `tiles`; to be made once for each set of them.

    It is compiled apart: fused, what a board comes from would be computed again for each pixel.

    Args:
        tiles: `[K, size, size, 3]`.
        pixels: side of the picture, the board in the middle of a black frame; None: no frame.

    Returns:
        Of numbers of tiles, int32 `[H, W]`: a picture, uint8 `[H * size, W * size, 3]` or
        `[pixels, pixels, 3]`.
    """
    size = tiles.shape[1]

    @apart
    def paint(board: jax.Array) -> jax.Array:
        rows, columns = board.shape
        found = jnp.asarray(tiles).at[board].get(mode="promise_in_bounds")
        image = found.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)
        if pixels is None:
            return image
        edges = [divmod(pixels - num * size, 2) for num in board.shape]
        return jnp.pad(image, (*((half, half + odd) for half, odd in edges), (0, 0)))

    return paint
