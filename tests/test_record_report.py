"""Tables and figures: from rows alone, the same every time."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from xplore.record.plots import (
    aggregate_intervals,
    learning_curves,
    performance_profiles,
    save_figure,
)
from xplore.record.rows import Labels, long_rows, read_rows, read_sidecars, write_run
from xplore.record.summary import MethodInfo, SuiteInfo, TaskInfo, summarise
from xplore.record.tables import method_table, task_table

METHODS = (
    MethodInfo("ppo", "ppo", "none", "fresh"),
    MethodInfo("ppo+count", "ppo", "count", "fresh"),
)
SUITE = SuiteInfo(
    "demo",
    (
        TaskInfo("Deep-v0", low=0.0, high=2.0, solved_at=1.8),
        TaskInfo("Easy_v0", metric="eval/success", solved_at=0.9),
    ),
    METHODS,
)
# Final scores of five seeds: (task, bonus).
FINAL = {
    ("Deep-v0", "none"): [0.0, 0.0, 0.0, 0.2, 0.0],
    ("Deep-v0", "count"): [2.0, 1.9, 2.0, 0.1, 2.0],
    ("Easy_v0", "none"): [1.0, 0.95, 1.0, 1.0, 0.98],
    ("Easy_v0", "count"): [1.0, 1.0, 0.97, 1.0, 1.0],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    steps = np.arange(1, 21) * 100
    for i, ((task, bonus), final) in enumerate(FINAL.items()):
        curve = np.linspace(0, 1, 20)[None] * np.array(final)[:, None]
        rows = [
            long_rows(range(5), steps, {"episode/return": curve, "episode/success": curve}),
            long_rows(range(5), [2000], {"eval/return": final, "eval/success": final}),
        ]
        labels = Labels("demo", task, "ppo", bonus, "fresh")
        sidecar = {"privileged": ["position"] if bonus == "count" else []}
        write_run(folder, labels, pd.concat(rows), sidecar, run_id=f"run_{i}")
    return folder


@pytest.fixture(scope="module")
def summary(folder):
    return summarise(read_rows(folder), SUITE, sidecars=read_sidecars(folder))


def test_numbers_of_the_report(summary):
    deep, easy = SUITE.tasks
    count = summary.find(deep, METHODS[1])
    assert count.solved == 4
    assert count.iqm[0] == pytest.approx(np.mean([1.9, 2.0, 2.0]))
    np.testing.assert_allclose(count.normalised, np.array(FINAL["Deep-v0", "count"]) / 2)
    assert summary.find(deep, METHODS[0]).solved == 0
    assert summary.find(easy, METHODS[0]).solved == 5
    assert count.iqm[1] <= count.iqm[0] <= count.iqm[2]


def test_tables_say_what_the_summary_says(summary):
    markdown = task_table(summary).to_markdown()
    assert "4/5" in markdown
    assert "0/5" in markdown
    for name in ("Deep-v0", "Easy_v0", "ppo+count"):
        assert name in markdown
    assert "position" in method_table(summary).to_markdown()
    records = list(csv.DictReader(io.StringIO(task_table(summary).to_csv())))
    assert len(records) == 4
    latex = task_table(summary).to_latex()
    assert r"Easy\_v0" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1


def test_the_same_rows_make_the_same_tables(folder, summary):
    again = summarise(read_rows(folder), SUITE, sidecars=read_sidecars(folder))
    for make in (task_table, method_table):
        for form in ("to_markdown", "to_csv", "to_latex"):
            assert getattr(make(again), form)() == getattr(make(summary), form)()


def test_a_missing_run_leaves_a_gap_not_a_number(folder):
    rows = read_rows(folder)
    part = rows[~((rows.task == "Deep-v0") & (rows.bonus == "count"))]
    summary = summarise(part, SUITE)
    assert summary.find(SUITE.tasks[0], METHODS[1]) is None
    assert task_table(summary).to_markdown()
    assert method_table(summary).to_markdown()


@pytest.mark.parametrize("kind", ["curves", "profiles", "intervals"])
def test_figures_are_deterministic(folder, summary, tmp_path, kind):
    def draw(path):
        figure = {
            "curves": lambda: learning_curves(read_rows(folder), SUITE, reps=50),
            "profiles": lambda: performance_profiles(summary, reps=50),
            "intervals": lambda: aggregate_intervals(summary),
        }[kind]()
        return save_figure(figure, path).read_bytes()

    one, two = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    assert one.startswith(b"\x89PNG")
    assert len(one) > 5_000
    assert one == two
