"""The benchmark of the noisy television: what its rows say."""

from __future__ import annotations

import numpy as np
import pytest

import xplore
from xplore.bench import jobs_of, suite_rows
from xplore.benchmarks import noisy_tv


def test_the_grid_can_be_made_and_a_random_agent_watches_as_stated():
    jobs = jobs_of(noisy_tv.GRID)
    cells = len(noisy_tv.GRID.tasks) * len(noisy_tv.GRID.methods)
    assert len({job.fingerprint for job in jobs}) == cells
    assert jobs[0].config.env.spec().action == xplore.Discrete(8)


@pytest.mark.skipif(not noisy_tv.FOLDER.is_dir(), reason="the results are not part of a package")
def test_stored_table_is_what_the_rows_say():
    rows = suite_rows(noisy_tv.GRID, noisy_tv.FOLDER, on_problem=pytest.fail)
    text = (noisy_tv.FOLDER / "table.md").read_text(encoding="utf-8")
    assert noisy_tv.table(rows) == text
    for task in noisy_tv.infos():
        shares = {m.label: noisy_tv.watched(rows, m, task) for m in noisy_tv.GRID.methods}
        assert all(len(x) == noisy_tv.GRID.seeds for x in shares.values())
        assert all(np.all((x >= 0) & (x <= 1)) for x in shares.values())
