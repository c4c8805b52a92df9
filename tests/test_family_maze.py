"""Maze: its trees, distances and named levels."""

from __future__ import annotations

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xplore
from xplore.contracts.errors import ConfigError
from xplore.envs.families import boards, letters, trees
from xplore.envs.families.maze import maze, named_maze
from xplore.envs.families.named_mazes import MAZES
from xplore.envs.minigrid import cells
from xplore.parts.levels import levels_from_ids, train_ids

MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))


def reference_steps(level, width):
    """Breadth-first search over cells and directions, in plain Python."""
    grid, start = np.asarray(level.grid), (int(level.position), int(level.direction))
    distance, queue = {start: 0}, deque([start])
    while queue:
        here = cell, direction = queue.popleft()
        dx, dy = MOVES[direction]
        ahead = cell + dx + dy * width
        after = [(cell, (direction + 1) % 4), (cell, (direction - 1) % 4)]
        if grid[ahead] == cells.GREEN_GOAL:
            return distance[here] + 1
        if grid[ahead] == cells.NOTHING:
            after.append((ahead, direction))
        for there in after:
            if there not in distance:
                distance[there] = distance[here] + 1
                queue.append(there)
    return -1


@pytest.fixture(scope="module")
def blocks():
    env = maze(size=9, num_blocks=35)
    make = jax.jit(lambda ids: levels_from_ids(env, ids).levels)
    return env, make(train_ids(0, jnp.arange(64)))


def test_optimal_steps_are_those_of_a_plain_search(blocks):
    env, levels = blocks
    steps = np.asarray(jax.jit(jax.vmap(env.optimal_steps))(levels))
    singles = [jax.tree.map(lambda x, i=i: x[i], levels) for i in range(64)]
    assert steps.tolist() == [reference_steps(level, 11) for level in singles]
    assert -1 in steps
    assert int(env.optimal_steps(singles[0])) == steps[0]  # not vmapped


def test_optimal_steps_can_be_walked():
    env, level = maze(), named_maze("SixteenRooms")
    steps = int(env.optimal_steps(level))
    assert steps == reference_steps(level, 15)
    assert env.spec().max_steps == 250


def walked(bits, rows, columns):
    """The passages of a walk to random new neighbours that goes back where there are none."""
    num = rows * columns
    draws = np.asarray(boards.noise(bits, 2 * num)).tolist()
    root = int(boards.noise(bits ^ 1, 1)[0]) % num
    path, visited, joined = [root], {root}, np.zeros((2, rows, columns), bool)
    for draw in draws[: 2 * num - 2]:
        y, x = divmod(path[-1], columns)
        ways = [(x + dx, y + dy) for dx, dy in MOVES]
        new = [
            (draw >> 8 * way & 255, way)
            for way, (i, j) in enumerate(ways)
            if 0 <= i < columns and 0 <= j < rows and j * columns + i not in visited
        ]
        if not new:
            path.pop()
            continue
        way = max(new)[1]
        i, j = ways[way]
        joined[way % 2, min(y, j), min(x, i)] = True
        path.append(j * columns + i)
        visited.add(path[-1])
    return joined


@pytest.mark.parametrize("algorithm", trees.ALGORITHMS)
def test_a_tree_joins_all_rooms_once(algorithm):
    @jax.jit
    @jax.vmap
    def draw(bits):
        tree = trees.spanning_tree(algorithm, bits, (5, 6))
        free = trees.walled(tree)
        everywhere = boards.reached(free, boards.one_cell(jnp.int32(1 + 13), (13, 11)))
        open_all = trees.carved(trees.braided(tree, bits ^ 77, 1.0))
        degree = jnp.sum(trees.neighbours(trees.braided(tree, bits ^ 77, 1.0)), axis=0)
        return tree, free, everywhere, open_all, degree

    bits = jnp.arange(32, dtype=jnp.uint32) * 7919
    tree, free, everywhere, open_all, degree = draw(bits)
    assert np.all(np.sum(tree.right, axis=(1, 2)) + np.sum(tree.down, axis=(1, 2)) == 29)
    if algorithm == "backtracker":
        expected = [walked(np.uint32(b), 5, 6) for b in bits]
        np.testing.assert_array_equal(np.stack([tree.right, tree.down], axis=1), expected)
    np.testing.assert_array_equal(free, everywhere)
    np.testing.assert_array_equal(
        boards.to_mask(free[0], 13)[1:-1, 1:-1], trees.carved(_unstacked(tree, 1)[0])
    )
    assert np.all(degree >= 2)
    assert len(np.unique(np.asarray(free), axis=0)) > 28
    assert np.all(np.sum(open_all, axis=(1, 2)) >= 30 + 29)


