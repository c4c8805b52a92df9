"""The tables of the learners are what their rows say."""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xplore.benchmarks import boot_dqn_law, learner_speed, learners, plans

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.parametrize(
    ("module", "name"),
    [(boot_dqn_law, "boot-dqn-law"), (learners, "learners"), (plans, "plans")],
)
def test_tables_are_what_the_rows_say(module, name):
    rows = pd.read_parquet(RESULTS / name / "rows.parquet")
    assert module.report(rows) == (RESULTS / name / "table.md").read_text()


def test_curves_of_other_code_become_rows(tmp_path):
    returns = np.arange(200.0).reshape(2, 100)
    path = tmp_path / "curves.npz"
    np.savez(
        path, env_steps=10 * np.arange(1, 101), returns=returns, greedy=returns + 1, env="Game"
    )
    rows = learners.of_authors(path)
    last = rows[(rows["metric"] == "return") & (rows["env_steps"] == 1000)]
    assert last["value"].tolist() == [97.0, 197.0]  # of the last five of a hundred updates
    held_out = rows[rows["metric"] == "held-out return"]
    assert held_out["value"].tolist() == [100.0, 200.0]
    assert set(rows["task"]) == {"gymnax/Game"}


def test_shortest_plans_are_shortest_and_played_back():
    rows = pd.read_parquet(RESULTS / "plans" / "rows.parquet")
    assert set(rows["id"]) == set(plans.families())
    found = rows[rows["steps"] >= 0]
    assert (found["steps"] >= found["least"]).all()
    assert (found["least"] >= found["bound"]).all()
    assert (found["exact"] == (found["steps"] == found["least"])).all()
    row = plans.searcher("Chaser-Easy-v0")(int(found["level_id"].iloc[0]))
    assert row["steps"] == found["steps"].iloc[0]


def test_speed_is_what_was_measured():
    measured = json.loads((RESULTS / "learner-speed" / "speed.json").read_text())
    assert learner_speed.table(measured) == (RESULTS / "learner-speed" / "table.md").read_text()
    assert max(line["cpu_seconds"] for line in measured["compile"].values()) < 60


def test_psi_is_found_again():
    rng = np.random.default_rng(0)
    rows = [
        {"size": n, "heads": k, "solved": rng.random() < 1 - (1 - 0.85**n) ** k}
        for n in (6, 8, 10, 12)
        for k in (1, 3, 10)
        for _ in range(300)
    ]
    psi, low, high = boot_dqn_law.fit_psi(pd.DataFrame(rows))
    assert psi == pytest.approx(0.85, abs=0.01)
    assert low < 0.85 < high
    assert high - low < 0.03


def test_cells_are_of_their_own():
    for cell in learners.CELLS:
        assert cell.budget_steps % (cell.num_envs * cell.num_steps) == 0, cell
    names = [(cell.task, cell.label) for cell in learners.CELLS]
    assert len(set(names)) == len(names)
    assert boot_dqn_law.config_of(6, 3, 0.0).budget_steps % (8 * 6) == 0
