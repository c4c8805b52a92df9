"""Bonuses that remember an episode: against NumPy, and what they forget."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xplore
from xplore.bonuses.combinators import FirstVisit
from xplore.bonuses.deir import DEIR, deir
from xplore.bonuses.e3b import E3B, e3b
from xplore.bonuses.e3b_x_noveld import e3b_x_noveld
from xplore.bonuses.episodic_count import EpisodicCount
from xplore.bonuses.ngu import NGU, EpisodicNovelty, ngu
from xplore.bonuses.noveld import NovelD
from xplore.bonuses.rnd import RND
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete
from xplore.contracts.types import EnvSpec, RunSpec, Trajectory
from xplore.parts.blocks import map_before, map_where
from xplore.parts.cells import Cells
from xplore.parts.dynamics import Dynamics
from xplore.parts.history import summarise

KEY = jax.random.key(0)
T, N, CELLS, D = 12, 3, 6, 8
ENV = EnvSpec("Walk-v0", Box((4,)), Discrete(3), 0, privileged=Dict({"position": Discrete(CELLS)}))
SPEC = RunSpec(ENV, N, T)
TABLE = np.random.default_rng(7).normal(size=(CELLS, 4)).astype(np.float32)
SEEDS = st.integers(0, 2**31 - 1)


def dynamics(encoding: Any = "random", **options: Any) -> Dynamics:
    return Dynamics(encoding, embedding_size=D, hidden_size=16, normalise_inputs=False, **options)


def walk(seed: int, num_steps: int = T, ends: float = 0.15) -> Trajectory:
    """Random walks over a few cells, with episodes that end."""
    draw = np.random.default_rng(seed)
    at = np.zeros((num_steps, N), np.int32)
    to = draw.integers(CELLS, size=(num_steps, N)).astype(np.int32)
    first = np.zeros((num_steps, N), bool)
    ended = draw.random((num_steps, N)) < ends
    here, begins = draw.integers(CELLS, size=N).astype(np.int32), np.ones(N, bool)
    for t in range(num_steps):
        at[t], first[t] = here, begins
        begins = ended[t]
        here = np.where(begins, draw.integers(CELLS, size=N), to[t]).astype(np.int32)
    zeros = np.zeros((num_steps, N), np.float32)
    leaves: dict[str, Any] = dict(
        obs=TABLE[at], action=draw.integers(3, size=(num_steps, N)).astype(np.int32), reward=zeros,
        next_obs=TABLE[to], terminated=ended, truncated=zeros > 0, first=first,
        level_id=zeros.astype(np.uint32), info={}, privileged={"position": at},
        next_privileged={"position": to}, extras=(), carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


def halves(traj: Trajectory) -> tuple[Trajectory, Trajectory]:
    """A trajectory as two rollouts."""
    half = traj.reward.shape[0] // 2
    return jax.tree.map(lambda x: x[:half], traj), jax.tree.map(lambda x: x[half:], traj)


SCORE = jax.jit(lambda bonus, state, traj: bonus.reward(state, traj))


def scored(bonus: Any, traj: Trajectory) -> tuple[Any, Any, Any]:
    """Rewards of `traj` given as two rollouts, and the embeddings of its observations."""
    state = bonus.init(KEY, SPEC)
    state, early = SCORE(bonus, state, halves(traj)[0])
    state, late = SCORE(bonus, state, halves(traj)[1])
    embed = [bonus.dynamics.embed_rows(state.dynamics, x) for x in (traj.obs, traj.next_obs)]
    return np.concatenate([early, late]), np.asarray(embed[0]), np.asarray(embed[1])


def test_e3b_of_positions_is_a_count() -> None:
    ridge = 0.1
    bonus, traj = E3B(features="position", ridge=ridge), walk(0, 2 * T)
    state, found = bonus.init(KEY, SPEC), []
    for part in halves(traj):
        state, r_int = SCORE(bonus, state, part)
        found.append(r_int)
    r_int = np.concatenate(found)
    at, to = (np.asarray(p["position"]) for p in (traj.privileged, traj.next_privileged))
    for n in range(N):
        seen = np.zeros(CELLS)
        for t in range(2 * T):
            if traj.first[t, n]:
                seen = np.eye(CELLS)[at[t, n]]
            np.testing.assert_allclose(r_int[t, n], 1 / (ridge + seen[to[t, n]]), rtol=1e-4)
            seen[to[t, n]] += 1


def test_e3b_of_embeddings_is_the_ellipse() -> None:
    ridge, traj = 0.3, walk(1, 2 * T)
    r_int, before, after = scored(E3B(dynamics(), ridge), traj)

    def unit(phi: Any) -> Any:
        phi = phi - phi.mean(-1, keepdims=True)
        return phi / np.linalg.norm(phi, axis=-1, keepdims=True)

    before, after = unit(before), unit(after)
    for n in range(N):
        c = ridge * np.eye(D)
        for t in range(2 * T):
            if traj.first[t, n]:
                c = ridge * np.eye(D) + np.outer(before[t, n], before[t, n])
            phi = after[t, n]
            np.testing.assert_allclose(r_int[t, n], phi @ np.linalg.inv(c) @ phi, rtol=2e-3)
            c += np.outer(phi, phi)


def test_e3b_where_no_position_is_told_says_what_is_right() -> None:
    blind = RunSpec(EnvSpec("Blind-v0", Box((4,)), Discrete(3), 0), N, T)
    with pytest.raises(ConfigError, match="features='embedding'"):
        e3b(features="position").init(KEY, blind)
    with pytest.raises(ConfigError, match="above 0"):
        e3b(ridge=0.0)
    with pytest.raises(ConfigError, match="embedding, position"):
        e3b(features="pixels")  # type: ignore[arg-type]


def test_e3b_times_noveld_is_their_product() -> None:
    bonus = e3b_x_noveld(1.0, 0.3, features="position", normaliser="none", hidden_size=16)
    traj = walk(3)
    state = bonus.init(KEY, SPEC)
    _, r_int = SCORE(bonus, state, traj)
    novelty = NovelD(RND(hidden_size=16), 0.3)
    (ellipse, difference), _ = state
    parts = [
        SCORE(b, s, traj)[1]
        for b, s in ((E3B(features="position"), ellipse), (novelty, difference))
    ]
    np.testing.assert_allclose(r_int, parts[0] * parts[1], rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_episodic_novelty_against_numpy(seed: int) -> None:
    k, memory, momentum = 3, 5, 0.9
    bonus = EpisodicNovelty(dynamics(), k, memory, momentum=momentum, max_similarity=1.5)
    traj = walk(seed, 2 * T)
    r_int, before, after = scored(bonus, traj)
    for n in range(N):
        kept: list[Any] = []
        scale = None
        for t in range(2 * T):
            kept = [before[t, n]] if traj.first[t, n] else kept
            near = np.sort([np.sum((m - after[t, n]) ** 2) for m in kept])[:k]
            scale = near.mean() if scale is None else momentum * scale + 0.1 * near.mean()
            apart = np.maximum(near / max(scale, 1e-8) - 8e-3, 0)
            similarity = np.sqrt(np.sum(1e-4 / (apart + 1e-4))) + 1e-3
            expected = 0.0 if similarity > 1.5 else 1 / similarity
            np.testing.assert_allclose(r_int[t, n], expected, rtol=1e-2)
            kept = [*kept, after[t, n]][-memory:]


def test_ngu_scales_by_lifelong_novelty_within_bounds() -> None:
    episodic = EpisodicNovelty(dynamics(), 3)
    lifelong = RND(hidden_size=16, embedding_size=D)
    bonus, traj = NGU(episodic, lifelong, 1.5), walk(2)
    state = bonus.init(KEY, SPEC)
    _, r_int = SCORE(bonus, state, traj)
    _, alone = SCORE(episodic, state.episodic, traj)
    _, error = SCORE(lifelong, state.lifelong, traj)
    alpha = 1 + (error - error.mean()) / error.std()
    assert float(alpha.max()) > 1.5
    np.testing.assert_allclose(r_int, alone * np.clip(alpha, 1, 1.5), rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_deir_against_numpy(seed: int) -> None:
    keep, memory = 0.8, 5
    traj = walk(seed, 2 * T)
    r_int, before, after = scored(DEIR(dynamics(), memory, keep), traj)
    for n in range(N):
        kept: list[Any] = []
        way = np.zeros(D)
        for t in range(2 * T):
            if traj.first[t, n]:
                kept, way = [(before[t, n], np.zeros(D))], (1 - keep) * before[t, n]
            phi = after[t, n]
            ratios = [np.sum((phi - p) ** 2) / (np.linalg.norm(way - w) + 1e-6) for p, w in kept]
            np.testing.assert_allclose(r_int[t, n], min(ratios), rtol=1e-3, atol=1e-5)
            kept = [*kept, (phi, way)][-memory:]
            way = keep * way + (1 - keep) * phi


def test_deir_learns_to_tell_successors() -> None:
    bonus = DEIR(dynamics("discriminator", learning_rate=1e-2, update_fraction=1.0))
    # The successor of a cell is the next one: easily told from others.
    at = (np.arange(T)[:, None] + np.arange(N)[None]) % CELLS
    traj = walk(0)._replace(
        obs=jnp.asarray(TABLE[at]), next_obs=jnp.asarray(TABLE[(at + 1) % CELLS])
    )

    @jax.jit
    def train(state: Any) -> Any:
        def step(state: Any, key: jax.Array) -> Any:
            state, metrics = bonus.update(key, state, traj)
            return state, metrics["discriminator_accuracy"]

        return jax.lax.scan(step, state, jax.random.split(KEY, 60))

    _, accuracy = train(bonus.init(KEY, SPEC))
    assert float(accuracy[:5].mean()) < 0.8
    assert float(accuracy[-5:].mean()) > 0.95


CELLS_KEY = Cells("position")
EPISODIC: dict[str, Any] = {
    "e3b": E3B(dynamics()),
    "e3b of positions": E3B(features="position"),
    "ngu": EpisodicNovelty(dynamics(), 3),
    "deir": DEIR(dynamics()),
    "episodic_count": EpisodicCount(CELLS_KEY),
    "first_visit": FirstVisit(None, CELLS_KEY),
}


@pytest.mark.parametrize("name", EPISODIC)
def test_episodes_and_envs_are_kept_apart(name: str) -> None:
    bonus = EPISODIC[name]
    begun, other, late = walk(0, ends=0.0), walk(1, ends=0.0), walk(2)
    state = bonus.init(KEY, SPEC)
    one, two = (SCORE(bonus, state, past)[0] for past in (begun, other))
    if name == "ngu":  # the scale of distances goes on over episodes, as published
        two = two._replace(scales=one.scales)
    anew = [SCORE(bonus, state, late)[1] for state in (one, two)]
    np.testing.assert_array_equal(*anew)
    # The same steps within the episode that the past was of: it does matter there.
    going_on = late._replace(first=late.first.at[0].set(False))
    assert not np.array_equal(*(SCORE(bonus, state, going_on)[1] for state in (one, two)))
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:, :1], b[:, 1:]], 1), late, other)
    np.testing.assert_array_equal(SCORE(bonus, one, mixed)[1][:, 0], anew[0][:, 0])


@pytest.mark.parametrize("factory", [e3b, ngu, deir])
def test_bonuses_by_name_are_their_parts_normalised(factory: Any) -> None:
    options = {"hidden_size": 16, "embedding_size": D}
    traj = walk(3)
    plain = factory(coefficient=1.0, normaliser="none", **options)
    whole = factory(coefficient=0.5, **options)
    assert xplore.make_bonus(factory.__name__) == factory()
    raw, r_int = (SCORE(b, b.init(KEY, SPEC), traj)[1] for b in (plain, whole))
    expected = raw / raw.std() if factory is not deir else (raw - raw.mean()) / raw.std()
    np.testing.assert_allclose(r_int, 0.5 * expected, rtol=1e-2, atol=1e-3)


def test_only_what_is_needed_is_mapped() -> None:
    traj = walk(4)
    needed = traj.first

    def doubled(obs: jax.Array) -> jax.Array:
        return 2 * obs

    found = map_where(doubled, traj.obs, needed)
    np.testing.assert_array_equal(found, jnp.where(needed[..., None], 2 * traj.obs, 0))
    everything = map_where(doubled, traj.obs, jnp.ones_like(needed))
    np.testing.assert_array_equal(everything, 2 * traj.obs)
    before = map_before(doubled, traj.obs, traj.first, 2 * traj.next_obs)
    np.testing.assert_array_equal(before, 2 * traj.obs)


def test_summaries_against_numpy() -> None:
    traj, keep = walk(5), 0.7
    began = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    going_on = traj._replace(first=traj.first.at[0].set(False))
    args = (going_on.obs, going_on.next_obs, going_on.first, keep)
    last, before, after = summarise(jnp.asarray(began), *args)
    h = began
    for t in range(T):
        h = np.where(going_on.first[t][:, None], (1 - keep) * traj.obs[t], h)
        np.testing.assert_allclose(before[t], h, rtol=1e-4, atol=1e-6)
        h = keep * h + (1 - keep) * traj.next_obs[t]
        np.testing.assert_allclose(after[t], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(last, after[-1])
