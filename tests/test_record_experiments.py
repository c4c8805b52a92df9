"""Scores over several settings together, from rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from xplore.benchmarks.suite import Method, Suite, Task
from xplore.contracts.errors import ConfigError
from xplore.record import bsuite_scores
from xplore.record.experiments import Experiment, experiment_table
from xplore.record.summary import MethodInfo, SuiteInfo, TaskInfo

SIZES = (4, 6)
GOOD, BAD = MethodInfo("good", "a", "none", "fresh"), MethodInfo("bad", "b", "none", "fresh")
SEA = Experiment(
    "deep_sea",
    {n: f"sea-{n}" for n in SIZES},
    ("episode/total_bad_episode",),
    bsuite_scores.deep_sea,
)
SUITE = SuiteInfo("s", tuple(TaskInfo(f"sea-{n}") for n in SIZES), (GOOD, BAD))


def rows(method: MethodInfo, task: str, seed: int, solved_at: int) -> pd.DataFrame:
    """A run of which every episode before `solved_at` was bad, and none after."""
    episode = np.arange(10, 2001, 10)
    bad = np.minimum(episode, solved_at)
    parts = [
        pd.DataFrame({"metric": name, "env_steps": episode * 5, "value": values})
        for name, values in (("episode/total", episode), ("episode/total_bad_episode", bad))
    ]
    made = pd.concat(parts)
    labels: dict[str, Any] = {
        "suite": "s",
        "task": task,
        "seed": seed,
        "run_id": f"{method.label}{task}{seed}",
    }
    return made.assign(agent=method.agent, bonus="none", worlds="fresh", **labels)


def test_a_seed_is_scored_by_all_its_settings() -> None:
    # 2^4 + 100 = 116, 2^6 + 100 = 164 episodes are what dithering is given.
    parts = [rows(GOOD, f"sea-{n}", 0, 50) for n in SIZES]
    parts += [rows(GOOD, "sea-4", 1, 50), rows(GOOD, "sea-6", 1, 500)]
    parts += [rows(BAD, f"sea-{n}", 0, 1500) for n in SIZES]
    parts += [rows(BAD, "sea-4", 1, 10)]  # one setting is missing: no score
    made = experiment_table(pd.concat(parts, ignore_index=True), SUITE, (SEA,))
    assert [c.text for c in made.rows[0]] == ["deep_sea", "0.75 (0.50 to 1.00)", "0.00"]
    found = made.records.set_index(["method", "seed"])["score"]
    assert found.to_dict() == {("good", 0): 1.0, ("good", 1): 0.5, ("bad", 0): 0.0}
    assert "deep_sea" in made.to_markdown()


def test_settings_that_were_not_run_are_named() -> None:
    few = SuiteInfo("s", SUITE.tasks[:1], (GOOD,))
    made = experiment_table(rows(GOOD, "sea-4", 0, 50), few, (SEA,))
    assert made.rows[0][1].text == "1.00"
    assert "deep_sea: 1 of 2 settings were run." in made.notes


def test_an_experiment_scores_tasks_of_its_suite() -> None:
    task = Task("DeepSea-5-v0", 1000, 0.99, "exact", 0.5, low=0.0, label="sea-4")
    with pytest.raises(ConfigError, match="scores 'sea-6', which is no task of it"):
        Suite("s", "", (task,), (Method("ppo"),), experiments=(SEA,))
