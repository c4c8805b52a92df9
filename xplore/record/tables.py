"""Tables in markdown, CSV and LaTeX, the same from the same rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from xplore.record.summary import Estimate, MethodInfo, MethodScore, Summary, TaskInfo, TaskScore

_NOTHING = "-"
_WIDEST = 5  # methods side by side in a terminal


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a table shows in one place."""

    text: str
    bold: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be read, with the numbers behind it to be computed with.

    Attributes:
        title: a line above it.
        columns: the headings, of the same number as the cells of each row.
        rows: the cells.
        num_words: how many of the columns, from the left, are words and not numbers.
        notes: sentences below it.
        records: every number in full, one row for each thing measured.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    num_words: int
    notes: tuple[str, ...]
    records: pd.DataFrame

    def to_markdown(self) -> str:
        """The title, the table with aligned columns (readable as it is), and the notes."""
        header = [_pipe(c) for c in self.columns]
        body = [
            [f"**{_pipe(c.text)}**" if c.bold else _pipe(c.text) for c in row] for row in self.rows
        ]
        widths = [max(3, *(len(line[i]) for line in [header, *body])) for i in range(len(header))]
        words = [i < self.num_words for i in range(len(header))]
        rule = [
            "-" * (w - 1) + ("-" if is_word else ":")
            for w, is_word in zip(widths, words, strict=True)
        ]
        lines = []
        for line in [header, rule, *body]:
            cells = (
                text.ljust(width) if is_word else text.rjust(width)
                for text, width, is_word in zip(line, widths, words, strict=True)
            )
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([f"**{self.title}**", "", *lines, "", *self._notes()]).rstrip() + "\n"

    def to_csv(self) -> str:
        """The records, not the cells: one line for each thing measured, numbers in full."""
        return self.records.to_csv(index=False, float_format="%.10g", lineterminator="\n")

    def to_latex(self) -> str:
        r"""A floating `table` with the rules of the package `booktabs`."""
        body = [
            [rf"\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row]
            for row in self.rows
        ]
        align = "l" * self.num_words + "r" * (len(self.columns) - self.num_words)
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{' '.join(map(_tex, (f'{self.title}.', *self.notes)))}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(_tex, self.columns)) + r" \\",
            r"\midrule",
            *(" & ".join(row) + r" \\" for row in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"

    def _notes(self) -> list[str]:
        return [" ".join(self.notes)] if self.notes else []


def task_table(summary: Summary, *, layout: Literal["auto", "wide", "long"] = "auto") -> Table:
    """The score of each method on each task, and over all tasks.

    A method is bold where nothing separates it from the best: its interval meets the best's, and
    some other method's does not. Where all meet, none is.

    Args:
        summary: of `summarise`.
        layout: `wide` has a column for each method, `long` a row for each method on each task;
            `auto` is wide up to five methods.
    """
    wide = layout == "wide" or (layout == "auto" and len(summary.suite.methods) <= _WIDEST)
    columns, rows = _wide(summary) if wide else _long(summary)
    return Table(
        title=f"{summary.suite.name}: score by task",
        columns=columns,
        rows=tuple(rows),
        num_words=1 if wide else 2,
        notes=(
            f"Interquartile mean [95% interval] over {_seeds(summary)} seeds, then seeds that"
            " solved the task.",
            "All tasks: scores from 0 (random) to 1 (optimal).",
        ),
        records=_task_records(summary),
    )


def method_table(summary: Summary) -> Table:
    """The methods over all tasks: score, gap, improvement on the first one, seeds and budget."""
    baseline = summary.suite.methods[0].label
    columns = [
        "method",
        "IQM",
        "optimality gap",
        f"P(better than {baseline})",
        "solved",
        "budget to solve",
    ]
    best = _undominated([m.iqm for m in summary.methods])
    rows = []
    told = any(m.privileged is not None for m in summary.methods)
    for m, bold in zip(summary.methods, best, strict=True):
        cells = [
            Cell(m.method.label),
            Cell(_interval(m.iqm, 2), bold),
            Cell(_interval(m.gap, 2)),
            Cell(_interval(m.improvement, 2)),
            Cell(_solved(m)),
            Cell(_number(m.budget_to_solve, 2)),
        ]
        if told:
            cells.insert(1, Cell(m.privileged or _NOTHING))
        rows.append(tuple(cells))
    if told:
        columns.insert(1, "reads")
    notes = [
        f"Scores from 0 (random) to 1 (optimal) over {len(summary.suite.tasks)} tasks and"
        f" {_seeds(summary)} seeds, [95% interval].",
        "Budget to solve: mean fraction of the budget before a seed solves, 1 if it never does.",
    ]
    if told:
        notes.append("Reads: what a method is given that a plain agent is not.")
    missing = [m for m in summary.methods if m.num_tasks < len(summary.suite.tasks)]
    notes += [
        f"{m.method.label} has {m.num_tasks} of {len(summary.suite.tasks)} tasks." for m in missing
    ]
    return Table(
        title=f"{summary.suite.name}: methods over all tasks",
        columns=tuple(columns),
        rows=tuple(rows),
        num_words=2 if told else 1,
        notes=tuple(notes),
        records=_method_records(summary),
    )


def _wide(summary: Summary) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    rows = []
    for task in summary.suite.tasks:
        scores = [summary.find(task, m) for m in summary.suite.methods]
        cells = [
            Cell(" ".join(filter(None, [_score(s), _count(s)])) if s else _NOTHING, bold)
            for s, bold in zip(scores, _best(task, scores), strict=True)
        ]
        rows.append((Cell(task.name), *cells))
    best = _undominated([m.iqm for m in summary.methods])
    overall = [
        # With a task missing, its count would be one of something else.
        Cell(
            _NOTHING
            if math.isnan(m.iqm[0])
            else f"{_interval(m.iqm, 2)} {_solved_count(m)}".strip(),
            bold,
        )
        for m, bold in zip(summary.methods, best, strict=True)
    ]
    rows.append((Cell("All tasks"), *overall))
    return ("task", *(m.label for m in summary.suite.methods)), rows


def _long(summary: Summary) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    rows = []
    for task in summary.suite.tasks:
        scores = [summary.find(task, m) for m in summary.suite.methods]
        for method, score, bold in zip(
            summary.suite.methods, scores, _best(task, scores), strict=True
        ):
            shown = [_score(score), _count(score), _steps(score)] if score else ["", "", ""]
            cells = (Cell(text or _NOTHING, bold and i == 0) for i, text in enumerate(shown))
            rows.append((Cell(task.name), Cell(method.label), *cells))
    best = _undominated([m.iqm for m in summary.methods])
    for m, bold in zip(summary.methods, best, strict=True):
        overall = Cell(_interval(m.iqm, 2), bold)
        solved = Cell(_solved_count(m) or _NOTHING)
        rows.append((Cell("All tasks"), Cell(m.method.label), overall, solved, Cell(_NOTHING)))
    return ("task", "method", "score", "solved", "median steps"), rows


def _best(task: TaskInfo, scores: Sequence[TaskScore | None]) -> list[bool]:
    estimates = [s.iqm if s else (math.nan, math.nan, math.nan) for s in scores]
    return _undominated(estimates, _decimals(task))


def _undominated(estimates: Sequence[Estimate], decimals: int = 2) -> list[bool]:
    """Which intervals meet that of the best estimate, all False when every one does.

    As the table shows them: no reader should wonder at one of two equal entries in bold.
    """
    shown = [tuple(round(e, decimals) for e in estimate) for estimate in estimates]
    known = [e for e in shown if not math.isnan(e[1])]
    if not known:
        return [False] * len(shown)
    floor = max(known)[1]
    separated = any(e[2] < floor for e in known)
    return [separated and e[2] >= floor for e in shown]  # False for NaN


def _decimals(task: TaskInfo) -> int:
    """About a hundredth of the range from random to optimal."""
    return min(6, max(0, 2 - round(math.log10(task.high - task.low))))


def _score(score: TaskScore) -> str:
    return _interval(score.iqm, _decimals(score.task))


def _count(score: TaskScore) -> str:
    return "" if score.solved is None else f"{score.solved}/{score.scores.size}"


def _solved_count(method: MethodScore) -> str:
    return f"{method.solved}/{method.asked}" if method.asked else ""


def _solved(method: MethodScore) -> str:
    if not method.asked:
        return _NOTHING
    _, low, high = method.solved_fraction
    return f"{_solved_count(method)} [{low:.2f}, {high:.2f}]"


def _steps(score: TaskScore) -> str:
    if math.isnan(score.median_steps):
        return ""
    if math.isinf(score.median_steps):
        return ">" + short_number(score.budget_steps)
    return short_number(score.median_steps)


def short_number(number: float) -> str:
    """Three figures with a unit.

    >>> [short_number(n) for n in (96, 1500, 300_000, 2_500_000)]
    ['96', '1.5k', '300k', '2.5M']
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _interval(estimate: Estimate, decimals: int) -> str:
    value, low, high = (_number(e, decimals) for e in estimate)
    return value if low == _NOTHING else f"{value} [{low}, {high}]"


def _number(number: float, decimals: int) -> str:
    # Adding zero turns the -0.00 of a rounded negative into 0.00.
    return _NOTHING if math.isnan(number) else f"{round(number, decimals) + 0.0:.{decimals}f}"


def _seeds(summary: Summary) -> str:
    counts = sorted({s.scores.size for s in summary.tasks})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _task_records(summary: Summary) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "suite": summary.suite.name,
            "task": s.task.task,
            **_who(s.method),
            "seeds": s.scores.size,
            "mean": s.scores.mean(),
            **_named("iqm", s.iqm),
            "normalised_mean": s.normalised.mean(),
            "solved": s.solved,
            **_named("solved_fraction", s.solved_fraction),
            "budget_steps": s.budget_steps,
            "median_steps_to_solve": s.median_steps,
            "mean_steps_to_solve": s.mean_steps,
        }
        for s in summary.tasks
    ).astype({"solved": "Int64"})


def _method_records(summary: Summary) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "suite": summary.suite.name,
            **_who(m.method),
            "privileged": m.privileged,
            "tasks": m.num_tasks,
            **_named("iqm", m.iqm),
            **_named("optimality_gap", m.gap),
            **_named("probability_of_improvement", m.improvement),
            "solved": m.solved,
            "seeds_asked": m.asked,
            **_named("solved_fraction", m.solved_fraction),
            "budget_to_solve": m.budget_to_solve,
        }
        for m in summary.methods
    )


def _who(method: MethodInfo) -> dict[str, str]:
    return {
        "method": method.label,
        "agent": method.agent,
        "bonus": method.bonus,
        "worlds": method.worlds,
    }


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    value, low, high = estimate
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


_TEX = {
    **{c: "\\" + c for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def _tex(text: str) -> str:
    return "--" if text == _NOTHING else "".join(_TEX.get(c, c) for c in text)
