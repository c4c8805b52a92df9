"""Hashes of observations: spread, avalanche, and what must or must not change them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from xplore.parts.hashing import avalanche, hash_pytree, hash_words, words


def test_collisions_are_as_many_as_chance_has() -> None:
    # n distinct words in m buckets leave m (1 - (1 - 1/m)^n) of them used; 5 sigma around that.
    n = m = 1 << 16
    grid = jnp.stack(jnp.meshgrid(jnp.arange(256), jnp.arange(256)), -1).reshape(-1, 2)
    hashed = hash_words(grid.astype(jnp.uint32))
    assert np.unique(np.asarray(hashed)).size >= n - 4  # birthday: n^2 / 2^33 = 0.5 expected
    expected = m * (1 - (1 - 1 / m) ** n)
    for used in (hashed & (m - 1), hashed >> 16):
        assert abs(np.unique(np.asarray(used)).size - expected) < 5 * np.sqrt(0.1 * m)


def test_every_input_bit_flips_half_of_the_output() -> None:
    bit = np.arange(32, dtype=np.uint32)
    inputs = np.random.default_rng(0).integers(0, 2**32, (256, 3), dtype=np.uint32)
    hash_all = jax.jit(hash_words)
    for word in range(3):
        changed = np.repeat(inputs[:, None], 32, axis=1)
        changed[:, :, word] ^= np.uint32(1) << bit
        difference = np.asarray(hash_all(changed)) ^ np.asarray(hash_all(inputs))[:, None]
        rate = ((difference[..., None] >> bit) & 1).mean(0)  # [input bit, output bit], 256 inputs
        assert abs(rate.mean() - 0.5) < 0.01
        assert rate.min() > 0.25
        assert rate.max() < 0.75


def test_order_place_length_and_salt_matter() -> None:
    def one(values: list[int], salt: int = 0) -> int:
        return int(hash_words(jnp.asarray(values, jnp.uint32), salt))

    assert len({one([1, 2]), one([2, 1]), one([1, 2, 0]), one([0, 1, 2]), one([1, 2], 7)}) == 5
    # Two flips of the top bit would cancel in a plain sum of products.
    assert one([1 << 31, 1 << 31]) != one([0, 0])


def test_all_dtypes_and_shapes_hash_by_value() -> None:
    rows = 64
    numbers = np.arange(rows)
    arrays = {}
    for dtype in (np.uint8, np.int8, np.uint16, np.int32, np.uint32, np.float16, np.float32):
        for shape in ((), (3,), (2, 3, 1)):
            array = np.zeros((rows, *shape), dtype)
            array.reshape(rows, -1)[:, -1] = numbers
            arrays[f"{np.dtype(dtype)}{shape}"] = array
    hashes = jax.jit(lambda tree: {k: hash_pytree(v, 1) for k, v in tree.items()})(arrays)
    for name, hashed in hashes.items():
        assert np.unique(np.asarray(hashed)).size == rows, name
    scalars = hash_pytree({"a": jnp.arange(4) // 2, "b": jnp.array([True, False, True, False])}, 1)
    assert np.unique(np.asarray(scalars)).size == 4


def test_batch_axes_do_not_matter_and_zero_has_one_sign() -> None:
    obs = jnp.arange(2 * 3 * 5, dtype=jnp.uint8).reshape(2, 3, 5)
    together = hash_pytree(obs, 2)
    assert together.shape == (2, 3)
    assert int(together[1, 2]) == int(hash_pytree(obs[1, 2], 0))
    assert words(jnp.float32([-0.0]), 0).tolist() == words(jnp.float32([0.0]), 0).tolist()


def test_avalanche_is_a_bijection_on_a_sample() -> None:
    x = jnp.arange(1 << 16, dtype=jnp.uint32) * jnp.uint32(65_537)
    assert np.unique(np.asarray(avalanche(x))).size == x.size
