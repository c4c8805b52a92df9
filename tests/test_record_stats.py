"""Statistics against scipy, hand-computed numbers, and simulation of what they promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from xplore.record import stats, survival


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=40))
def test_iqm_is_the_trimmed_mean(values):
    ours = stats.iqm([np.array(values)])
    np.testing.assert_allclose(ours, scipy_stats.trim_mean(values, 0.25), atol=1e-12)


def test_iqm_pools_tasks_and_keeps_batches():
    strata = [np.arange(4.0), np.arange(10.0, 14.0)]
    assert stats.iqm(strata) == np.mean([2, 3, 10, 11])
    batch = [np.stack([s, s + 1]) for s in strata]
    np.testing.assert_allclose(stats.iqm(batch), [6.5, 7.5])


def test_optimality_gap_and_mean():
    strata = [np.array([0.0, 0.5]), np.array([1.0, 2.0])]
    assert stats.optimality_gap(strata) == pytest.approx(1 - (0 + 0.5 + 1 + 1) / 4)
    assert stats.mean(strata) == pytest.approx(3.5 / 4)


def test_probability_of_improvement_counts_ties_half():
    x, y = [np.array([1.0, 2.0])], [np.array([1.0, 0.0, 3.0])]
    # Pairs: 1>0, 1=1, 1<3, 2>1, 2>0, 2<3.
    assert stats.probability_of_improvement(x, y) == pytest.approx((3 + 0.5) / 6)
    u = scipy_stats.mannwhitneyu(x[0], y[0]).statistic
    assert stats.probability_of_improvement(x, y) == pytest.approx(u / 6)
    assert stats.probability_of_improvement(x, x) == 0.5


def test_performance_profile_is_a_survival_function():
    strata = [np.array([0.1, 0.6]), np.array([0.6, 0.9])]
    np.testing.assert_allclose(
        stats.performance_profile(strata, [0.0, 0.5, 0.6, 0.9]), [1.0, 0.75, 0.25, 0.0]
    )


def test_normalised_score():
    np.testing.assert_allclose(stats.normalised_score([1.0, 3.0, 9.0], 1.0, 5.0), [0, 0.5, 1.0])
    assert stats.normalised_score(9.0, 1.0, 5.0, clip=False) == 2.0
    with pytest.raises(ValueError, match="above the random score"):
        stats.normalised_score(1.0, 1.0, 1.0)


def test_bootstrap_is_seeded_and_stratified():
    scores = [np.arange(5.0), 100 + np.arange(5.0)]

    def interval(seed):
        return stats.bootstrap_interval(
            stats.mean, scores, generator=np.random.default_rng(seed), reps=500
        )

    one, again, other = interval(0), interval(0), interval(1)
    assert one == again
    assert one != other
    # Runs are drawn within their task: the mean cannot leave the middle of the two.
    assert 50 < one.low < stats.mean(scores) < one.high < 54


def test_bootstrap_covers_what_it_promises():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        scores = [rng.normal(size=30) for _ in range(2)]
        low, high = stats.bootstrap_interval(stats.mean, scores, generator=rng, reps=400)
        covered += low <= 0.0 <= high
    # Nominal 95%; thirty runs a task give about 94%. Five standard errors is 0.08.
    assert 0.86 < covered / 200 <= 1.0


def test_bootstrap_of_single_runs_has_no_interval():
    low, high = stats.bootstrap_interval(
        stats.mean, [np.array([1.0])], generator=np.random.default_rng(0)
    )
    assert np.isnan(low)
    assert np.isnan(high)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(5, 10, 0.2366, 0.7634), (0, 5, 0.0, 0.4345), (5, 5, 0.5655, 1.0)]
)
def test_wilson_against_published_numbers(k, n, low, high):
    np.testing.assert_allclose(stats.wilson_interval(k, n), [low, high], atol=1e-4)
    scipy = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(stats.wilson_interval(k, n), [scipy.low, scipy.high], atol=1e-9)


def test_wilson_refuses_what_is_no_fraction():
    with pytest.raises(ValueError, match="not a fraction"):
        stats.wilson_interval(3, 2)


def test_kaplan_meier_by_hand_and_against_scipy():
    # Solved at 1, 3, 3; censored at 2 and 4.
    times, solved = [1, 2, 3, 3, 4], [True, False, True, True, False]
    curve = survival.kaplan_meier(times, solved)
    np.testing.assert_allclose(curve.times, [1, 3])
    np.testing.assert_allclose(curve.fraction, [4 / 5, 4 / 5 * 1 / 3])
    data: Any = scipy_stats.CensoredData(uncensored=[1, 3, 3], right=[2, 4])
    theirs = scipy_stats.ecdf(data).sf
    np.testing.assert_allclose(curve.fraction, theirs.evaluate(curve.times))
    assert survival.median_time(times, solved) == 3
    assert survival.median_time([5, 5, 5], [True, False, False]) == float("inf")
    # 1 x 1 until 1, 0.8 until 3, 4/15 until 4.
    assert survival.restricted_mean_time(times, solved, 4) == pytest.approx(1 + 1.6 + 4 / 15)


def test_first_reached_wants_a_sustained_mean():
    steps = [10, 20, 30, 40, 50, 60]
    values = np.array([[0, 1, 1, 1, 1, 1.0], [0, 0, 1, 0, 0, 0.0], [np.nan, 1, np.nan, 1, 1, 1.0]])
    times, solved = survival.first_reached(steps, values, 1.0, window=3)
    assert solved.tolist() == [True, False, True]
    assert times.tolist() == [40, 60, 50]


def test_trailing_mean_skips_what_was_not_measured():
    found = survival.trailing_mean(np.array([np.nan, 2.0, np.nan, 4.0, 8.0]), 2)
    np.testing.assert_allclose(found, [np.nan, 2.0, 2.0, 3.0, 6.0])
