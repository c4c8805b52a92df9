"""What the rows of a generalisation grid say: tables and figures, from rows and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xplore.bench import job_of
from xplore.benchmarks.suite import Suite, Task
from xplore.benchmarks.together import kept
from xplore.record import plots
from xplore.record.stats import Array, bootstrap_interval, mean
from xplore.record.summary import generator_for

PROFILE: Final = tuple(i / 20 for i in range(1, 21))  # shares of tries
SHOWN: Final = 200  # training levels of the table of all measures and of the profile
# What is compared with what: the same agent without its exploration.
PAIRS: Final = (
    ("ppo+episodic count", "ppo"),
    ("ppo+noveld", "ppo"),
    ("ede", "ede without its bonus"),
)
_COLOURS: Final = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")


class Cell(NamedTuple):
    """What one method reached on so many levels of a task.

    Attributes:
        last: of each metric its values after the whole budget, `[S]`, in the order of seeds.
        curve: held-out success, `[P, S]`, at `steps` `[P]`.
        flops_per_step: of training, all that an update does counted in.
    """

    last: dict[str, Array]
    curve: Array
    steps: Array
    flops_per_step: float


# By task, method, number of levels.
Cells = dict[tuple[str, str, int], Cell]


def split(label: str) -> tuple[str, int]:
    """A label of the grid as method and number of levels."""
    name, _, levels = label.rpartition(" on ")
    return name, int(levels)


def cells_of(suite: Suite, rows: pd.DataFrame, folder: Path) -> Cells:
    """The cells of which there are rows."""
    records = kept(folder).records
    by_job = dict(tuple(rows.groupby("fingerprint", observed=True)))
    found: Cells = {}
    for task in suite.tasks:
        for method in suite.methods:
            job = job_of(suite, task, method)
            mine = by_job.get(job.fingerprint)
            if mine is None:
                continue
            mine = mine.sort_values(["env_steps", "seed"])
            at_end = mine[mine["env_steps"] == task.budget_steps]
            last = {
                str(name): group["value"].to_numpy(np.float64)
                for name, group in at_end.groupby("metric", observed=True)
            }
            on_the_way = mine[mine["metric"] == "eval/success"]
            points = on_the_way.pivot_table(
                index="env_steps", columns="seed", values="value", observed=True
            )
            flops = records[job.fingerprint]["flops_per_update"] / job.config.steps_per_update
            steps = points.index.to_numpy(np.float64)
            found[task.label, *split(method.label)] = Cell(last, points.to_numpy(), steps, flops)
    return found


def estimate(values: Array, *names: str) -> str:
    """Mean with its 95% bootstrap interval over seeds; NaN seeds (nothing solved) left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"  # one seed alone has no interval
    low, high = bootstrap_interval(mean, [values], generator=generator_for(0, *names))
    return f"{values.mean():.2f} [{float(low):.2f}, {float(high):.2f}]"


def paired(one: Array, other: Array, *names: str) -> tuple[float, float, float]:
    """Mean of `one` less `other`, seed by seed, with its 95% bootstrap interval."""
    gain = one - other
    low, high = bootstrap_interval(mean, [gain], generator=generator_for(0, *names))
    return float(gain.mean()), float(low), float(high)


def at_flops(cell: Cell, flops: float) -> Array:
    """Held-out success `[S]` once `flops` were spent, between evaluations linear; at most all."""
    steps = np.concatenate([[0.0], cell.steps])
    curve = np.concatenate([np.zeros((1, cell.curve.shape[1])), cell.curve])
    reached = flops / cell.flops_per_step
    return np.array([np.interp(reached, steps, seed) for seed in curve.T])


def table(suite: Suite, cells: Cells) -> str:
    """The markdown of all tasks."""
    parts = []
    for task in suite.tasks:
        mine = {key[1:]: cell for key, cell in cells.items() if key[0] == task.label}
        if mine:
            parts += _of_task(task, mine)
    return "\n".join(parts)


