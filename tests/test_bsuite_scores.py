"""bsuite's scores against bsuite's own analysis, on data frames as its logger makes them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from xplore.contracts.errors import ConfigError
from xplore.record import bsuite_scores as ours

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("plotnine")
    from bsuite.experiments.bandit import analysis as bandit
    from bsuite.experiments.cartpole_swingup import analysis as cartpole_swingup
    from bsuite.experiments.deep_sea import analysis as deep_sea
    from bsuite.experiments.deep_sea_stochastic import analysis as deep_sea_stochastic
    from bsuite.experiments.memory_len import analysis as memory_len
    from bsuite.experiments.memory_size import analysis as memory_size
    from bsuite.experiments.mountain_car import analysis as mountain_car
    from bsuite.experiments.umbrella_distract import analysis as umbrella_distract
    from bsuite.experiments.umbrella_length import analysis as umbrella_length
    from bsuite.utils.wrappers import _logarithmic_logging


def frame(option, runs, columns) -> pd.DataFrame:
    """What bsuite logs of `runs`, values per episode by setting; a column is a running value."""
    parts = []
    for number, (setting, values) in enumerate(runs.items()):
        at = np.array([e for e in range(1, len(values) + 1) if _logarithmic_logging(e)])
        part = {"episode": at, option: setting, "bsuite_id": str(number)}
        for name, running in columns.items():
            part[name] = running(values)[at - 1]
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def curves(runs):
    return {setting: ours.curve(values) for setting, values in runs.items()}


def test_bsuite_looks_at_these_episodes():
    expected = [e for e in range(1, 12_001) if _logarithmic_logging(e)]
    assert ours.logged_episodes(12_000).tolist() == expected
    assert ours.logged_episodes(9).tolist() == list(range(1, 10))


def learning(generator, num_episodes, low, high):
    """Events per episode that grow rarer, at a pace that differs by run."""
    start = generator.integers(1, num_episodes * 2)
    rate = np.where(np.arange(num_episodes) < start, high, low)
    return (generator.random(num_episodes) < rate).astype(float)


@pytest.fixture
def _series_append(monkeypatch):
    """pandas has lost what bsuite's analysis of DeepSea calls; it is given back to it."""
    append = lambda self, other: pd.concat([self, other])  # noqa: E731
    monkeypatch.setattr(pd.Series, "append", append, raising=False)


@pytest.mark.usefixtures("_series_append")
@pytest.mark.filterwarnings("ignore:The inplace keyword")
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["deep_sea", "deep_sea_stochastic"])
def test_deep_sea(kind, seed):
    theirs = {"deep_sea": deep_sea, "deep_sea_stochastic": deep_sea_stochastic}[kind]
    generator = np.random.default_rng(seed)
    sizes = (4, 6, 8, 10, 12, 14, 20, 30)
    runs = {n: learning(generator, 2000, 0.1, 0.98) for n in sizes}
    df = frame("size", runs, {"total_bad_episodes": np.cumsum, "denoised_return": np.cumsum})
    found = theirs.find_solution(df).set_index("size")
    rule = (0.9, 1) if kind == "deep_sea" else (0.8, 100)
    for size, run in curves(runs).items():
        at = ours.learned_at(run, *rule)
        assert (at is not None) == found.solved[size]
        assert at is None or at == found.episode[size]
    score = getattr(ours, kind)(curves(runs))
    assert score == pytest.approx(theirs.score(df))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_episodes", [300, 1000, 1300])
def test_cartpole_swingup(num_episodes, seed):
    generator = np.random.default_rng(seed)
    runs = {}
    for k in range(20):
        returns = generator.uniform(-60, 0, num_episodes)
        late = generator.integers(num_episodes * 2)
        returns[late:] += generator.uniform(0, 1000)
        runs[k / 20] = returns
    best = lambda values: np.maximum.accumulate(np.maximum(values, 0))  # noqa: E731
    df = frame("height_threshold", runs, {"total_return": np.cumsum, "best_episode": best})
    swingups = {k: values > 100 for k, values in runs.items()}
    score = ours.cartpole_swingup(curves(runs), curves(swingups))
    assert score == pytest.approx(cartpole_swingup.score(df))
    assert 0 < score < 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_episodes", [700, 10_000, 12_000])
@pytest.mark.parametrize(
    ("theirs", "option"), [(memory_len, "memory_length"), (memory_size, "num_bits")]
)
def test_memory(theirs, option, num_episodes, seed):
    generator = np.random.default_rng(seed)
    runs = {n: learning(generator, num_episodes, 1.0, 0.5) for n in range(1, 12)}
    df = frame(option, runs, {"total_perfect": np.cumsum})
    score = ours.memory(curves(runs))
    assert score == pytest.approx(theirs.score(df))
    assert 0 < score < 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("num_episodes", [700, 10_000, 12_000])
@pytest.mark.parametrize(
    ("theirs", "option"), [(umbrella_length, "chain_length"), (umbrella_distract, "n_distractor")]
)
def test_umbrella(theirs, option, num_episodes, seed):
    generator = np.random.default_rng(seed)
    runs = {n: 2 * learning(generator, num_episodes, 0.0, 0.5) for n in range(1, 12)}
    df = frame(option, runs, {"total_regret": np.cumsum})
    score = ours.umbrella(curves(runs))
    assert score == pytest.approx(theirs.score(df))
    assert 0 < score < 1


@pytest.mark.parametrize("num_episodes", [700, 12_000])
def test_bandit(num_episodes):
    generator = np.random.default_rng(0)
    runs = {k: generator.random(num_episodes) * 0.1 * k for k in range(8)}
    df = frame("mapping_seed", runs, {"total_regret": np.cumsum})
    score = ours.bandit(curves(runs))
    assert score == pytest.approx(bandit.score(df))
    assert 0 < score < 1
    assert ours.bandit(curves({0: np.ones(10)})) == 0.0


@pytest.mark.parametrize("num_episodes", [80, 1000, 1400])
def test_mountain_car(num_episodes):
    generator = np.random.default_rng(0)
    runs = {k: generator.integers(80, 1001, num_episodes) for k in range(5)}
    df = frame("seed", runs, {"raw_return": lambda lengths: -np.cumsum(lengths)})
    score = ours.mountain_car(curves(runs))
    assert score == pytest.approx(mountain_car.score(df))
    assert 0 < score < 1
    assert ours.mountain_car(curves({0: np.full(10, 90)})) == 1.0


def test_totals_at_other_episodes_will_do():
    """As a run logs them: at the ends of updates, the last of them past what is scored."""
    run = ours.Curve(np.array([500, 900, 1100]), np.array([5e4, 9e4, 1e6]))
    assert ours.mountain_car({0: run}) == 1.0
    assert ours.learned_at(ours.Curve(np.array([64, 128]), np.array([60.0, 100.0]))) == 128


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ConfigError, match="needs a run"):
        ours.bandit({})
    with pytest.raises(ConfigError, match="an episode of every run"):
        ours.umbrella({1: ours.curve([])})
    with pytest.raises(ConfigError, match="same settings"):
        ours.cartpole_swingup({0.1: ours.curve([1.0])}, {})
    late = ours.Curve(np.array([2000]), np.array([1.0]))
    with pytest.raises(ConfigError, match="after 2000 episodes"):
        ours.mountain_car({0: late})
