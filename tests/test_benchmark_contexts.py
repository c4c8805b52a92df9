"""Counts over numbers of levels: what its table and figure say of given scores."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from xplore.bench import jobs_of
from xplore.benchmarks import contexts
from xplore.benchmarks.together import groups_of, rows_of_grid
from xplore.contracts.registry import make
from xplore.worlds.fixed import Fixed


def given(lifelong, episodic):
    """Scores of five seeds, with a spread."""
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    means = {"none": [0.0] * 5, "count": lifelong, "episodic_count": episodic}
    return {bonus: [m + spread for m in cells] for bonus, cells in means.items()}


def test_the_grid_is_two_bonuses_and_none_on_the_same_levels():
    jobs = jobs_of(contexts.GRID)
    assert len({job.fingerprint for job in jobs}) == len(jobs) == 3 * len(contexts.CONTEXTS)
    assert len(groups_of(jobs, contexts.as_numbers)) == 4


def test_worlds_with_their_number_of_levels_as_a_float_are_fixed_worlds():
    env, key = make("DeepSea-5-v0"), jax.random.key(3)
    for number in (1, 3, 10):
        ids = [
            worlds.sample(key, worlds.init(key, env), env, 64)[1].level_id
            for worlds in (Fixed(number), contexts.AnyFixed(float(number)))
        ]
        np.testing.assert_array_equal(ids[0], ids[1])
        assert len(np.unique(ids[0])) == number


def test_the_verdict_asks_for_intervals_on_either_side():
    crossing = contexts.table(given([0.9, 0.7, 0.5, 0.3, 0.1], [0.5, 0.6, 0.7, 0.8, 0.9]))
    assert "On one level the lifelong count is ahead, on new ones the episodic count" in crossing
    assert crossing.rstrip().endswith("the two cross.")
    assert "-0.40 [" in crossing
    assert "+0.80 [" in crossing
    apart = contexts.table(given([0.9, 0.7, 0.5, 0.3, 0.1], [0.9, 0.9, 0.9, 0.9, 0.9]))
    assert apart.rstrip().endswith("the two do not cross.")
    assert "On one level neither is ahead" in apart


def test_the_figure_has_a_line_for_each_bonus():
    figure = contexts.draw(given([0.9] * 5, [0.5] * 5))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["none", "lifelong count", "episodic count"]


@pytest.mark.skipif(not contexts.FOLDER.is_dir(), reason="the results are not part of a package")
def test_stored_table_is_what_the_rows_say():
    of = contexts.scores(rows_of_grid(contexts.GRID, contexts.FOLDER))
    assert of.keys() == contexts.NAMES.keys()
    assert all(len(cell) == contexts.GRID.seeds for cells in of.values() for cell in cells)
    assert contexts.table(of) == (contexts.FOLDER / "table.md").read_text(encoding="utf-8")
