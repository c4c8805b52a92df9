"""NovelD and RIDE: differences across a step, gates of an episode, and the traps of both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.combinators import FirstVisit, Product
from xplore.bonuses.episodic_count import EpisodicCount
from xplore.bonuses.noveld import CountNovelty, NovelD, noveld, noveld_tabular
from xplore.bonuses.ride import Impact, ride
from xplore.bonuses.rnd import RND
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import Bonus, EnvSpec, RunSpec, Trajectory
from xplore.parts.cells import Cells
from xplore.parts.dynamics import Dynamics

KEY = jax.random.key(0)
T, N, S = 12, 3, 5
ENV = EnvSpec("Any-v0", Box((2,)), Discrete(2), 9, privileged=Dict({"position": Discrete(S)}))
SPEC = RunSpec(ENV, N, T)
PLACES = np.random.default_rng(0).normal(size=(S, 2)).astype(np.float32)
TINY: dict[str, Any] = {"hidden_size": 8, "embedding_size": 4}


def rollout(at: Any, next_at: Any, first: Any, places: Any = PLACES) -> Trajectory:
    at, next_at = np.asarray(at, np.int32), np.asarray(next_at, np.int32)
    zeros = np.zeros(at.shape, np.float32)
    leaves: dict[str, Any] = dict(
        obs=places[at], action=at % 2, reward=zeros, next_obs=places[next_at],
        terminated=zeros > 0, truncated=zeros > 0, first=np.asarray(first, bool),
        level_id=zeros.astype(np.uint32), info={}, privileged={"position": at},
        next_privileged={"position": next_at}, extras=(), carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


def walk(seed: int) -> Trajectory:
    """A random walk with episodes that end now and then."""
    rng = np.random.default_rng(seed)
    first = rng.random((T, N)) < 0.25
    first[0] = True
    states = rng.integers(0, S, (T + 1, N))
    at = np.where(first, rng.integers(0, S, (T, N)), states[:-1])
    return rollout(at, states[1:], first)


def by_hand(trajs: list[Trajectory], alpha: float, power: float) -> Any:
    """NovelD of exact counts, the gate included."""
    ever, here = Counter[int](), [Counter[int]() for _ in range(N)]
    found = []
    for traj in trajs:
        s, s_next = (np.asarray(p["position"]) for p in (traj.privileged, traj.next_privileged))
        for t in range(T):
            for n in range(N):
                if traj.first[t, n]:
                    ever[s[t, n]] += 1
                    here[n] = Counter([s[t, n]])
                here[n][s_next[t, n]] += 1
            ever.update(s_next[t].tolist())
            found.append([
                max(ever[y] ** -power - alpha * ever[x] ** -power, 0) * (here[n][y] == 1)
                for n, (x, y) in enumerate(zip(s[t], s_next[t], strict=True))
            ])  # fmt: skip
    return np.asarray(found)


def paid(bonus: Bonus, trajs: list[Trajectory]) -> Any:
    state, score, found = bonus.init(KEY, SPEC), jax.jit(bonus.reward), []
    for traj in trajs:
        state, r_int = score(state, traj)
        found.append(r_int)
    return np.concatenate(found)


@pytest.mark.parametrize(("alpha", "power"), [(0.5, 0.5), (1.0, 1.0)])
def test_over_counts_noveld_is_its_tabular_form(alpha: float, power: float) -> None:
    trajs = [walk(0), walk(1)]
    expected = by_hand(trajs, alpha, power)
    assert 0 < np.mean(expected > 0) < 1
    for key in ("position", "observation"):
        cells = Cells(key, 1 << 12)
        over = FirstVisit(NovelD(CountNovelty(cells, power), alpha), cells)
        np.testing.assert_allclose(paid(over, trajs), expected, rtol=1e-5, atol=1e-7)
    tabular = noveld_tabular(1.0, alpha, power, "position")
    np.testing.assert_allclose(paid(tabular, trajs), expected, rtol=1e-5, atol=1e-7)


def test_novelty_before_a_step_is_never_that_of_another_episode() -> None:
    # An episode ends in 4 and the next one starts in 0, familiar: leaving 0 for 1 is worth
    # n(1) - alpha n(0), whatever 4 was worth.
    bonus = NovelD(RND(**TINY), alpha=0.5)
    state = bonus.init(KEY, SPEC)
    firsts = np.zeros((T, N))
    firsts[[0, 1]] = 1
    at, next_at = np.zeros((2, T, N), np.int32)
    next_at[0], next_at[1:] = 4, 1
    score = jax.jit(bonus.reward)
    state, r_int = score(state, rollout(at, next_at, firsts))
    # The same statistics of inputs serve to say what each state is worth by itself.
    errors = bonus.novelty._errors(state, state.predictor.params, jnp.asarray(PLACES))  # type: ignore[attr-defined]
    n = np.sqrt(np.asarray(errors))
    np.testing.assert_allclose(r_int[0], np.full(N, max(n[4] - 0.5 * n[0], 0)), rtol=1e-3)
    np.testing.assert_allclose(r_int[1:], np.full((T - 1, N), max(n[1] - 0.5 * n[0], 0)), rtol=1e-3)


def test_noveld_learns_and_is_gated() -> None:
    bonus, traj = noveld(1.0, key="position", **TINY), walk(3)
    state = bonus.init(KEY, SPEC)
    state, r_int = jax.jit(bonus.reward)(state, traj)
    gate = by_hand([traj], 0.0, 0.0)
    assert np.all(np.asarray(r_int)[gate == 0] == 0)
    assert np.any(np.asarray(r_int)[gate == 1] > 0)
    assert bonus.reads() == ("position",)
    _, metrics = jax.jit(bonus.update)(KEY, state, traj)
    assert float(metrics["predictor_loss"]) > 0


def test_without_the_episodic_count_ride_pays_for_going_to_and_fro() -> None:
    # Two places far apart, one episode in which they alternate; the embedding does not learn.
    places = np.asarray([[-3.0, 0.0], [3.0, 1.0]], np.float32)
    at = np.broadcast_to(np.arange(T)[:, None] % 2, (T, N))
    first = np.arange(T)[:, None] * np.ones((1, N)) == 0
    swing = rollout(at, 1 - at, first, places)
    impact = Impact(Dynamics("random", **TINY))
    count = EpisodicCount(Cells("position"))
    _, alone = jax.jit(impact.reward)(impact.init(KEY, SPEC), swing)
    both = Product((impact, count))
    _, held = jax.jit(both.reward)(both.init(KEY, SPEC), swing)
    assert float(alone.min()) > 0.99 * float(alone.max()) > 0
    visits = np.where(np.arange(T) % 2 == 0, np.arange(T) // 2 + 1, (np.arange(T) + 1) // 2 + 1)
    ratio = np.asarray(held / held[0, 0])
    np.testing.assert_allclose(ratio, np.repeat(visits[:, None] ** -0.5, N, 1), rtol=1e-4)


def test_impact_is_the_distance_of_embeddings() -> None:
    dynamics = Dynamics("inverse+forward", forward=True, **TINY)
    impact, traj = Impact(dynamics), walk(4)
    state, r_int = impact.reward(impact.init(KEY, SPEC), traj)
    phi, after = (np.asarray(dynamics.embed(state, x)) for x in (traj.obs, traj.next_obs))
    np.testing.assert_allclose(r_int, np.sqrt(np.sum((after - phi) ** 2, -1)), rtol=1e-4)
    still = traj._replace(next_obs=traj.obs)
    assert not np.any(impact.reward(state, still)[1])
    _, metrics = impact.update(KEY, state, traj)
    assert {"inverse_loss", "forward_loss"} <= metrics.keys()


def test_bad_options_say_what_is_right() -> None:
    with pytest.raises(ConfigError, match="choose a key"):
        noveld_tabular(key="state+action")
    for make in (noveld, ride):
        with pytest.raises(ConfigError, match="unknown normaliser"):
            make(normaliser="mean")  # type: ignore[arg-type]