def _of_task(task: Task, cells: Mapping[tuple[str, int], Cell]) -> list[str]:
    names = list(dict.fromkeys(name for name, _ in cells))
    levels = sorted({w for _, w in cells})
    seeds = max(len(cell.last["eval/success"]) for cell in cells.values())
    lines = [f"**{task.label}**: {task.budget_steps:,} steps, {seeds} seeds", ""]
    for metric, title in (("eval/success", "held-out success"), ("gap/success", "gap")):
        lines += [f"| {title} | {' | '.join(f'W = {w:,}' for w in levels)} |"]
        lines += [f"|---|{'---|' * len(levels)}"]
        for name in names:
            told = [
                estimate(cells[name, w].last[metric], task.label, name, str(w), metric)
                if (name, w) in cells
                else "-"
                for w in levels
            ]
            lines.append(f"| {name} | {' | '.join(told)} |")
        lines.append("")
    lines += [f"| gain in held-out success | {' | '.join(f'W = {w:,}' for w in levels)} |"]
    lines += [f"|---|{'---|' * len(levels)}"]
    verdicts = []
    for name, base in PAIRS:
        gains = {
            w: paired(
                cells[name, w].last["eval/success"],
                cells[base, w].last["eval/success"],
                task.label, name, str(w),
            )
            for w in levels
            if (name, w) in cells and (base, w) in cells
        }  # fmt: skip
        if gains:
            told = [
                "{:+.2f} [{:+.2f}, {:+.2f}]".format(*gains[w]) if w in gains else "-"
                for w in levels
            ]
            lines.append(f"| {name} less {base} | {' | '.join(told)} |")
            verdicts.append(_verdict(name, base, gains))
    lines += ["", *verdicts, "", *_all_measures(task, cells, names), ""]
    return lines


def _verdict(name: str, base: str, gains: Mapping[int, tuple[float, float, float]]) -> str:
    """Where one is above or below the other; an interval that holds 0 says neither."""
    above = [f"{w:,}" for w, (_, low, _) in gains.items() if low > 0]
    below = [f"{w:,}" for w, (_, _, high) in gains.items() if high < 0]
    said = []
    if above:
        said.append(f"does better on held-out levels with W = {', '.join(above)}")
    if below:
        said.append(f"does worse with W = {', '.join(below)}")
    return f"* {name} {' and '.join(said) or 'is not told apart'} (against {base})."


