"""First visits: each state is worth seeing once in an episode."""

from __future__ import annotations

from xplore.bonuses.combinators import FirstVisit, Scale
from xplore.contracts.registry import register_bonus
from xplore.parts.cells import CellKey, Cells


@register_bonus("first_visit")
def first_visit(
    coefficient: float = 0.01,
    key: CellKey = "observation",
    table_size: int = 1 << 12,
    num_tables: int = 2,
    bin_size: float = 0.1,
) -> Scale:
    """First visit: `r = coefficient * 1{N_ep(s') = 1}`, the control for every bonus with that gate.

    Args:
        coefficient: the bonus of a visit that is the first in its episode.
        key: what is counted: a key of `xplore.parts.cells.Cells`.
        table_size: rows of a hashed table, a power of two, per env.
        num_tables: hashed tables, of which the least count holds.
        bin_size: floats are rounded to multiples of it before they are counted.

    Reference: the gate of Zhang et al. (2021), NovelD, without the novelty it gates.
    """
    return Scale(FirstVisit(None, Cells(key, table_size, num_tables, bin_size)), coefficient)
