"""Visit counts, lifelong and episodic, held against a NumPy walk through time."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xplore.contracts.errors import ConfigError
from xplore.parts.counts import (
    EpisodeCounts,
    count_episode_visits,
    count_visits,
    init_counts,
    init_episode_counts,
)

T, N, M = 6, 3, 5
_lifelong = jax.jit(count_visits)
_episodic = jax.jit(count_episode_visits)


def _walk(rng: np.random.Generator, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States before and after each step, and where episodes begin; `[num_steps, N]`."""
    first = rng.random((num_steps, N)) < 0.25
    first[0] = True
    before, after = np.zeros((2, num_steps, N), np.int32)
    state: np.ndarray = np.zeros(N, np.int32)
    for t in range(num_steps):
        state = np.where(first[t], rng.integers(0, M, N), state).astype(np.int32)
        before[t] = state
        state = rng.integers(0, M, N).astype(np.int32)
        after[t] = state
    return before, after, first


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_counts_match_numpy_over_rollouts(seed: int) -> None:
    before, after, first = _walk(np.random.default_rng(seed), 3 * T)
    lifelong: Counter[int] = Counter()
    episodic: list[Counter[int]] = [Counter() for _ in range(N)]
    expected_lifelong, expected_episodic = np.zeros((2, 3 * T, N), int)
    for t in range(3 * T):
        for n in range(N):
            if first[t, n]:
                lifelong[before[t, n]] += 1
                episodic[n] = Counter([before[t, n]])
            lifelong[after[t, n]] += 1
            episodic[n][after[t, n]] += 1
        expected_lifelong[t] = [lifelong[s] for s in after[t]]
        expected_episodic[t] = [episodic[n][after[t, n]] for n in range(N)]

    tables, memory = init_counts(1, M), init_episode_counts(1, N, M)
    found_lifelong, found_episodic = [], []
    for start in range(0, 3 * T, T):
        part = slice(start, start + T)
        x = (
            jnp.asarray(before[None, part]),
            jnp.asarray(after[None, part]),
            jnp.asarray(first[part]),
        )
        tables, counts = _lifelong(tables, *x)
        found_lifelong.append(counts)
        memory, counts = _episodic(memory, *x)
        found_episodic.append(counts)
    np.testing.assert_array_equal(np.concatenate(found_lifelong), expected_lifelong)
    np.testing.assert_array_equal(np.concatenate(found_episodic), expected_episodic)


def test_envs_at_one_time_step_arrive_together() -> None:
    rows = jnp.full((1, 2, 3), 4, jnp.int32)
    no_start = jnp.zeros((2, 3), bool)
    _, counts = _lifelong(init_counts(1, M), rows, rows, no_start)
    assert counts.tolist() == [[3, 3, 3], [6, 6, 6]]


def test_the_least_of_two_tables_counts() -> None:
    # 0 and 1 share a row in the first table, 1 and 2 in the second: only 1 is overstated in both.
    after = jnp.asarray([[[0], [0], [2]], [[0], [1], [1]]], jnp.int32)
    first = jnp.zeros((3, 1), bool)
    _, counts = _lifelong(init_counts(2, M), after, after, first)
    assert counts.tolist() == [[1], [1], [1]]
    _, counts = _episodic(init_episode_counts(2, 1, M), after, after, first)
    assert counts.tolist() == [[1], [1], [1]]


def test_an_episode_number_that_wraps_still_forgets() -> None:
    memory = init_episode_counts(1, 1, M)._replace(episode=jnp.asarray([(1 << 20) - 1], jnp.uint32))
    rows = jnp.ones((1, 2, 1), jnp.int32)
    start = jnp.zeros((1, 2, 1), jnp.int32)
    memory, counts = _episodic(memory, start, rows, jnp.zeros((2, 1), bool))
    assert counts.tolist() == [[1], [2]]
    # The new episode is number 0: what an untouched table holds, with count 0.
    memory, counts = _episodic(memory, start, rows, jnp.asarray([[True], [False]]))
    assert counts.tolist() == [[1], [2]]
    assert int(memory.episode[0]) == 0


def test_counts_in_one_episode_saturate() -> None:
    table = (jnp.full((M,), (1 << 12) | 4094, jnp.uint32),)
    memory = EpisodeCounts(table, jnp.ones((1,), jnp.uint32), jnp.full((1, 1), -1, jnp.int32))
    rows = jnp.zeros((1, 3, 1), jnp.int32)
    memory, counts = _episodic(memory, rows, rows, jnp.zeros((3, 1), bool))
    assert counts.tolist() == [[4095], [4095], [4095]]
    assert int(memory.tables[0][0] >> 12) == 1


def test_tables_too_large_to_address_are_refused() -> None:
    with pytest.raises(ConfigError, match="table_size must be below 524288"):
        init_episode_counts(1, 4096, 1 << 20)
