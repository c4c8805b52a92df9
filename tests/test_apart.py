"""What is compiled apart gives the same numbers, in every way in which it can be called."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from xplore.parts.apart import apart


@apart
def _both(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(x > 1, x, y), x * y


def _use(x: jax.Array, y: jax.Array) -> jax.Array:
    a, b = _both(x + 1, y)
    return a + b


def test_the_numbers_are_the_same_alone_compiled_and_mapped() -> None:
    x, y = jnp.arange(6), jnp.arange(6)[::-1]
    expected = np.where(x + 1 > 1, x + 1, y) + (x + 1) * y
    mapped = jax.vmap(_use)
    for found in (_use(x, y), jax.jit(_use)(x, y), mapped(x, y), jax.jit(mapped)(x, y)):
        np.testing.assert_array_equal(found, expected)
    twice = jax.jit(jax.vmap(mapped, (0, None)))(x.reshape(2, 3), y[:3])
    np.testing.assert_array_equal(twice[0], expected[:3])


def test_what_is_apart_is_not_fused() -> None:
    if jax.default_backend() != "cpu":
        return
    compiled = jax.jit(jax.vmap(_use)).lower(jnp.arange(6), jnp.arange(6)).compile()
    assert " call(" in str(compiled.as_text())
