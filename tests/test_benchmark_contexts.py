"""Counts over numbers of levels: what its table and figure say of given scores."""

from __future__ import annotations

import numpy as np
import pytest

from xplore.bench import jobs_of
from xplore.benchmarks import contexts
from xplore.benchmarks.together import groups_of, rows_of_grid
from xplore.contracts.registry import make_bonus


def given(lifelong, episodic):
    """Scores of five seeds, with a spread, the middle coefficient the best."""
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    means = {"none": [0.0] * 5, "count": lifelong, "episodic_count": episodic}
    return {
        arm: [m * (0.5 if arm[1] != 1.0 else 1.0) + spread for m in means[arm[0]]]
        for arm in contexts._arms()
    }


def test_the_grid_is_two_bonuses_on_the_same_levels_and_key():
    jobs = jobs_of(contexts.GRID)
    assert len({job.fingerprint for job in jobs}) == len(jobs) == 7 * len(contexts.CONTEXTS)
    assert len(groups_of(jobs)) == 3 * len(contexts.CONTEXTS)
    for bonus, coefficient in contexts.DEFAULTS.items():
        assert make_bonus(bonus).coefficient == coefficient


def test_the_verdict_asks_for_intervals_on_either_side():
    crossing = contexts.table(given([0.9, 0.7, 0.5, 0.3, 0.1], [0.5, 0.6, 0.7, 0.8, 0.9]))
    assert "On one level the lifelong count is ahead, on new ones the episodic count" in crossing
    assert crossing.rstrip().endswith("the two cross.")
    assert "-0.40 [" in crossing
    assert "+0.80 [" in crossing
    apart = contexts.table(given([0.9, 0.7, 0.5, 0.3, 0.1], [0.9, 0.9, 0.9, 0.9, 0.9]))
    assert apart.rstrip().endswith("the two do not cross.")
    assert "On one level neither is ahead" in apart


def test_the_best_coefficient_is_the_one_in_bold():
    text = contexts.table(given([0.9] * 5, [0.5] * 5))
    assert "**0.1**" in text
    assert "**0.01**" in text
    assert "**1**" not in text


def test_the_figure_has_a_line_for_each_bonus():
    figure = contexts.draw(given([0.9] * 5, [0.5] * 5))
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["none", "lifelong count, 0.1", "episodic count, 0.01"]


@pytest.mark.skipif(not contexts.FOLDER.is_dir(), reason="the results are not part of a package")
def test_stored_table_is_what_the_rows_say():
    of = contexts.scores(rows_of_grid(contexts.GRID, contexts.FOLDER))
    assert len(of) == 7
    assert all(len(cell) == contexts.GRID.seeds for cells in of.values() for cell in cells)
    assert contexts.table(of) == (contexts.FOLDER / "table.md").read_text(encoding="utf-8")
