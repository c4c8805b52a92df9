"""The ablation of normaliser, heads and coefficient: its cells, and what is made of them."""

from __future__ import annotations

import types
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from xplore.bench import job_of, jobs_of
from xplore.benchmarks import ablation, ablation_report
from xplore.benchmarks.together import groups_of, rows_of_grid
from xplore.bonuses.combinators import Normalise
from xplore.contracts.component import component
from xplore.contracts.registry import make_agent, make_bonus
from xplore.parts.normalisers import NORMALISER_KINDS

FACTORS = {"normaliser": ("a", "b"), "heads": ("1", "2"), "coefficient": ("x0.1", "x1", "x10")}


def panel(scores):
    return ablation_report.Panel("task", "bonus", FACTORS, scores, (1, 0, 1), 0.1)


@pytest.fixture(scope="module")
def heads_alone():
    """Two heads add 0.5, the rest is noise of the seeds."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, 2, 3, 4))
    return panel(0.2 + noise + np.array([0.0, 0.5])[None, :, None, None])


def test_the_grid_is_complete_and_its_defaults_are_those_of_the_code():
    jobs = jobs_of(ablation.GRID)
    assert len({job.fingerprint for job in jobs}) == len(jobs) == 2 * 91
    assert len(groups_of(jobs, ablation.with_any_normaliser)) == 2 + 12
    task = ablation.GRID.tasks[0]
    for bonus, (normaliser, _) in ablation.DEFAULTS.items():
        config = job_of(ablation.GRID, task, ablation.method(bonus, normaliser, 1, 1.0)).config
        assert config.bonus == make_bonus(bonus)
        assert config.agent == make_agent("ppo")


@component
class Drawn:
    """A bonus of given rewards."""

    rewards: jax.Array

    def reads(self):
        return ()

    def init(self, key, spec):
        return ()

    def reward(self, state, traj):
        return state, self.rewards

    def update(self, key, state, traj):
        return state, {}


def test_a_normaliser_chosen_by_number_is_the_normaliser():
    rewards = jax.random.normal(jax.random.key(0), (5, 2))
    spec: Any = types.SimpleNamespace(num_envs=2)
    key: Any = jax.random.key(1)
    traj: Any = None
    for place, kind in enumerate(NORMALISER_KINDS):
        paid = []
        for bonus in (
            Normalise(Drawn(rewards), kind, 0.9),
            ablation.AnyNormaliser(Drawn(rewards), float(place), 0.9),
        ):
            state, _ = bonus.reward(bonus.init(key, spec), traj)
            paid.append(bonus.reward(state, traj)[1])
        np.testing.assert_allclose(paid[0], paid[1], rtol=1e-6, err_msg=kind)


def test_an_effect_is_found_where_there_is_one(heads_alone):
    found = ablation_report.effect(heads_alone, "heads", reps=200)
    np.testing.assert_allclose(found.means, [0.2, 0.7], atol=0.01)
    assert found.moved == pytest.approx(0.5, abs=0.01)
    assert found.moved > found.by_chance
    assert np.all((found.low <= found.means) & (found.means <= found.high))
    for factor in ("normaliser", "coefficient"):
        nothing = ablation_report.effect(heads_alone, factor, reps=200)
        assert nothing.moved < 0.02
        # By chance: other factors' cells are shuffled within themselves, so heads do not enter.
        assert nothing.by_chance < 0.03


def test_an_interaction_is_no_main_effect():
    crossed = np.zeros((2, 2, 3, 4))
    crossed[0, 0], crossed[1, 1] = 1.0, 1.0
    found = ablation_report.effect(panel(crossed), "heads", reps=200)
    assert found.moved == 0.0
    assert found.by_chance > 0.1


def test_the_tables_say_best_default_and_levels(heads_alone):
    text = ablation_report.tables([heads_alone], "Note.")
    first = text.splitlines()[2]
    assert first.startswith("| task | bonus | 0.0")
    assert "**0.50**" in first
    assert "2 heads" in first
    assert "| 1 head | 2 heads |" in text
    assert text.count(" *") >= 3


def test_the_figure_has_a_panel_each_and_frames_the_default(heads_alone):
    figure = ablation_report.figure([heads_alone])
    axes = figure.axes[0]
    assert axes.get_title() == "task: bonus"
    (frame,) = axes.patches
    assert isinstance(frame, Rectangle)
    assert frame.get_xy() == (0.5, 0.5)
    assert len(axes.texts) == 12


@pytest.mark.skipif(not ablation.FOLDER.is_dir(), reason="the results are not part of a package")
def test_stored_table_is_what_the_rows_say():
    rows = rows_of_grid(ablation.GRID, ablation.FOLDER)
    made = ablation.panels(rows)
    assert len(made) == len(ablation.DEFAULTS) * len(ablation.GRID.tasks)
    assert all(p.scores.shape[-1] >= 3 for p in made)
    assert ablation.table(rows) == (ablation.FOLDER / "table.md").read_text(encoding="utf-8")
