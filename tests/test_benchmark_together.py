"""Jobs run together: what they measure, what is kept, and what is not run again."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from xplore import train
from xplore.bench import job_of, jobs_of
from xplore.benchmarks.suite import Method, Suite, Task
from xplore.benchmarks.together import (
    groups_of,
    kept,
    late_means,
    rows_of_grid,
    run_grid,
    train_together,
)
from xplore.contracts.errors import ConfigError, ResultsError

METRICS = ["bonus/reward", "episode/return"]
COEFFICIENTS = (0.5, 2.0)


def count(coefficient: float, table_size: int = 64) -> Method:
    options = {"coefficient": coefficient, "table_size": table_size}
    return Method(
        f"count {coefficient} {table_size}", agent="random", bonus="count", bonus_options=options
    )


GRID = Suite(
    name="tiny",
    description="",
    tasks=(
        Task(
            "DeepSea-5-v0", 60, 1.0, "", 0.5, low=0.0, num_envs=2, num_steps=10,
            score="episode/return",
        ),
    ),
    methods=tuple(map(count, COEFFICIENTS)),
    seeds=2,
    eval_levels=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    there = tmp_path_factory.mktemp("grid")
    run_grid(GRID, there, METRICS)
    return there


def test_only_jobs_that_differ_in_floats_are_grouped():
    other = dataclasses.replace(GRID, methods=(*GRID.methods, count(1.0, table_size=128)))
    assert [len(group) for group in groups_of(jobs_of(other))] == [2, 1]
    with pytest.raises(ConfigError, match="more than numbers"):
        train_together(jobs_of(other), (0,))


def test_a_lane_measures_what_its_job_measures_by_itself(folder):
    job = jobs_of(GRID)[1]
    alone = train(job.config, seeds=2)
    rows = rows_of_grid(GRID, folder)
    mine = rows[(rows["fingerprint"] == job.fingerprint) & (rows["metric"] == "bonus/reward")]
    mine = mine.sort_values(["seed", "env_steps"])
    np.testing.assert_array_equal(mine["env_steps"].unique(), alone.env_steps)
    np.testing.assert_allclose(mine["value"], alone.metrics["bonus/reward"].ravel(), rtol=1e-6)


def test_rows_know_what_they_are_of(folder):
    rows, records = kept(folder)
    for method in GRID.methods:
        record = records[job_of(GRID, GRID.tasks[0], method).fingerprint]
        assert record["labels"]["bonus"] == method.names["bonus"]
        assert record["bonus"]["coefficient"] == method.bonus_options["coefficient"]
        assert record["jobs_together"] == 2
    assert set(rows["metric"]) == set(METRICS)
    assert set(rows["suite"]) == {"tiny"}


def test_what_is_there_is_not_run_again_and_what_changed_is_dropped(folder, tmp_path, monkeypatch):
    for name in ("rows.parquet", "provenance.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    def refuse(*args):
        raise AssertionError("run again")

    monkeypatch.setattr("xplore.benchmarks.together._run", refuse)
    run_grid(GRID, tmp_path, METRICS)
    with pytest.raises(AssertionError, match="run again"):
        run_grid(GRID, tmp_path, METRICS, seeds=3)
    monkeypatch.undo()
    fewer = dataclasses.replace(GRID, methods=(GRID.methods[0], count(7.0)))
    run_grid(fewer, tmp_path, METRICS)
    held = {record["bonus"]["coefficient"] for record in kept(tmp_path).records.values()}
    assert held == {0.5, 7.0}
    assert set(rows_of_grid(fewer, tmp_path)["fingerprint"]) == kept(tmp_path).records.keys()


def test_late_means_are_of_the_end_of_the_budget(folder):
    rows = rows_of_grid(GRID, folder)
    found = late_means(GRID, rows, "bonus/reward", 0.5)
    assert len(found) == 2
    job = jobs_of(GRID)[0]
    mine = rows[(rows["fingerprint"] == job.fingerprint) & (rows["metric"] == "bonus/reward")]
    late = mine[(mine["seed"] == 1) & (mine["env_steps"] > 30)]
    assert sorted(late["env_steps"]) == [40, 60]
    np.testing.assert_allclose(
        found["DeepSea-5-v0", GRID.methods[0].label][1], late["value"].mean()
    )


def test_refusals_name_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="eval_levels"):
        run_grid(dataclasses.replace(GRID, eval_levels=4), tmp_path, METRICS)
    odd = dataclasses.replace(GRID, tasks=(dataclasses.replace(GRID.tasks[0], budget_steps=50),))
    with pytest.raises(ConfigError, match="no multiple"):
        run_grid(odd, tmp_path, METRICS)
    (tmp_path / "provenance.json").write_text(json.dumps({}))
    with pytest.raises(ResultsError, match="cannot read"):
        kept(tmp_path)
