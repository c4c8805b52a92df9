"""Counts of flags, against NumPy's cumulative sum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.parts.ranks import running_count


# No multiple of a word; few words, which are compared with each other; many, which are summed.
@pytest.mark.parametrize("num", [5, 32, 96, 64 * 32, 65 * 32])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_counts_are_cumulative_sums(num: int, rate: float):
    flags = np.random.default_rng(num).random(num) < rate
    counts = jax.jit(running_count)(jnp.asarray(flags))
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, np.cumsum(flags))
