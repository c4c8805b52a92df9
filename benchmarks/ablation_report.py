"""The tables and the figure of a factorial ablation, from the scores of its cells alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xplore.record.stats import Array, bootstrap_interval, mean
from xplore.record.summary import generator_for

_REPS = 2000
_LEVEL = 0.95


class Panel(NamedTuple):
    """One method on one task.

    Attributes:
        task, method: their labels.
        factors: name of each factor to its levels, in the order of the axes.
        scores: `[*levels, S]`, a number for each cell and seed.
        default: the cell that the defaults are.
        plain: the mean score without the method.
    """

    task: str
    method: str
    factors: dict[str, tuple[str, ...]]
    scores: Array
    default: tuple[int, ...]
    plain: float

    def of_factor(self, factor: str) -> Array:
        """Scores `[levels, cells of the other factors, S]`."""
        axis = list(self.factors).index(factor)
        moved = np.moveaxis(self.scores, axis, 0)
        return moved.reshape(moved.shape[0], -1, moved.shape[-1])


class Effect(NamedTuple):
    """What one factor does to one panel.

    Attributes:
        means: of each level over the cells of all other factors, `[levels]`.
        low, high: 95% intervals of these, of the bootstrap over seeds within cells.
        moved: the largest mean less the smallest.
        by_chance: what 95% of shuffles of the levels, within cells of the other factors and seeds,
            move at most: a factor that does nothing moves as much.
    """

    means: Array
    low: Array
    high: Array
    moved: float
    by_chance: float


def effect(panel: Panel, factor: str, *, reps: int = _REPS) -> Effect:
    """The main effect of a factor."""
    scores = panel.of_factor(factor)
    names = (panel.task, panel.method, factor)
    ends = [
        bootstrap_interval(mean, list(level), generator=generator_for(i, *names), reps=reps)
        for i, level in enumerate(scores)
    ]
    means = scores.mean(axis=(1, 2))
    blocks = scores.reshape(len(scores), -1)
    generator = generator_for(0, "shuffle", *names)
    shuffled = [generator.permuted(blocks, axis=0).mean(axis=1) for _ in range(reps)]
    return Effect(
        means,
        np.array([float(e.low) for e in ends]),
        np.array([float(e.high) for e in ends]),
        float(np.ptp(means)),
        float(np.quantile(np.ptp(shuffled, axis=1), _LEVEL)),
    )


def tables(panels: Sequence[Panel], note: str) -> str:
    """The markdown: one table of what each factor moves, one for each factor's levels."""
    factors = list(panels[0].factors)
    effects = {
        (panel.task, panel.method, factor): effect(panel, factor)
        for panel in panels
        for factor in factors
    }
    lines = [
        f"| task | bonus | {' | '.join(factors)} | no bonus | default cell | best cell |"
        " mean of cells |",
        f"|---|---|{'---|' * (len(factors) + 4)}",
    ]
    for panel in panels:
        cells = panel.scores.mean(axis=-1)
        best = np.unravel_index(int(cells.argmax()), cells.shape)
        chosen = zip(panel.factors.items(), best, strict=True)
        name = ", ".join(_head(factor, level[i]) for (factor, level), i in chosen)
        top = f"{cells.max():.2f} ({name})" if np.ptp(cells) > 0 else "-"
        moved = [_moved(effects[panel.task, panel.method, factor]) for factor in factors]
        lines.append(
            f"| {panel.task} | {panel.method} | {' | '.join(moved)} |"
            f" {panel.plain:.2f} | {cells[panel.default]:.2f} | {top} | {cells.mean():.2f} |"
        )
    lines += [
        "",
        "How far the levels of a factor lie apart, each averaged over all levels of the others. In"
        " bold what is more than 95% of shuffles of the levels reach (in brackets). "
        + note
        + " The"
        " best of so many cells is partly luck.",
    ]
    for factor in factors:
        levels = panels[0].factors[factor]
        lines += [
            "",
            f"| task | bonus | {' | '.join(_head(factor, level) for level in levels)} |",
            f"|---|---|{'---|' * len(levels)}",
        ]
        for panel in panels:
            found = effects[panel.task, panel.method, factor]
            at = panel.default[list(panel.factors).index(factor)]
            told = [
                f"{m:.2f} [{low:.2f}, {high:.2f}]{' *' if i == at else ''}"
                for i, (m, low, high) in enumerate(
                    zip(found.means, found.low, found.high, strict=True)
                )
            ]
            lines.append(f"| {panel.task} | {panel.method} | {' | '.join(told)} |")
    lines += [
        "",
        "Mean success by level [95% interval of the bootstrap over seeds, within cells]; * is the"
        " default.",
    ]
    return "\n".join(lines) + "\n"


def _head(factor: str, level: str) -> str:
    return f"{level} {'head' if level == '1' else 'heads'}" if factor == "heads" else level


def _moved(found: Effect) -> str:
    text = f"{found.moved:.2f}"
    return f"{f'**{text}**' if found.moved > found.by_chance else text} ({found.by_chance:.2f})"


def figure(panels: Sequence[Panel]) -> Figure:
    """A heatmap for each panel: rows are the first factor, columns the others; default framed."""
    tasks = list(dict.fromkeys(p.task for p in panels))
    methods = list(dict.fromkeys(p.method for p in panels))
    drawing = Figure(figsize=(3.6 * len(methods) + 1.0, 2.9 * len(tasks)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(tasks), len(methods), squeeze=False)
    image = None
    for panel in panels:
        at = axes[tasks.index(panel.task), methods.index(panel.method)]
        (_, rows), (_, outer), (_, inner) = panel.factors.items()
        cells = panel.scores.mean(axis=-1).reshape(len(rows), -1)
        image = at.imshow(cells, vmin=0.0, vmax=1.0, cmap="viridis", aspect="auto")
        for (y, x), value in np.ndenumerate(cells):
            colour = "black" if value > 0.6 else "white"
            at.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
        row, column = panel.default[0], panel.default[1] * len(inner) + panel.default[2]
        frame = Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.2
        )
        at.add_patch(frame)
        for split in range(1, len(outer)):
            at.axvline(split * len(inner) - 0.5, color="white", linewidth=2.5)
        at.set_yticks(range(len(rows)), rows, fontsize=8)
        labels = [f"{x}\n{_head('heads', o)}" if x == inner[len(inner) // 2] else x
                  for o in outer for x in inner]  # fmt: skip
        at.set_xticks(range(len(labels)), labels, fontsize=8)
        at.set_title(f"{panel.task}: {panel.method}", fontsize=9)
        at.tick_params(length=0)
    if image is not None:
        drawing.colorbar(image, ax=axes, label="success", shrink=0.6)
    return drawing
