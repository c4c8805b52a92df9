"""Scores over several settings of one task together, by rules of their own, such as bsuite's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from xplore.record.bsuite_scores import Curve
from xplore.record.summary import MethodInfo, SuiteInfo, curves, rows_of
from xplore.record.tables import Cell, Table


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Some tasks of a suite that are scored together.

    Attributes:
        name: in tables.
        settings: what differs between its tasks (a size, a threshold), with the task's label.
        totals: metrics that sum over episodes, in the order that `rule` takes them.
        rule: from a `Curve` by setting for each of `totals` to a score in [0, 1].
        note: what the score means, a sentence.
    """

    name: str
    settings: Mapping[Any, str]
    totals: tuple[str, ...]
    rule: Callable[..., float]
    note: str = ""


def experiment_table(
    rows: pd.DataFrame, suite: SuiteInfo, experiments: tuple[Experiment, ...]
) -> Table:
    """The score of each method in each experiment, a mean over seeds with their range.

    A seed is scored by its runs in all settings; settings without rows are left out, and the table
    says so.
    """
    tasks = {info.task: info for info in suite.tasks}
    records, notes, body = [], [], []
    for experiment in experiments:
        there = {s: label for s, label in experiment.settings.items() if label in tasks}
        if len(there) < len(experiment.settings):
            notes.append(
                f"{experiment.name}: {len(there)} of {len(experiment.settings)} settings were run."
            )
        cells = [Cell(experiment.name)]
        for method in suite.methods:
            scores = _scores(rows, experiment, {s: tasks[t] for s, t in there.items()}, method)
            records += [
                {"experiment": experiment.name, "method": method.label, "seed": s, "score": v}
                for s, v in scores.items()
            ]
            cells.append(Cell(_spread(list(scores.values()))))
        body.append(tuple(cells))
    notes = ["Mean over seeds (lowest to highest seed).", *notes]
    notes += [f"{e.name}: {e.note}" for e in experiments if e.note]
    return Table(
        title=f"{suite.name}: score by experiment",
        columns=("experiment", *(m.label for m in suite.methods)),
        rows=tuple(body),
        num_words=1,
        notes=tuple(notes),
        records=pd.DataFrame(records, columns=["experiment", "method", "seed", "score"]),
    )


def _scores(
    rows: pd.DataFrame, experiment: Experiment, settings: Mapping[Any, Any], method: MethodInfo
) -> dict[int, float]:
    """The score of each seed that has a run in every setting."""
    by_seed: dict[int, list[dict[Any, Curve]]] = {}
    for setting, task in settings.items():
        mine = rows_of(rows, task, method)
        seeds, _, episodes = curves(mine, "episode/total")
        totals = [curves(mine, name) for name in experiment.totals]
        for i, seed in enumerate(seeds):
            found = by_seed.setdefault(int(seed), [{} for _ in experiment.totals])
            for runs, (of_seeds, _, values) in zip(found, totals, strict=True):
                at = np.flatnonzero(of_seeds == seed)
                if at.size:
                    runs[setting] = _curve(episodes[i], values[at[0]])
    whole = {
        s: f for s, f in by_seed.items() if settings and all(len(r) == len(settings) for r in f)
    }
    return {seed: experiment.rule(*found) for seed, found in sorted(whole.items())}


def _curve(episode: Any, total: Any) -> Curve:
    kept = np.isfinite(episode) & np.isfinite(total) & (episode > 0)
    return Curve(episode[kept].astype(np.int64), total[kept].astype(np.float64))


def _spread(scores: list[float]) -> str:
    if not scores:
        return "-"
    mean, low, high = np.mean(scores), min(scores), max(scores)
    return f"{mean:.2f} ({low:.2f} to {high:.2f})" if high > low else f"{mean:.2f}"
