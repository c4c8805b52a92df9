"""Lifelong times episodic count: rare in the run, and not yet seen in this episode."""

from __future__ import annotations

from xplore.bonuses.combinators import Product, Scale
from xplore.bonuses.count import Count
from xplore.bonuses.episodic_count import EpisodicCount
from xplore.contracts.registry import register_bonus
from xplore.parts.cells import CellKey, Cells


@register_bonus("count_x_episodic")
def count_x_episodic(
    coefficient: float = 0.1,
    key: CellKey = "observation",
    table_size: int = 1 << 20,
    episodic_table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """Lifelong times episodic count: `r = coefficient / sqrt(N(s') N_ep(s'))`.

    Args:
        coefficient: the bonus of a visit that is the first in the run.
        key: what is counted: a key of `xplore.parts.cells.Cells`.
        table_size: rows of a hashed lifelong table, a power of two.
        episodic_table_size: rows of a hashed episodic table, a power of two, per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: Henaff, Jiang and Raileanu (2023), arXiv:2306.03236.
    """
    lifelong = Count(Cells(key, table_size, num_tables, bin_size))
    episodic = EpisodicCount(Cells(key, episodic_table_size, num_tables, bin_size))
    return Scale(Product((lifelong, episodic)), coefficient)
