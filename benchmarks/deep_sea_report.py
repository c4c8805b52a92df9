"""The table and the figure of `xplore.benchmarks.deep_sea_law`, from its rows alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Medians over 20 seeds of independent implementations in NumPy, episodes to the first treasure and
# until solved (inf: not within the budget); None: not measured.
Pair = tuple[float | None, float | None]
REFERENCE: dict[str, dict[int, Pair]] = {
    # Of geometric times with the probability 2^-N.
    "uniform random": {n: (math.log(0.5) / math.log1p(-(2.0**-n)), None) for n in (5, 10)},
    "R-max, m=1": {5: (11, 14), 10: (26, 29), 20: (55, 61), 30: (82, 92)},
    "model-based UCB, .1/sqrt(n), clip 1": {
        5: (10, 13), 10: (33, 39), 20: (122, 143), 30: (307, 350),
    },
    "model-based UCB, 1/sqrt(n), clip 1": {5: (30, 86), 10: (530, 822)},
    "optimistic Q-learning": {5: (23, 28), 10: (86, 112), 20: (359, 445), 30: (806, 1001)},
    "UCB-Q, .05/sqrt(n)": {5: (23, 25), 10: (109, 121), 20: (532, 591)},
    "UCB-Q, .05/sqrt(n), V not clipped": {5: (23, 25), 10: (109, 121), 20: (532, 591)},
    "RLSVI, sigma=1, lambda=1": {5: (22, 38), 10: (256, 583), 20: (1887, None)},
    "RLSVI, sigma=.3, lambda=1": {5: (22, 30), 10: (256, 295), 20: (1904, None)},
    "PSRL, Dir(1/N)": {5: (26, 49), 10: (133, 601), 20: (827, math.inf)},
}  # fmt: skip
_NEARLY_DETERMINISTIC = ("R-max, m=1", "optimistic Q-learning")
_LEAST_SIZE = 10  # at N = 5 one random episode in 32 succeeds: luck is half of what is measured
_LAWS = {
    "R-max, m=1": 1.0,
    "model-based UCB, .1/sqrt(n), clip 1": 2.0,
    "optimistic Q-learning": 2.0,
    "UCB-Q, .05/sqrt(n)": 2.3,
    "UCB-Q, .05/sqrt(n), V not clipped": 2.3,
    "RLSVI, sigma=1, lambda=1": 2.9,
    "PSRL, Dir(1/N)": 2.6,
}
_COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


class Exponent(NamedTuple):
    """The slope of log median episodes on log N, with its 95% bootstrap interval over seeds."""

    value: float
    low: float
    high: float
    sizes: tuple[int, ...]


def by_size(rows: pd.DataFrame, column: str) -> dict[int, npt.NDArray[np.float64]]:
    """For each size the seeds' episodes, infinite where the run ended before."""
    return {
        int(str(size)): part[column].fillna(math.inf).to_numpy(np.float64)
        for size, part in rows.groupby("size")
    }


def exponent(rows: pd.DataFrame, column: str, *, reps: int = 2000) -> Exponent | None:
    """Fits the sizes from 10 on whose median is known; a resample leaves out what is unknown in it.

    None where there are fewer than three such sizes.
    """
    known = {
        n: x
        for n, x in by_size(rows, column).items()
        if n >= _LEAST_SIZE and np.isfinite(np.median(x))
    }
    if len(known) < 3:
        return None
    generator = np.random.default_rng(0)
    value, slopes = _slope({n: float(np.median(x)) for n, x in known.items()}), []
    for _ in range(reps):
        drawn = {n: float(np.median(generator.choice(x, x.size))) for n, x in known.items()}
        drawn = {n: m for n, m in drawn.items() if math.isfinite(m)}
        if len(drawn) >= 3:
            slopes.append(_slope(drawn))
    low, high = np.quantile(slopes, [0.025, 0.975])
    return Exponent(value, float(low), float(high), tuple(known))


def _slope(points: dict[int, float]) -> float:
    return float(np.polyfit(np.log(list(points)), np.log(list(points.values())), 1)[0])


