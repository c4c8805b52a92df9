"""Bonuses that count in their own way: what they count, held against walks through time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xplore.bonuses.c_bet import CBet, c_bet
from xplore.bonuses.count import Count, count
from xplore.bonuses.made import Made, made
from xplore.bonuses.pseudo_count import PseudoCount, pseudo_count
from xplore.bonuses.simhash import SimHash, simhash
from xplore.bonuses.successor_count import SuccessorCount, successor_count
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Dict, Discrete, Space, Symbolic
from xplore.contracts.types import Bonus, EnvSpec, RunSpec, Trajectory
from xplore.parts.cells import Cells

KEY = jax.random.key(0)
T, N, S, A = 24, 3, 5, 2
NUMBERS = Discrete(S)
PRIVILEGED = Dict({"position": Discrete(S), "direction": Discrete(4), "index": Discrete(S)})
SMALL: dict[str, Any] = {"table_size": 1 << 12}


def spec_of(space: Space, num_envs: int = N, num_steps: int = T) -> RunSpec:
    env = EnvSpec("Any-v0", space, Discrete(A), 9, privileged=PRIVILEGED)
    return RunSpec(env, num_envs, num_steps)


def rollout(at: Any, next_at: Any, first: Any, action: Any = 0, look: Any = None) -> Trajectory:
    """Steps from states `at` to `next_at` `[T, N]`; an observation is `look(state)`."""
    at, next_at = np.asarray(at, np.int32), np.asarray(next_at, np.int32)
    first = np.broadcast_to(np.asarray(first, bool), at.shape)
    zeros = np.zeros(at.shape, np.float32)
    ended = np.concatenate([first[1:], zeros[:1] > 0])
    look = look or (lambda s: s)

    def tell(s: Any) -> dict[str, Any]:
        return {"position": s, "direction": s % 4, "index": s}

    leaves: dict[str, Any] = dict(
        obs=look(at), action=np.broadcast_to(np.asarray(action, np.int32), at.shape),
        reward=zeros, next_obs=look(next_at), terminated=ended, truncated=zeros > 0, first=first,
        level_id=zeros.astype(np.uint32), info={}, privileged=tell(at),
        next_privileged=tell(next_at), extras=(), carry=(),
    )  # fmt: skip
    return Trajectory(**jax.tree.map(jnp.asarray, leaves))


def walk(seed: int, look: Any = None, num_steps: int = T) -> Trajectory:
    """A random walk with episodes that end now and then."""
    rng = np.random.default_rng(seed)
    first = rng.random((num_steps, N)) < 0.2
    first[0] = True
    states = rng.integers(0, S, (num_steps + 1, N))
    at = np.where(first, rng.integers(0, S, (num_steps, N)), states[:-1])
    return rollout(at, states[1:], first, rng.integers(0, A, (num_steps, N)), look)


def half(traj: Trajectory, which: int) -> Trajectory:
    part = slice(0, T // 2) if which == 0 else slice(T // 2, None)
    cut: Trajectory = jax.tree.map(lambda x: x[part], traj)
    return cut


def paid(bonus: Bonus, traj: Trajectory, space: Space = NUMBERS) -> Any:
    """What two rollouts, the halves of `traj`, are paid; they share a state."""
    state, score, found = bonus.init(KEY, spec_of(space)), jax.jit(bonus.reward), []
    for which in (0, 1):
        state, r_int = score(state, half(traj, which))
        assert r_int.dtype == jnp.float32
        found.append(r_int)
    return np.concatenate(found)


def test_state_action_counts_are_of_what_was_done() -> None:
    traj, seen = walk(0), Counter[tuple[int, int]]()
    expected = np.zeros((T, N))
    for t in range(T):
        pairs = [(int(traj.obs[t, n]), int(traj.action[t, n])) for n in range(N)]
        seen.update(pairs)  # the start of an episode adds nothing
        expected[t] = [seen[pair] ** -0.5 for pair in pairs]
    for key in ("observation+action", "position+action"):
        r_int = paid(count(coefficient=1.0, key=key, **SMALL), traj)
        np.testing.assert_allclose(r_int, expected, rtol=1e-6)


def test_directions_and_indices_are_counted_exactly() -> None:
    # Only the way it faces changes: the same place, another cell; no table is hashed.
    at = np.zeros((4, 1), np.int32)
    traj = rollout(at, at, [[1], [0], [0], [0]])
    turned = traj._replace(
        next_privileged=traj.next_privileged | {"direction": jnp.asarray([[1], [2], [1], [0]])}
    )
    for key, counts in (("position", [2, 3, 4, 5]), ("position+direction", [1, 1, 2, 2])):
        bonus = Count(Cells(key))  # type: ignore[arg-type]
        _, r_int = bonus.reward(bonus.init(KEY, spec_of(Discrete(S), 1, 4)), turned)
        np.testing.assert_allclose(r_int[:, 0], np.asarray(counts) ** -0.5, rtol=1e-6)
    shapes = {k: Cells(k).table_shape(spec_of(Discrete(S)).env) for k in ("index", "position")}
    assert shapes == {"index": (1, S), "position": (1, S)}
    assert Cells("position+direction").table_shape(spec_of(Discrete(S)).env) == (1, 4 * S)


def test_made_by_hand() -> None:
    traj = walk(1)
    pairs = np.asarray(traj.obs) * A + np.asarray(traj.action)
    recent, ever, expected = np.zeros(S * A), np.zeros(S * A), np.zeros((T, N))
    for t in range(T):
        if t % (T // 2) == 0:
            recent *= 0.5  # before each rollout
        for pair in pairs[t]:  # all envs at once, also those that do the same
            recent[pair] += 1
            ever[pair] += 1
        expected[t] = (recent[pairs[t]] * ever[pairs[t]]) ** -0.5
    bonus = Made(Cells("observation+action", 1 << 12), decay=0.5)
    np.testing.assert_allclose(paid(bonus, traj), expected, rtol=1e-5)


def test_c_bet_by_hand() -> None:
    traj, states, changes = walk(2), Counter[int](), Counter[int]()
    expected = np.zeros((T, N))
    for t in range(T):
        states.update(int(traj.obs[t, n]) for n in range(N) if traj.first[t, n])
        states.update(int(s) for s in traj.next_obs[t])
        change = np.asarray(traj.next_obs[t] - traj.obs[t]).tolist()
        changes.update(change)
        expected[t] = [
            1 / (states[int(s)] + changes[c]) for s, c in zip(traj.next_obs[t], change, strict=True)
        ]
    np.testing.assert_allclose(paid(CBet(Cells("position")), traj), expected, rtol=1e-6)
    np.testing.assert_allclose(paid(CBet(Cells(**SMALL)), traj), expected, rtol=1e-6)


def test_c_bet_forgets_with_the_probability_of_its_steps() -> None:
    traj = walk(2)
    for chance, share in ((0.0, 0.0), (1.0, 1.0), (0.01, 1 - 0.99 ** (T * N))):
        bonus = CBet(Cells("position", 16), chance)
        state, _ = bonus.reward(bonus.init(KEY, spec_of(Discrete(S))), traj)
        update = jax.vmap(lambda k, s=state, b=bonus: b.update(k, s, traj)[1]["cells"] == 0)
        forgot = float(jnp.mean(update(jax.random.split(KEY, 400))))
        assert abs(forgot - share) < 0.08


def test_bytes_and_booleans_that_fall_are_changes_too() -> None:
    for look in (lambda s: s.astype(np.uint8)[..., None], lambda s: (s > 0)[..., None]):
        at = np.asarray([[0], [1], [0], [1]])
        traj = rollout(at, 1 - at, [[1], [0], [0], [0]], look=look)
        space = Box((1,), str(traj.obs.dtype), 0, 1)
        bonus = CBet(Cells(**SMALL))
        _, r_int = bonus.reward(bonus.init(KEY, spec_of(space, 1, 4)), traj)
        np.testing.assert_allclose(r_int[:, 0], [1 / 2, 1 / 3, 1 / 4, 1 / 5], rtol=1e-6)


GRIDS = np.random.default_rng(0).integers(0, 4, (S, 3, 3, 1)).astype(np.uint8)
SYMBOLIC = Symbolic((3, 3, 1), (4,))


def see(s: np.ndarray) -> np.ndarray:
    return GRIDS[s]


def test_many_planes_count_exactly_and_few_merge() -> None:
    traj = walk(3, see)
    exact = paid(Count(Cells(**SMALL)), traj, SYMBOLIC)
    np.testing.assert_allclose(paid(SimHash(64, 1 << 12), traj, SYMBOLIC), exact, rtol=1e-6)
    one_plane = paid(SimHash(1, 1 << 12), traj, SYMBOLIC)
    assert one_plane.sum() < 0.9 * exact.sum()  # two codes at most
    assert np.all(one_plane < exact + 1e-6)


def test_a_code_never_changes_though_what_is_seen_does() -> None:
    # Far from all that set the scale of the inputs: moments that went on would move the codes.
    space = Box((2,))

    def place(s: np.ndarray) -> np.ndarray:
        return np.stack([s, -s], -1).astype(np.float32)

    bonus = SimHash(32, 1 << 12)
    state = bonus.init(KEY, spec_of(space))
    for scale in (1.0, 1000.0, 1.0):
        at = np.arange(T * N).reshape(T, N) % S
        traj = rollout(at, at, False, look=lambda s, c=scale: place(c * s))
        state, r_int = bonus.reward(state, traj)
    first = T * N / S
    assert float(r_int.max()) < (1.9 * first) ** -0.5  # visited in the first rollout too


def test_pseudo_count_of_one_cell_is_visits_plus_a_half() -> None:
    traj, seen = walk(4), Counter[int]()
    expected = np.zeros((T, N))
    for t in range(T):
        here = [int(s) for s in traj.next_obs[t]]
        seen.update(here)  # envs in the same place are all counted, before any is scored
        expected[t] = [(seen[s] - 1 + 0.5 + 0.01) ** -0.5 for s in here]
    np.testing.assert_allclose(paid(PseudoCount(1 << 12), traj), expected, rtol=1e-4)


def test_pseudo_count_of_a_grid_is_that_of_its_factors() -> None:
    traj = walk(5, see)
    contexts, symbols = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    expected = np.zeros((T, N))

    def cells_of(grid: np.ndarray) -> list[tuple[int, int, int, int]]:
        padded = np.pad(grid.astype(int), ((1, 0), (1, 0)), constant_values=-1)
        there = [(i, j) for i in range(3) for j in range(3)]
        return [(3 * i + j, padded[i + 1, j], padded[i, j + 1], grid[i, j]) for i, j in there]

    for t in range(T):
        found = [cells_of(np.asarray(traj.next_obs[t, n, ..., 0])) for n in range(N)]
        for cell in (c for cells in found for c in cells):
            symbols[cell] += 1
            contexts[cell[:3]] += 1
        for n, cells in enumerate(found):
            p = [(symbols[c] - 0.5) / (contexts[c[:3]] + 1) for c in cells]
            q = [(symbols[c] + 0.5) / (contexts[c[:3]] + 2) for c in cells]
            rho, after = np.prod(p), np.prod(q)
            expected[t, n] = (rho * (1 - after) / (after - rho) + 0.01) ** -0.5
    r_int = paid(PseudoCount(1 << 14), traj, SYMBOLIC)
    np.testing.assert_allclose(r_int, expected, rtol=1e-3)


def test_pseudo_count_generalises_to_new_wholes_of_known_pieces() -> None:
    # Two cells on and off by themselves were seen; both on was not, but it is no surprise: less
    # so than a symbol that no cell ever had. To an exact count both are as new.
    space = Symbolic((5, 5, 1), (3,))
    shown = np.zeros((4, 5, 5, 1), np.uint8)
    shown[1, 0, 0] = shown[2, 4, 4] = shown[3, 0, 0] = shown[3, 4, 4] = 1
    strange = np.full((5, 5, 1), 2, np.uint8)
    pictures = np.concatenate([shown, strange[None]])
    known = np.arange(T * N).reshape(T, N) % 3
    bonus = PseudoCount(1 << 14)
    score = jax.jit(bonus.reward)
    state, _ = score(
        bonus.init(KEY, spec_of(space)), rollout(known, known, False, look=lambda s: pictures[s])
    )
    by = {}
    for which in (0, 3, 4):
        at = np.full((T, N), which)
        _, r_int = score(state, rollout(at, at, False, look=lambda s: pictures[s]))
        by[which] = float(r_int[0, 0])
    assert by[0] < 0.5 * by[4]
    assert by[3] < 0.6 * by[4]


@pytest.mark.parametrize(
    "space",
    [
        Box((30, 50, 3), "uint8", 0, 255),
        Box((90, 60), "float32", 0.0, 1.0),
        Box((), "float32"),
        Symbolic((2,), (200, 200)),
        Dict({"grid": SYMBOLIC, "where": Discrete(3), "pose": Box((2,))}),
    ],
)
def test_every_kind_of_observation_has_a_density(space: Space) -> None:
    keys = jax.random.split(KEY, 2 * N)
    obs = jax.tree.map(lambda x: x.reshape(2, N, *x.shape[1:]), jax.vmap(space.sample)(keys))
    traj = rollout(np.zeros((2, N)), np.zeros((2, N)), False)._replace(obs=obs, next_obs=obs)
    bonus, score = PseudoCount(1 << 16, bin_size=0.05), jax.jit(PseudoCount.reward)
    state, r_int = score(bonus, bonus.init(KEY, spec_of(space, N, 2)), traj)
    assert bool(jnp.all((r_int > 0) & (r_int <= 10.0)))
    # What a hundred cells surprise by takes a hundred visits to wear off.
    many = sum(x.size for x in jax.tree.leaves(obs)) > 200 * N
    again = r_int
    for _ in range(3):
        state, again = score(bonus, state, traj)
    assert bool(jnp.all(again <= r_int if many else again < r_int))


def test_successor_norms_are_those_of_the_full_representation() -> None:
    traj = walk(6)
    discount, rate = 0.9, 0.2
    psi, expected = np.eye(S), np.zeros((T, N))
    for t in range(T):
        s, s_next = np.asarray(traj.obs[t]), np.asarray(traj.next_obs[t])
        expected[t] = 1 / psi[s_next].sum(-1)
        goes_on = ~np.asarray(traj.terminated[t])
        if t % (T // 2) == T // 2 - 1:
            goes_on = ~np.asarray(half(traj, t // (T // 2)).terminated[-1])
        steps = [*zip(s, s_next, strict=True), *((x, x) for x in s_next[~goes_on])]
        new = psi.copy()
        for cell in {x for x, _ in steps}:
            target = np.mean([psi[y] for x, y in steps if x == cell], 0)
            for _ in range(sum(x == cell for x, _ in steps)):
                new[cell] += rate * (np.eye(S)[cell] + discount * target - new[cell])
        psi = new
    bonus = SuccessorCount(Cells("index"), discount, rate)
    np.testing.assert_allclose(paid(bonus, traj), expected, rtol=1e-4)
    # Hashed cells count alike, and many envs in one cell do not overshoot.
    hashed = SuccessorCount(Cells(num_tables=1, **SMALL), discount, rate)
    np.testing.assert_allclose(paid(hashed, traj), expected, rtol=1e-4)


def test_successor_count_falls_to_its_floor_though_many_envs_learn_at_once() -> None:
    at = np.zeros((200, 64), np.int32)
    bonus = SuccessorCount(Cells("position"), 0.9, 0.5)
    _, r_int = bonus.reward(bonus.init(KEY, spec_of(Discrete(S), 64, 200)), rollout(at, at, False))
    falling = np.asarray(r_int[:, 0])
    assert np.all(np.diff(falling) < 1e-6)
    assert falling[0] == 1
    assert falling[-1] == pytest.approx(0.1, rel=1e-3)


def test_bad_options_say_what_is_right() -> None:
    bad: list[Any] = [
        lambda: made(decay=1.0),
        lambda: c_bet(reset_probability=2.0),
        lambda: simhash(num_bits=0),
        lambda: simhash(table_size=3),
        lambda: pseudo_count(table_size=3),
        lambda: successor_count(discount=1.0),
        lambda: successor_count(learning_rate=0.0),
        lambda: successor_count(key="position+action"),
    ]
    for make in bad:
        with pytest.raises(ConfigError, match=r"must|choose a key"):
            make()
