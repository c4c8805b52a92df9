"""Gap, tails and detours over levels, and the grid that measures them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from xplore.bench import jobs_of
from xplore.benchmarks import generalisation as grid
from xplore.benchmarks import generalisation_report as report
from xplore.benchmarks import samplers
from xplore.benchmarks.suite import Method, suites
from xplore.benchmarks.together import kept, rows_of_grid, run_grid
from xplore.contracts.errors import ConfigError
from xplore.measure import generalisation as measured


def tries(success, lengths=None, returns=None) -> measured.Tries:
    success = np.asarray(success)
    lengths = np.ones(success.shape, int) if lengths is None else np.asarray(lengths)
    return measured.Tries(success * 1.0 if returns is None else returns, lengths, success)


def test_the_worst_levels_are_scored_by_tries_they_were_not_chosen_by():
    rng = np.random.default_rng(0)
    # All levels alike: what is worst in one try is average in another.
    same = tries(rng.random((20, 1000, 2)) < 0.5)
    for tail in (1, 5, 10):
        found = measured.of_levels(same)[f"success_worst_{tail}"]
        assert found.mean() == pytest.approx(0.5, abs=0.06)
    # A tenth of the levels is never solved, the rest always.
    hard = np.broadcast_to(np.arange(1000)[:, None] % 10 > 0, (1000, 2))
    found = measured.of_levels(tries(hard))
    assert float(found["success_worst_10"]) == 0.0
    assert float(found["success"]) == pytest.approx(0.9)
    half = measured.conditional_value_at_risk([0, 0, 1, 1], [0.2, 0.4, 1, 1], 0.5)
    assert float(half) == pytest.approx(0.3)


def test_among_equals_the_lower_return_is_worse_and_success_decides():
    success = np.array([[1, 1], [0, 1], [1, 0], [1, 1]], bool)
    returns = np.array([[0.1, 0.1], [0.9, 0.9], [0.05, 0.0], [0.9, 0.9]])
    found = measured.of_levels(tries(success, returns=returns))
    assert float(found["success_worst_1"]) == 1.0  # level 1 failed when it was chosen
    without = measured.of_levels(tries(success[[0, 2, 3]], returns=returns[[0, 2, 3]]))
    assert float(without["success_worst_1"]) == 0.0  # level 2, by its return


def test_detours_are_over_the_fewest_steps_of_what_was_solved():
    success = np.array([[True, False], [True, True], [False, False], [True, True]])
    lengths = np.array([[10, 99], [4, 6], [99, 99], [7, 7]])
    found = measured.of_levels(tries(success, lengths), optimal_steps=[5, 4, 3, -1])
    assert float(found["steps_over_optimal"]) == pytest.approx((2.0 + 1.0 + 1.5) / 3)
    nothing = measured.of_levels(tries(success & False, lengths), optimal_steps=[5, 4, 3, -1])
    assert np.isnan(nothing["steps_over_optimal"])
    with pytest.raises(ConfigError, match="at least 2"):
        measured.of_levels(tries(success[:, :1]))


def test_equal_flops_are_read_off_between_evaluations():
    cell = report.Cell({}, np.array([[0.2], [0.6]]), np.array([100.0, 200.0]), 10.0)
    assert [report.at_flops(cell, f)[0] for f in (500.0, 1500.0, 9e9)] == [0.1, 0.4, 0.6]


def test_the_suites_train_and_test_on_levels_that_never_meet():
    for name in ("generalise", "generalise-large"):
        suite = suites()[name]
        assert (suite.eval_levels, suite.eval_episodes) == (1000, 2)
    assert len(jobs_of(samplers.GRID)) == 2 * len(samplers.SAMPLERS)  # all can be made
    assert {m.eval_greedy for m in suites()["generalise"].methods if m.agent == "ede"} == {True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A grid of the smallest kind: random play stands for a method, DeepSea for a family."""
    there = tmp_path_factory.mktemp("generalise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "HELD_OUT", 20)
        patch.setattr(grid, "_FEWER", 10)
        run_grid(
            TINY, there, ["episode/success"], as_numbers=grid.as_numbers, measure=grid.measure,
            most_jobs=1,
        )  # fmt: skip
    return there


def _random(num_levels: int) -> Method:
    return Method(
        f"ppo on {num_levels}", agent="random", worlds="fixed",
        worlds_options={"num_levels": num_levels},
    )  # fmt: skip


TINY = dataclasses.replace(
    grid.GRID,
    tasks=(dataclasses.replace(grid.task("DeepSea-5-v0", 192), num_envs=4, num_steps=6),),
    methods=(_random(1), _random(200)),
    seeds=2,
)


def test_rows_hold_the_protocol_at_the_end_and_success_on_the_way(folder):
    rows = rows_of_grid(TINY, folder)
    success = rows[rows["metric"] == "eval/success"]
    assert sorted(success["env_steps"].unique()) == [48, 96, 144, 192]
    last = rows[rows["env_steps"] == 192]
    names = {"eval/success_worst_1", "eval_train/success", "gap/success", "profile/0.5"}
    assert names <= set(last["metric"])
    assert all(r["flops_per_update"] > 0 for r in kept(folder).records.values())
    wide = last.pivot_table(
        index=["worlds", "seed"], columns="metric", values="value", observed=True
    )
    gap = wide["eval_train/success"] - wide["eval/success"]
    np.testing.assert_allclose(gap, wide["gap/success"])


def test_tables_and_figures_are_made_from_rows(folder):
    report.write(TINY, rows_of_grid(TINY, folder), folder)
    text = (folder / "table.md").read_text()
    assert "| held-out success | W = 1 | W = 200 |" in text
    assert "worst 1%" in text
    assert (folder / "levels.png").stat().st_size > 1000
    assert (folder / "profile.png").stat().st_size > 1000
    gains = {10: (0.2, 0.1, 0.3), 100: (0.0, -0.1, 0.1), 200: (-0.2, -0.3, -0.1)}
    said = report._verdict("one", "other", gains)
    assert "better on held-out levels with W = 10" in said
    assert "worse with W = 200" in said
