"""Maps of a grid, one row for each method and one column for each slice of a run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from PIL import Image

from xplore.record.files import new_file, unwritable, writable_folder
from xplore.record.tables import short_number

Grid = npt.NDArray[Any]
_CELL_INCHES, _LABEL_INCHES = 1.5, 0.7
_COLOURS = {"visits": "viridis", "bonus": "magma"}


def heat_figure(
    maps: Mapping[str, tuple[Grid, Grid]],
    env_steps: Sequence[int],
    walls: Grid | None = None,
    title: str = "",
    slices: Sequence[int] | None = None,
) -> Figure:
    """Two rows for each method: visits (logarithmic), and the mean bonus of a visit.

    Args:
        maps: method -> `(visits [K, H, W], bonus [K, H, W])`; cells never visited are blank.
        env_steps: `[K]`, env steps at the end of each slice.
        walls: bool `[H, W]`, drawn grey.
        title: of the figure.
        slices: which of the K to draw; all by default. Scales are those of all.
    """
    chosen = range(len(env_steps)) if slices is None else slices
    height, width = next(iter(maps.values()))[0].shape[1:]
    across, down = _CELL_INCHES * max(1.0, width / height), _CELL_INCHES * max(1.0, height / width)
    rows = 2 * len(maps)
    figure = Figure(
        (across * len(chosen) + 2 * _LABEL_INCHES, down * rows + 0.5), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, len(chosen), squeeze=False)
    for i, (label, (visits, bonus)) in enumerate(maps.items()):
        for j, (kind, values) in enumerate((("visits", visits), ("bonus", bonus))):
            seen = np.where(visits > 0, values, np.nan)
            norm = _scale(kind, seen)
            colours = ScalarMappable(norm, _COLOURS[kind])
            for panel, k in zip(panels[2 * i + j], chosen, strict=True):
                panel.imshow(seen[k], cmap=_COLOURS[kind], norm=norm)
                if walls is not None:
                    panel.imshow(np.where(walls, 0.6, np.nan), cmap="gray", vmin=0, vmax=1)
                panel.set(xticks=[], yticks=[])
                if i == j == 0:
                    panel.set_title(f"{short_number(env_steps[k])} steps", fontsize=8)
            panels[2 * i + j][0].set_ylabel(f"{label}\n{kind}", fontsize=8)
            bar = figure.colorbar(colours, ax=panels[2 * i + j].tolist(), shrink=0.8)
            bar.ax.tick_params(labelsize=6)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def _scale(kind: str, values: Grid) -> Normalize:
    finite = values[np.isfinite(values)]
    if kind == "visits":
        return LogNorm(1, max(float(finite.max(initial=1.0)), 2.0))
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    return Normalize(low, high if high > low else low + 1e-6)


def trace_figure(
    frames: Sequence[Grid], steps: Sequence[int], lines: Mapping[str, Grid], title: str = ""
) -> Figure:
    """Frames of an episode in a row, and under them what its steps were paid.

    Args:
        frames: pictures `[h, w, 3]`.
        steps: after how many steps each was taken.
        lines: name -> `[T]`.
        title: of the figure.
    """
    figure = Figure((max(6.0, 1.1 * len(frames)), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, len(frames), height_ratios=(1, 1.3))
    for k, (frame, step) in enumerate(zip(frames, steps, strict=True)):
        panel = figure.add_subplot(grid[0, k])
        panel.imshow(frame)
        panel.set(xticks=[], yticks=[])
        panel.set_title(f"{step}", fontsize=8)
    panel = figure.add_subplot(grid[1, :])
    for (label, values), colour in zip(lines.items(), ("#d55e00", "#0072b2"), strict=False):
        panel.step(np.arange(1, len(values) + 1), values, where="mid", label=label, color=colour)
    for step in steps:
        panel.axvline(step, color="#cccccc", linewidth=0.6, zorder=0)
    panel.set_xlabel("step of the episode")
    panel.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        ResultsError: `path` cannot be written.
    """
    writable_folder(path.parent)
    try:
        with new_file(path, replace=True) as stream:
            figure.savefig(stream, format="png", dpi=120)
    except OSError as error:
        raise unwritable(path, error) from error


def save_film(figures: Sequence[Figure], path: Path, *, frame_ms: int = 700) -> None:
    """Writes figures of one size as a GIF.

    Raises:
        ResultsError: `path` cannot be written.
    """
    writable_folder(path.parent)
    images = []
    for figure in figures:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=100)
        images.append(Image.open(drawn).convert("RGB"))
    try:
        with new_file(path, replace=True) as stream:
            images[0].save(
                stream, "GIF", save_all=True, append_images=images[1:], duration=frame_ms, loop=0
            )
    except OSError as error:
        raise unwritable(path, error) from error