def report(rows: pd.DataFrame, agents: list[str]) -> str:
    """The markdown: medians beside their references, then the exponents."""
    lines = [
        "| agent | N | seeds | first | solved | reference | ratio | within |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for agent in agents:
        mine = rows[rows["agent"] == agent]
        for size, part in mine.groupby("size"):
            lines.append(_line(agent, int(str(size)), part))
    lines += [
        "",
        "| agent | exponent of first | of solved | sizes | reference (first) |",
        "|---|---|---|---|---|",
    ]
    for agent in agents:
        mine = rows[rows["agent"] == agent]
        fits = [exponent(mine, column) if len(mine) else None for column in ("first", "solved")]
        if not any(fits):
            continue
        sizes = "; ".join(", ".join(map(str, f.sizes)) if f else "-" for f in fits)
        law = f"{_LAWS[agent]:.1f}" if agent in _LAWS else "-"
        lines.append(f"| {agent} | {_fit(fits[0])} | {_fit(fits[1])} | {sizes} | {law} |")
    return "\n".join(lines) + "\n"


def _fit(fit: Exponent | None) -> str:
    return f"{fit.value:.2f} [{fit.low:.2f}, {fit.high:.2f}]" if fit else "-"


def _line(agent: str, size: int, part: pd.DataFrame) -> str:
    budget = int(part["episodes"].max())
    reference = REFERENCE.get(agent, {}).get(size, (None, None))
    allowed = 0.1 if agent in _NEARLY_DETERMINISTIC else 0.5
    shown, ratios, within = [], [], []
    for column, expected in zip(("first", "solved"), reference, strict=True):
        episodes = part[column].fillna(math.inf).to_numpy()
        median = float(np.median(episodes))
        spread = f"{_number(episodes.min(), budget)}, {_number(episodes.max(), budget)}"
        shown.append(f"{_number(median, budget)} [{spread}]")
        if expected is None or math.isinf(expected):
            ratios.append("-")
        else:
            ratios.append(f"{median / expected:.2f}" if math.isfinite(median) else "-")
            within.append(abs(median / expected - 1.0) <= allowed + 1e-9)
    told = " / ".join("-" if x is None else ">budget" if math.isinf(x) else f"{x:.4g}"
                      for x in reference)  # fmt: skip
    verdict = "-" if not within else f"{'yes' if all(within) else 'no'} ({allowed:.0%})"
    cells = [agent, str(size), str(len(part)), *shown, told, " / ".join(ratios), verdict]
    return f"| {' | '.join(cells)} |"


def _number(episodes: float, budget: int) -> str:
    return f"{episodes:g}" if math.isfinite(episodes) else f">{budget:,}"


def figure(rows: pd.DataFrame, agents: list[str]) -> Figure:
    """Median episodes until solved against N, with two lines to hold them against."""
    drawing = Figure(figsize=(7.6, 4.6), layout="constrained")
    FigureCanvasAgg(drawing)
    panel = drawing.subplots()
    sizes = np.linspace(4.5, 34.0, 100)
    pairs = sizes * (sizes + 1.0)  # N(N + 1)/2 states by 2 actions
    look: dict[str, Any] = {"color": "#888888", "linewidth": 1.2}
    panel.plot(sizes, 2.0**sizes, linestyle=(0, (1, 1.5)), label="$2^N$: uniform random", **look)
    bound = r"$SAH^2/\epsilon^2$, $\epsilon$=1: worst case over MDPs"
    panel.plot(sizes, pairs * sizes**2, linestyle=(0, (5, 2)), label=bound, **look)
    for i, agent in enumerate(agents[1:]):
        points = by_size(rows[rows["agent"] == agent], "solved")
        known = {n: np.median(x) for n, x in points.items() if np.isfinite(np.median(x))}
        if known:
            panel.plot(
                list(known),
                list(known.values()),
                marker="os^D"[i // len(_COLOURS) % 4],
                markersize=4,
                color=_COLOURS[i % len(_COLOURS)],
                label=agent,
            )
    panel.set(xscale="log", yscale="log", ylim=(8, 2e5), xlabel="N", ylabel="episodes until solved")
    panel.set_xticks([5, 10, 14, 20, 30], ["5", "10", "14", "20", "30"])
    panel.minorticks_off()
    panel.set_title("DeepSea, medians over seeds", fontsize=10.5)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7.5, frameon=False)
    return drawing
