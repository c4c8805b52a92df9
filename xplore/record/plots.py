"""Figures: learning curves, performance profiles, aggregates; the same from the same rows."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from xplore.contracts.errors import ResultsError
from xplore.record import stats, survival
from xplore.record.files import locked, new_file, unwritable, writable_folder
from xplore.record.summary import (
    MethodInfo,
    SuiteInfo,
    Summary,
    TaskInfo,
    curves,
    generator_for,
    methods_in,
    rows_of,
)
from xplore.record.tables import short_number

# The colours of Okabe and Ito (2008), told apart by all kinds of colour vision, their yellow left
# out for want of contrast; grey is for the baseline. Dashes tell the second seven from the first.
_COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 9.5,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    "xtick.color": "#666666",
    "xtick.labelcolor": "#333333",
    "ytick.color": "#666666",
    "ytick.labelcolor": "#333333",
}
_PANEL_INCHES = (3.5, 2.7)
_PANELS_ACROSS = 4


def learning_curves(
    rows: pd.DataFrame, suite: SuiteInfo, *, window: int = 5, reps: int = 1000, seed: int = 0
) -> Figure:
    """One panel a task: interquartile mean over seeds against env steps, with its 95% band.

    Args:
        rows: as `read_rows` returns.
        suite: the tasks, whose `curve_metric` is drawn, and the methods.
        window: points of the trailing mean each seed's curve is smoothed with.
        reps: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ResultsError: nothing to draw.
    """
    methods = suite.methods or methods_in(rows[rows["task"].isin([t.task for t in suite.tasks])])
    with _style():
        across = min(_PANELS_ACROSS, len(suite.tasks))
        down = math.ceil(len(suite.tasks) / across)
        figure = _figure(across * _PANEL_INCHES[0], down * _PANEL_INCHES[1] + 0.5)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        drawn: set[MethodInfo] = set()
        for panel, task in zip(panels, suite.tasks, strict=False):
            for look, method in zip(_looks(len(methods)), methods, strict=True):
                mine = rows_of(rows, task, method)
                generator = generator_for(seed, task.task, *dataclasses.astuple(method)[1:])
                if _draw_curve(panel, mine, task, look, window, reps, generator):
                    drawn.add(method)
            _dress_curves(panel, task)
        for panel in panels[len(suite.tasks) :]:
            panel.set_visible(False)
        for panel in panels[::across]:
            panel.set_ylabel("return")
        if not drawn:
            raise ResultsError(f"no learning curves of suite '{suite.name}' in these rows")
        _legend(figure, methods)
    return figure


def _draw_curve(
    panel: Axes,
    rows: pd.DataFrame,
    task: TaskInfo,
    look: dict[str, Any],
    window: int,
    reps: int,
    generator: np.random.Generator,
) -> bool:
    seeds, env_steps, values = curves(rows, task.curve_metric)
    if not seeds.size or np.isnan(values).all():
        return False
    # The seeds' common range: beyond it a mean over fewer of them would jump.
    measured = ~np.isnan(values)
    last = min(np.flatnonzero(m)[-1] if m.any() else -1 for m in measured)
    smooth = survival.trailing_mean(values, window)[:, : last + 1]
    kept = ~np.isnan(smooth).any(axis=0)
    if not kept.any():
        return False
    points = [smooth[:, kept].T]
    low, high = stats.bootstrap_interval(stats.iqm, points, generator=generator, reps=reps)
    at = env_steps[: last + 1][kept]
    panel.plot(at, stats.iqm(points), **look)
    panel.fill_between(at, low, high, color=look["color"], alpha=0.17, linewidth=0)
    return True


def _dress_curves(panel: Axes, task: TaskInfo) -> None:
    if task.curve_metric.endswith("/return") and (task.low, task.high) != (0.0, 1.0):
        for level in (task.low, task.high):
            panel.axhline(level, color="#aaaaaa", linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
    panel.set_title(task.name)
    panel.set_xlabel("env steps")
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_number(x)))


def performance_profiles(summary: Summary, *, reps: int = 2000, seed: int = 0) -> Figure:
    """The fraction of runs over all tasks with a score above each threshold, with 95% bands.

    Methods with a task missing are left out: theirs would be a profile of something else.
    """
    thresholds = np.linspace(0.0, 1.0, 201)
    methods = _complete(summary)
    with _style():
        figure = _figure(5.2, 3.7)
        panel = figure.subplots()
        for look, method in zip(_looks(len(summary.suite.methods)), methods, strict=True):
            if method is None:
                continue
            strata = stats.above_thresholds(
                [s.normalised for s in summary.tasks if s.method == method], thresholds
            )
            generator = generator_for(seed, "profile", *dataclasses.astuple(method)[1:])
            low, high = stats.bootstrap_interval(stats.mean, strata, generator=generator, reps=reps)
            panel.plot(thresholds, stats.mean(strata), drawstyle="steps-post", **look)
            panel.fill_between(
                thresholds, low, high, step="post", color=look["color"], alpha=0.15, linewidth=0
            )
        if not any(methods):
            _say_incomplete(panel, summary)
        panel.set_xlim(0.0, 1.0)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel(r"normalised score $\tau$ (0 random, 1 optimal)")
        panel.set_ylabel(r"fraction of runs with score > $\tau$")
        panel.set_title(f"{summary.suite.name}: performance profile")
        _legend(figure, summary.suite.methods, across=2)
    return figure


def aggregate_intervals(summary: Summary) -> Figure:
    """Interquartile mean, optimality gap and fraction solved of each method, with intervals.

    Methods with a task missing are named without numbers.
    """
    whole = _complete(summary)
    shown = [
        ("IQM", [m.iqm for m in summary.methods], "higher is better"),
        ("optimality gap", [m.gap for m in summary.methods], "lower is better"),
    ]
    if any(m.asked for m in summary.methods):
        solved = [
            m.solved_fraction if w else (math.nan, math.nan, math.nan)
            for m, w in zip(summary.methods, whole, strict=True)
        ]
        shown.append(("fraction solved", solved, "higher is better"))
    labels = [m.method.label for m in summary.methods]
    places = np.arange(len(labels))
    with _style():
        width = 2.3 * len(shown) + 0.07 * max(map(len, labels)) + 0.4
        figure = _figure(width, 0.36 * len(labels) + 1.25)
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False).ravel()
        for panel, (title, estimates, better) in zip(panels, shown, strict=True):
            for place, look, estimate in zip(places, _looks(len(labels)), estimates, strict=True):
                _draw_interval(panel, float(place), look["color"], estimate)
            panel.set_title(title)
            panel.set_xlabel(better)
            panel.set_xlim(-0.02, 1.02)
            panel.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "", "0.5", "", "1"])
            panel.grid(axis="y", visible=False)
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
        if not any(whole):
            _say_incomplete(panels[0], summary)
        panels[0].set_yticks(places, labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        figure.suptitle(f"{summary.suite.name}: all tasks", fontsize=10.5)
    return figure


def _draw_interval(
    panel: Axes, place: float, colour: str, estimate: tuple[float, float, float]
) -> None:
    value, low, high = estimate
    if math.isnan(value):
        return
    if not math.isnan(low):
        panel.barh(place, high - low, left=low, height=0.56, color=colour, alpha=0.3, linewidth=0)
    panel.vlines(value, place - 0.33, place + 0.33, color=colour, linewidth=2.4, zorder=3)


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, whole or not at all, in place of an earlier one; returns its path.

    Raises:
        ResultsError: a name that does not end in `.png`, or a folder that cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ResultsError(f"figures are PNG: name '{target}' with the ending .png")
    folder = writable_folder(target.parent)
    try:
        with locked(folder), new_file(target, replace=True) as stream, _style():
            # Left alone, the file would carry the version of the package that drew it.
            figure.savefig(stream, format="png", metadata={"Software": None})
    except OSError as error:
        raise unwritable(target, error) from error
    return target


@contextlib.contextmanager
def _style() -> Iterator[None]:
    # From the defaults, so that a matplotlibrc does not change what is published.
    with matplotlib.style.context(["default", _STYLE]):
        yield


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _looks(count: int) -> list[dict[str, Any]]:
    """A colour and a dash for each method; no two of the first 28 have both the same."""
    num = len(_COLOURS)
    return [
        {"color": _COLOURS[i % num], "linestyle": _DASHES[i // num % len(_DASHES)]}
        for i in range(count)
    ]


def _legend(figure: Figure, methods: Sequence[MethodInfo], *, across: int | None = None) -> None:
    looks = _looks(len(methods))
    handles = [Line2D([], [], **look) for look in looks]
    if across is None:
        characters = max(len(m.label) for m in methods) + 7
        across = max(1, int(figure.get_figwidth() * 13 / characters))
    figure.legend(
        handles,
        [m.label for m in methods],
        loc="outside lower center",
        ncols=min(across, len(methods)),
        handlelength=2.4,
    )


def _complete(summary: Summary) -> list[MethodInfo | None]:
    """The methods in order, None in the place of one with a task missing."""
    num = len(summary.suite.tasks)
    return [m.method if m.num_tasks == num else None for m in summary.methods]


def _say_incomplete(panel: Axes, summary: Summary) -> None:
    panel.text(
        0.5,
        0.5,
        f"no method has all\n{len(summary.suite.tasks)} tasks yet",
        transform=panel.transAxes,
        ha="center",
        va="center",
        color="#666666",
    )
