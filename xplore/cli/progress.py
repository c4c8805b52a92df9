"""How a run is going, while it goes: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from xplore.loop.session import Progress

SECONDS_BETWEEN_LINES = 10.0
_SHOWN = {
    "return": ("episode/return", "{:.3g}"),
    "success": ("episode/success", "{:.0%}"),
    "intrinsic": ("episode/intrinsic", "{:.3g}"),
}


class Words:
    """The figures of a `Progress` as words; a mean over no episodes keeps its last value."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def __call__(self, progress: Progress) -> str:
        """For example `41.2k steps/s  return 0.62  success 64%  intrinsic 1.2  12 s left`."""
        for label, (name, form) in _SHOWN.items():
            value = progress.metrics.get(name, math.nan)
            if math.isfinite(value):
                self._last[label] = form.format(value)
        figures = [f"{label} {value}" for label, value in self._last.items()]
        speed = f"{short(progress.steps_per_second)} steps/s"
        return "  ".join([speed, *figures, f"{duration(progress.seconds_left)} left"])


def short(number: float) -> str:
    """A number with a unit of a thousand, a million or a billion.

    >>> short(1_234_567.0), short(12.3)
    ('1.23M', '12.3')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42.4), duration(754), duration(7300), duration(float("inf"))
    ('42 s', '12 min 34 s', '2 h 1 min', '?')
    """
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextlib.contextmanager
def shown(title: str, stream: TextIO | None = None) -> Iterator[Callable[[Progress], None]]:
    """A callback for `train(on_progress=...)` that shows each `Progress` on `stream` (stderr)."""
    out: TextIO = sys.stderr if stream is None else stream
    if out.isatty():
        with _bar(title, out) as callback:
            yield callback
    else:
        yield _lines(title, out)


@contextlib.contextmanager
def _bar(title: str, stream: TextIO) -> Iterator[Callable[[Progress], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[words]}"),
    )
    with Bars(*columns, console=Console(file=stream), transient=True) as bars:
        task = bars.add_task(title, total=None, words="compiling")
        words = Words()

        def callback(progress: Progress) -> None:
            bars.update(
                task,
                total=progress.budget_steps,
                completed=progress.env_steps,
                words=words(progress),
            )

        yield callback


def _lines(title: str, stream: TextIO) -> Callable[[Progress], None]:
    words, last = Words(), time.monotonic()

    def callback(progress: Progress) -> None:
        nonlocal last
        text = words(progress)  # even where no line is due: it remembers the latest figures
        finished = progress.env_steps >= progress.budget_steps
        if not finished and time.monotonic() - last < SECONDS_BETWEEN_LINES:
            return
        last = time.monotonic()
        share = f"{short(progress.env_steps)}/{short(progress.budget_steps)} steps"
        print(f"{title}: {share}  {text}", file=stream, flush=True)

    return callback