def _all_measures(
    task: Task, cells: Mapping[tuple[str, int], Cell], names: Sequence[str]
) -> list[str]:
    shown = {name: cells[name, SHOWN] for name in names if (name, SHOWN) in cells}
    if not shown:
        return []
    columns = {
        "train": "eval_train/success",
        "held out": "eval/success",
        "worst 10%": "eval/success_worst_10",
        "worst 5%": "eval/success_worst_5",
        "worst 1%": "eval/success_worst_1",
        "return": "eval/return",
        "steps / fewest": "eval/steps_over_optimal",
    }
    learning = [cell.flops_per_step for name, cell in shown.items() if name != "random"]
    least = min(learning, default=0.0) * task.budget_steps
    heads = [*columns, "MFLOP / step", f"held out after {least / 1e9:,.0f} GFLOP"]
    lines = [f"| W = {SHOWN} | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name, cell in shown.items():
        told = [
            estimate(cell.last[m], task.label, name, m) if m in cell.last else "-"
            for m in columns.values()
        ]
        told.append(f"{cell.flops_per_step / 1e6:.2f}")
        told.append(estimate(at_flops(cell, least), task.label, name, "flops"))
        lines.append(f"| {name} | {' | '.join(told)} |")
    return lines


def draw_levels(suite: Suite, cells: Cells) -> Figure:
    """Success against the number of training levels: held out as lines, on them dashed."""
    tasks = [t for t in suite.tasks if any(key[0] == t.label for key in cells)]
    figure = Figure(figsize=(4.4 * len(tasks), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    looks = _looks(suite)
    for panel, task in zip(panels, tasks, strict=True):
        names = list(dict.fromkeys(key[1] for key in cells if key[0] == task.label))
        ticks: dict[float, str] = {}
        for name in names:
            colour = looks[name]
            mine = {w: c for (t, n, w), c in cells.items() if (t, n) == (task.label, name)}
            levels = sorted(mine)
            if name == "random":  # the same for any W
                value = mine[levels[0]].last["eval/success"].mean()
                panel.axhline(value, color=colour, linestyle=":", label=name)
                continue
            places = np.log10(levels)
            _band(panel, places, [mine[w].last["eval/success"] for w in levels], colour, name)
            train = [mine[w].last["eval_train/success"].mean() for w in levels]
            panel.plot(places, train, color=colour, linestyle=(0, (4, 2)), linewidth=1.0)
            ticks |= dict(zip(places, (f"{w:,}" for w in levels), strict=True))
        panel.set_xticks(list(ticks), list(ticks.values()))
        panel.set(xlabel="training levels W", ylabel="success", ylim=(-0.03, 1.03))
        panel.set_title(task.label, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    _legend(figure, "line: held-out levels, dashes: training levels")
    return figure


def _looks(suite: Suite) -> dict[str, str]:
    """The colour of each method, whatever others there are rows of."""
    names = dict.fromkeys(split(method.label)[0] for method in suite.methods)
    return dict(zip(names, _COLOURS, strict=False))


def _legend(figure: Figure, title: str | None = None) -> None:
    """Names every method of any panel once."""
    found: dict[str, Any] = {}
    for panel in figure.axes:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(
        list(found.values()), list(found), loc="outside lower center", ncols=3, frameon=False,
        fontsize=8.5, title=title, title_fontsize=8.5,
    )  # fmt: skip


def _band(panel: Any, places: Any, values: Sequence[Array], colour: str, name: str) -> None:
    ends = [
        bootstrap_interval(mean, [v], generator=generator_for(0, name, str(i)))
        for i, v in enumerate(values)
    ]
    low, high = (np.array([float(e[side]) for e in ends]) for side in (0, 1))
    panel.plot(
        places, [v.mean() for v in values], color=colour, marker="o", markersize=3.5, label=name
    )
    panel.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def draw_profiles(suite: Suite, cells: Cells) -> Figure:
    """How many of the held-out levels are solved in so large a share of the tries, of all seeds."""
    tasks = [t for t in suite.tasks if any(k[0] == t.label and k[2] == SHOWN for k in cells)]
    figure = Figure(figsize=(4.4 * max(len(tasks), 1), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    looks = _looks(suite)
    for panel, task in zip(panels, tasks, strict=False):
        names = [k[1] for k in cells if (k[0], k[2]) == (task.label, SHOWN)]
        for name in names:
            last = cells[task.label, name, SHOWN].last
            shares = [last[f"profile/{p:g}"].mean() for p in PROFILE]
            panel.step(PROFILE, shares, where="pre", color=looks[name], label=name)
        panel.set(
            xlabel="share of tries", ylabel="levels solved in at least that share",
            ylim=(-0.03, 1.03),
        )  # fmt: skip
        panel.set_title(f"{task.label}, W = {SHOWN}", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    _legend(figure)
    return figure


def write(suite: Suite, rows: pd.DataFrame, folder: Path) -> None:
    """Writes `table.md`, `levels.png` and `profile.png`, from what rows there are."""
    cells = cells_of(suite, rows, folder)
    if not cells:
        return
    (folder / "table.md").write_text(table(suite, cells).rstrip() + "\n", encoding="utf-8")
    plots.save_figure(draw_levels(suite, cells), folder / "levels.png")
    plots.save_figure(draw_profiles(suite, cells), folder / "profile.png")
