"""Shortest walks over all orbs against a search of all states, and in Chaser played out."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from xplore.contracts.solution import Planned
from xplore.envs.families.chaser import Chaser
from xplore.envs.families.covering import covering_walk


def fewest(near, start, needed):
    """Breadth first over cells and sets of cells visited; None where there is no way."""
    want = sum(1 << i for i in np.flatnonzero(needed).tolist())
    layer, seen = [(start, 0)], {(start, 0)}
    for steps in itertools.count():
        if not layer or any(visited == want for _, visited in layer):
            return steps if layer else None
        pairs = [
            (to, seen_by | (1 << to) & want) for at, seen_by in layer for to in (at, *near[at])
        ]
        layer = list(set(pairs) - seen)
        seen.update(layer)


def neighbours(num, edges):
    near = [[] for _ in range(num)]
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    return near


def forks(rng):
    """A few forks with corridors between them, rings and dead ends among these."""
    num = nodes = int(rng.integers(1, 5))
    edges = set()
    while num < 9:
        a, b = rng.integers(nodes, size=2).tolist()
        inside = int(rng.integers(2 if a == b else 0, 4))
        path = [a, *range(num, num + inside), b]
        if rng.random() < 0.2:
            path.pop()
        edges.update((min(pair), max(pair)) for pair in itertools.pairwise(path))
        num += max(inside, 1)
    return num, sorted(edges)


def any_graph(rng):
    num = int(rng.integers(1, 9))
    pairs = itertools.combinations(range(num), 2)
    return num, [pair for pair in pairs if rng.random() < 0.35]


def check_walks(make, num_graphs, seed):
    rng = np.random.default_rng(seed)
    longer = stays = hopeless = 0
    for _ in range(num_graphs):
        num, edges = make(rng)
        needed = rng.random(num) < rng.choice([0.5, 0.8, 1.0])
        start = int(rng.integers(num))
        near = neighbours(num, edges)
        if make is forks:  # numbers that a dead end left over are out of reach
            needed &= np.array([bool(cells) for cells in near])
        walk, steps = covering_walk(edges, start, needed), fewest(near, start, needed)
        assert (None if walk is None else len(walk)) == steps, (edges, start, needed, walk)
        hopeless += walk is None
        if walk is not None:
            for here, there in zip([start, *walk], walk, strict=False):
                assert there in (here, *near[here])
            assert set(np.flatnonzero(needed)) <= set(walk)
            longer += len(walk) > needed.sum()
            stays += walk[:1] == [start]
    return longer, stays, hopeless


@pytest.mark.parametrize("make", [forks, any_graph])
def test_walks_are_as_short_as_any(make):
    longer, stays, hopeless = check_walks(make, 40, seed=0)
    assert longer > 4
    assert stays > 4
    assert hopeless > 4


def test_an_excursion_visits_the_start_again():
    edges = [(0, 3), (0, 4), (1, 4), (2, 3), (2, 4)]
    assert covering_walk(edges, 0, [True, True, False, True, True]) == [3, 0, 4, 1]


@pytest.mark.slow
@pytest.mark.parametrize("make", [forks, any_graph])
def test_many_walks_are_as_short_as_any(make):
    check_walks(make, 500, seed=1)


def drawn(rng):
    """A level of Chaser of 12 free cells, of which two may be cut off, and where they are."""
    side = 9
    cells = [int(rng.integers(1, side - 1) * side + rng.integers(1, side - 1))]
    while len(cells) < 12:
        there = int(rng.choice(cells) + rng.choice([1, -1, side, -side]))
        inside = 0 < there % side < side - 1 and 0 < there // side < side - 1
        if inside and there not in cells:
            cells.append(there)
    cells.pop(int(rng.integers(1, 12)))
    letters = np.full(side * side, "#")
    letters[cells] = rng.permutation(list("@eeexooooox"))
    return "\n".join("".join(row) for row in letters.reshape(side, side)), sorted(cells)


def test_plans_of_chaser_are_shortest_and_the_bound_is_one():
    env = Chaser(size=7)
    assert isinstance(env, Planned)
    rng = np.random.default_rng(0)
    levels, found = [], []
    for _ in range(30):
        text, cells = drawn(rng)
        levels.append(env.level_from_text(text))
        letters = text.replace("\n", "")
        edges = [
            (i, cells.index(cell + way))
            for i, cell in enumerate(cells)
            for way in (1, env.side)
            if cell + way in cells
        ]
        needed = np.array([letters[cell] != "x" for cell in cells])
        steps = fewest(neighbours(len(cells), edges), cells.index(letters.index("@")), needed)
        solution = env.shortest_plan(levels[-1])
        assert solution.exact
        assert solution.least == (-1 if steps is None else steps)
        found.append(solution.least)
    bound = np.asarray(
        jax.jit(jax.vmap(env.optimal_steps))(jax.tree.map(lambda *x: np.stack(x), *levels))
    )
    assert np.all(bound <= found)
    assert np.array_equal(bound < 0, np.asarray(found) < 0)
    assert 3 < np.sum(bound < 0) < 27
    assert np.any(bound == found)