def test_floods_are_those_of_a_plain_search():
    num, height, width = 24, 10, 13
    rng = np.random.default_rng(0)
    free = rng.random((num, height, width)) < 0.6
    free[::3, 2::2] = False  # a way to and fro, longer than any other
    free[::3, 1::2] = True
    for y in range(2, height - 2, 2):
        free[::3, y, 1 if y % 4 else -2] = True
    free[:, [0, -1]] = free[:, :, [0, -1]] = False
    starts = [int(rng.choice(np.flatnonzero(f))) for f in free]
    far = rng.choice([0.0, 0.3, 0.5, 1.0], num).astype(np.float32)

    @jax.jit
    @jax.vmap
    def flood(free, cell, far):
        rows, start = boards.to_rows(free), boards.one_cell(cell, (width, height))
        found = boards.reached(rows, start), boards.cells_beyond(rows, start, far)
        return [boards.to_cells(x, width) for x in found]

    everywhere, beyond = map(np.asarray, flood(free, jnp.asarray(starts, jnp.int32), far))
    longest = 0
    for lane in range(num):
        distance, queue = {starts[lane]: 0}, deque([starts[lane]])
        while queue:
            cell = queue.popleft()
            for there in (cell + 1, cell + width, cell - 1, cell - width):
                if free[lane].ravel()[there] and there not in distance:
                    distance[there] = distance[cell] + 1
                    queue.append(there)
        most = max(distance.values())
        least = min(int(far[lane] * np.float32(most)), max(most - 1, 0))
        assert set(np.flatnonzero(everywhere[lane])) == set(distance)
        assert set(np.flatnonzero(beyond[lane])) == {c for c, d in distance.items() if d > least}
        longest = max(longest, most)
    assert longest > 40


def test_dead_ends_are_opened_in_turn():
    shape = rows, columns = 4, 5
    bits = jnp.arange(24, dtype=jnp.uint32) * 7919

    @jax.jit
    @jax.vmap
    def draw(bits):
        tree = trees.spanning_tree("kruskal", bits, shape)
        return tree, trees.braided(tree, bits ^ 5, 1.0, in_turn=True), boards.noise(bits ^ 5, 100)

    for tree, opened, noise in zip(*map(_unstacked, draw(bits)), strict=True):
        joined = [np.array(tree.right), np.array(tree.down)]
        draws = noise[:80].reshape(4, rows, columns)
        for y, x in np.ndindex(shape):
            # Right, below, left, above: which passage that is, of which room.
            ways = [(0, y, x), (1, y, x), (0, y, x - 1), (1, y - 1, x)]
            exists = [x < columns - 1, y < rows - 1, x > 0, y > 0]
            shut = [w for w in range(4) if exists[w] and not joined[ways[w][0]][ways[w][1:]]]
            if sum(exists) - len(shut) == 1 and shut:
                kind, *room = ways[max(shut, key=lambda w: draws[w, y, x] & ~np.uint32(3) | w)]
                joined[kind][tuple(room)] = True
        np.testing.assert_array_equal(opened.right, joined[0])
        np.testing.assert_array_equal(opened.down, joined[1])


def _unstacked(tree, num=24):
    return [jax.tree.map(lambda x, i=i: np.asarray(x[i]), tree) for i in range(num)]


def test_pick_is_uniform():
    mask = jnp.zeros(225, bool).at[jnp.array([3, 50, 51, 200])].set(True)
    picked = jax.jit(jax.vmap(lambda b: boards.pick(mask, b)))(
        jax.random.bits(jax.random.key(0), (4000,), jnp.uint32)
    )
    where, counts = np.unique(picked, return_counts=True)
    assert where.tolist() == [3, 50, 51, 200]
    assert np.all(np.abs(counts - 1000) < 120)
    assert int(boards.pick(jnp.zeros(9, bool), jnp.uint32(1))) == 0


@pytest.mark.slow
def test_the_goal_is_far_where_asked():
    def mean_steps(far):
        env = maze(size=9, layout="kruskal", far=far)
        ids = train_ids(0, jnp.arange(256))
        run = jax.jit(lambda i: jax.vmap(env.optimal_steps)(levels_from_ids(env, i).levels))
        return float(np.mean(run(ids)))

    assert mean_steps(1.0) > 1.5 * mean_steps(0.0)


@pytest.mark.parametrize("name", MAZES)
def test_named_mazes_have_a_way(name):
    level = named_maze(name)
    side = round(level.grid.size**0.5)
    assert reference_steps(level, side) > 0
    env = maze(size=side - 2)
    assert letters.from_text(env.level_to_text(level), (side, side)).grid.tolist() == list(
        np.asarray(level.grid)
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 12, "layout": "kruskal"}, "size is 12"),
        ({"size": 40}, "size is 40"),
        ({"layout": "krusal"}, "did you mean 'kruskal'"),
        ({"braid": 1.5}, "braid is 1.5"),
        ({"num_blocks": -1}, "num_blocks is -1"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        xplore.make("Maze-Blocks-13x13-v0", **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("###", "this family has 7 lines of 7"),
        ("#######\n" * 7, "0 agents"),
        (("#?>..G#\n") + "#######\n" * 6, r"\['\?'\]"),
    ],
)
def test_what_is_no_level_is_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        maze(size=5, num_blocks=5).level_from_text(text)
    with pytest.raises(ConfigError, match="did you mean 'Labyrinth'"):
        named_maze("Labyrint")
