"""Whether two samples come from one distribution, by many statistics at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]

# A value that the smaller sample is expected to have more rarely is pooled with others.
LEAST_EXPECTED: Final = 8


class Statistics(NamedTuple):
    """What each of `n` independent cases looks like, by name.

    Attributes:
        unordered: int `[n]`, where rare values are pooled with each other.
        ordered: int `[n]`, where they are pooled with their neighbours.
        present: bool `[n, m]`, every column a statistic by itself.
    """

    unordered: dict[str, Array]
    ordered: dict[str, Array]
    present: dict[str, Array]


def p_values(found: Statistics, is_first: Array) -> dict[str, float]:
    """The p-value of each statistic that can tell the samples apart, smallest first.

    Statistics that say the same in other numbers are counted once.

    Args:
        found: of both samples together.
        is_first: bool `[n]`, which cases are of the first sample.
    """
    p: dict[str, float] = {}
    for group, ordered in ((found.unordered, False), (found.ordered, True)):
        seen: set[bytes] = set()
        for name, values in group.items():
            _, first, codes = np.unique(values, return_index=True, return_inverse=True)
            # Numbered in the order in which they appear, values that say the same are the same.
            numbered = np.argsort(np.argsort(first))[codes].astype(np.int32).tobytes()
            table = _table(codes, is_first, ordered)
            if numbered not in seen and table.shape[1] > 1:
                seen.add(numbered)
                p[name] = float(likelihood_ratio(table[None])[0])
    for name, columns in found.present.items():
        p.update(_of_columns(name, columns, is_first))
    return dict(sorted(p.items(), key=lambda item: item[1]))


def homogeneity(first: Array, second: Array, *, ordered: bool = False) -> float:
    """The p-value of the test that the integers of both samples are of one distribution."""
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    table = _table(codes, np.arange(len(codes)) < len(first), ordered)
    return float(likelihood_ratio(table[None])[0]) if table.shape[1] > 1 else 1.0


def likelihood_ratio(tables: Array) -> Array:
    """P-values `[m]` of tables `[m, 2, k]` of counts: are both rows of one distribution?

    The likelihood-ratio chi-square with Williams's correction. Pearson's, from samples that differ
    in size, is too often large far out in the tail, where one among thousands of tests is judged.
    """
    total = tables.sum((1, 2)).astype(float)
    rows, columns = tables.sum(2, keepdims=True), tables.sum(1, keepdims=True)
    expected = rows * columns / total[:, None, None]
    ratio = np.where(tables > 0, tables / expected, 1.0)
    statistic = 2 * (tables * np.log(ratio)).sum((1, 2))
    df = tables.shape[2] - 1
    by_rows, by_columns = (total * (1 / x).sum((1, 2)) - 1 for x in (rows, columns))
    williams = 1 + by_rows * by_columns / (6 * total * df)
    return np.asarray(stats.chi2.sf(statistic / williams, df))


def _table(codes: Array, is_first: Array, ordered: bool) -> Array:
    """Counts `[2, k]` of the codes in both samples, rare ones pooled whosever they are."""
    counts = np.stack(
        [np.bincount(codes[x], minlength=codes.max() + 1) for x in (is_first, ~is_first)]
    )
    expected = counts.sum(0) * _smaller_share(is_first)
    pool = _pool_neighbours(expected) if ordered else _pool_rare(expected)
    table = np.zeros((2, pool.max() + 1), np.int64)
    np.add.at(table.T, pool, counts.T)
    return table


def _smaller_share(is_first: Array) -> float:
    share = float(is_first.mean())
    return min(share, 1 - share)


def _pool_rare(expected: Array) -> Array:
    """A number for each value, the same for those that are rare."""
    order = np.argsort(expected, kind="stable")
    rare = int((expected < LEAST_EXPECTED).sum())
    if 0 < rare < len(expected) and expected[order[:rare]].sum() < LEAST_EXPECTED:
        rare += 1
    pool = np.empty(len(expected), np.int64)
    pool[order] = np.maximum(np.arange(len(expected)) - max(rare - 1, 0), 0)
    return pool


def _pool_neighbours(expected: Array) -> Array:
    """A number for each value, the same for runs of values that are rare one by one."""
    pool = np.zeros(len(expected), np.int64)
    group, filled = 0, 0.0
    for i, more in enumerate(expected):
        if filled >= LEAST_EXPECTED:
            group, filled = group + 1, 0.0
        pool[i] = group
        filled += more
    # What is left over at the end belongs to the group before.
    return np.minimum(pool, group - 1) if filled < LEAST_EXPECTED and group > 0 else pool


def _of_columns(name: str, columns: Array, is_first: Array) -> Iterator[tuple[str, float]]:
    """The p-value of each column, and of whether anything unusual is in those that hardly vary."""
    often = columns.sum(0)
    least = LEAST_EXPECTED / _smaller_share(is_first)
    varies = np.minimum(often, len(columns) - often) >= least
    used, names = columns[:, varies], [f"{name} {i}" for i in np.flatnonzero(varies)]
    unusual = (columns != (often * 2 > len(columns)))[:, ~varies].any(1)
    if least <= unusual.sum() <= len(columns) - least:
        used, names = np.column_stack([used, unusual]), [*names, f"{name}, anything unusual"]
    if names:
        _, kept = np.unique(np.packbits(used, axis=0), axis=1, return_index=True)
        is_so = np.stack([used[is_first][:, kept].sum(0), used[~is_first][:, kept].sum(0)], 1)
        sizes = np.array([is_first.sum(), (~is_first).sum()])
        p = likelihood_ratio(np.stack([is_so, sizes - is_so], 2))
        yield from zip((names[i] for i in kept), p.tolist(), strict=True)
