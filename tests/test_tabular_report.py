"""The DeepSea law: exponents of known laws, what a table says, and that nothing is run twice."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from xplore.benchmarks import deep_sea_law as law
from xplore.benchmarks.deep_sea_report import exponent, report


def rows_of(agent: str, first: dict[int, list[float]], budget: int = 1000) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"agent": agent, "size": n, "seed": i, "first": x, "solved": x, "episodes": budget}
            for n, times in first.items()
            for i, x in enumerate(times)
        ]
    )


def test_exponents():
    generator = np.random.default_rng(0)
    noise = generator.lognormal(0.0, 0.1, (4, 20))
    law_of = {n: list(n**2.5 * x) for n, x in zip((10, 14, 20, 30), noise, strict=True)}
    # Neither the smallest size nor one that most seeds did not solve takes part.
    rows = rows_of("x", {5: [1e6] * 20, **law_of, 50: [1.0] * 9 + [math.nan] * 11})
    fit = exponent(rows, "first")
    assert fit is not None
    assert fit.sizes == (10, 14, 20, 30)
    assert fit.low < 2.5 < fit.high
    assert fit.high - fit.low < 0.5
    assert exponent(rows[rows["size"] < 20], "first") is None


def test_a_table_says_what_was_not_reached_and_what_is_off():
    agent = "R-max, m=1"
    text = report(rows_of(agent, {5: [11, 12, math.nan], 10: [40, 40, 40]}), [agent])
    assert (
        "| R-max, m=1 | 5 | 3 | 12 [11, >1,000] | 12 [11, >1,000] | 11 / 14 | 1.09 / 0.86" in text
    )
    assert "no (10%)" in text.splitlines()[3]


def test_nothing_is_run_twice(tmp_path, monkeypatch):
    ran = []

    def run(method: law.Method, size: int, seeds: int) -> list[dict[str, object]]:
        ran.append((method.label, size))
        fingerprint = law.cell(method, size)[1]
        kept = {"agent": method.label, "size": size, "fingerprint": fingerprint, "episodes": 9}
        return [{**kept, "seed": i, "first": 5.0, "solved": math.nan} for i in range(seeds)]

    monkeypatch.setattr(law, "run", run)
    law.main(tmp_path, seeds=2, sizes=(3,), agents=("rmax", "psrl"))
    assert ran == [("R-max, m=1", 3), ("PSRL, Dir(1/N)", 3)]
    law.main(tmp_path, seeds=2, sizes=(3,), agents=("rmax",))
    assert len(ran) == 2
    law.main(tmp_path, seeds=4, sizes=(3,), agents=("rmax",))  # more seeds: anew
    assert len(ran) == 3
    assert len(pd.read_parquet(tmp_path / "rows.parquet")) == 6
    assert (tmp_path / "scaling.png").exists()
    assert pytest.approx(1.0) == law.METHODS[0].episodes(5) / 256
