"""A shortest walk over given cells of a graph: an integer program over corridors between forks.

A step goes to a neighbouring cell or stays, and visits the cell in which it ends; the start is not
visited by being there. Edges, each as often as a walk takes it, are connected and of odd degree at
its two ends alone, and what is so can be walked (Euler): a best such choice is sought. Nodes are
the start, the cells that need no visit, and all that have not two neighbours. A corridor is a way
of `length` edges between two of them; all cells inside are to be visited. In some best choice

* no edge is taken three times: without two of them the rest is as connected and as odd, and visits
  the same, but for the start perhaps, for which one stay does; no other stay helps;
* a corridor in which the walk does not end has edges that are all odd: crossed once, `length`
  steps; or all even: crossed twice, or, where cells are inside, left apart at one edge (a second
  would leave out the cells between), 2 `length` - 2 steps of excursions from its ends. Which edge
  that is costs the same, so that it takes no more than one end that the walk comes to;
* a walk that ends inside came straight and ends before the last edge: `length` - 1 steps. If it
  takes more there, then to cross once is no longer; or, with one stay, to leave out the rest.

An excursion from the start visits it too. What is left to ask is that all be connected: nodes
without the start are to be entered, and left unless the walk ends there, if one of them or a cell
between them is to be visited. There is a demand for every set of nodes; those that a solution
breaks are added until it breaks none (Dantzig, Fulkerson and Johnson, 1954, Solution of a
Large-Scale Traveling-Salesman Problem).
"""

from __future__ import annotations

import itertools
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csgraph

from xplore.contracts.errors import XploreError

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_ONCE, _TWICE, _APART, _TO_HEAD, _TO_TAIL = range(5)  # what is done in a corridor; the last two end
_WAYS: Final = 5


class _Graph(NamedTuple):
    """A graph as corridors between nodes.

    Attributes:
        paths: of each corridor its cells, the two nodes included.
        length: int `[C]`, in edges.
        tail: int `[C]`, the node at which each starts.
        head: int `[C]`, the node at which it ends.
        is_start: bool `[N]`, the node of the walk's start.
        needed: bool `[N]`, nodes to be visited.
    """

    paths: list[list[int]]
    length: Ints
    tail: Ints
    head: Ints
    is_start: Bools
    needed: Bools


def covering_walk(edges: npt.ArrayLike, start: int, needed: npt.ArrayLike) -> list[int] | None:
    """The cells in which the steps of a shortest walk end, or None where a cell is out of reach.

    >>> covering_walk([(0, 1), (1, 2), (2, 3)], 1, [True, True, False, True])
    [0, 1, 2, 3]

    Args:
        edges: int `[E, 2]`, pairs of neighbouring cells, each once.
        start: the cell from which the walk sets out; it may end anywhere.
        needed: bool `[num_cells]`, the cells in which some step must end.

    Raises:
        XploreError: the solver gave up.
    """
    need = np.asarray(needed, np.bool_)
    near: list[list[int]] = [[] for _ in need]
    for a, b in np.asarray(edges, np.int64).reshape(-1, 2).tolist():
        near[a].append(b)
        near[b].append(a)
    reached = frontier = {start}
    while frontier:
        frontier = {b for a in frontier for b in near[a]} - reached
        reached = reached | frontier
    if not reached.issuperset(np.flatnonzero(need).tolist()):
        return None
    graph = _contracted(near, start, need, sorted(reached))
    ways, stays = _solved(graph)
    return [start] * stays + _trail(_taken(graph, ways), start)[1:]


def _contracted(near: list[list[int]], start: int, need: Bools, cells: list[int]) -> _Graph:
    nodes = [v for v in cells if v == start or not need[v] or len(near[v]) != 2]
    index = {v: i for i, v in enumerate(nodes)}
    paths = []
    for node in nodes:
        for first in near[node]:
            path = [node, first]
            while path[-1] not in index:
                one, other = near[path[-1]]
                path.append(other if one == path[-2] else one)
            if path[:2] <= path[:-3:-1]:  # it is met from both of its ends
                paths.append(path)
    return _Graph(
        paths=paths,
        length=np.asarray([len(path) - 1 for path in paths], np.int64),
        tail=np.asarray([index[path[0]] for path in paths], np.int64),
        head=np.asarray([index[path[-1]] for path in paths], np.int64),
        is_start=np.asarray(nodes) == start,
        needed=need[nodes],
    )


def _solved(graph: _Graph) -> tuple[Ints, bool]:
    """What a shortest walk does in each corridor, `[C]`, and whether it first stays."""
    num, nodes, length = len(graph.paths), len(graph.needed), graph.length
    at = np.arange(nodes)[:, None]
    tails, heads = 1 * (graph.tail == at), 1 * (graph.head == at)
    # Unknown: the ways of corridors `[5 * C]`; of nodes `[N]` whether the walk ends there and how
    # often it passes, half of the degree with the walk's ends; whether it stays.
    no_way, no_node, one = np.zeros(_WAYS * num), np.zeros(nodes), np.eye(nodes)
    cost = np.r_[length, 2 * length, 2 * length - 2, length - 1, length - 1, no_node, no_node, 1]
    most = np.r_[np.ones(3 * num), length > 1, length > 1, no_node + 1, no_node + np.inf, 1]
    least = np.r_[no_way, no_node, graph.needed | graph.is_start, 0]
    bounds, whole = Bounds(least, most), np.ones_like(cost)
    ways = (tails + heads, 2 * (tails + heads), 0 * tails, tails, heads)
    degrees = np.hstack([*ways, one, -2 * one, 0 * at])
    one_way = np.hstack([np.eye(num)] * _WAYS + [np.zeros((num, 2 * nodes + 1))])
    one_end = np.r_[no_way[: 3 * num], np.ones(2 * num), no_node + 1, no_node, 0]
    from_start = np.any((tails | heads)[graph.is_start], axis=0) & (length > 1)
    again = np.r_[np.zeros(2 * num), from_start, np.zeros(2 * num), no_node, graph.is_start, 1]
    rules = [
        LinearConstraint(degrees, -1.0 * graph.is_start, -1.0 * graph.is_start),
        LinearConstraint(one_way, 1, 1),
        LinearConstraint(one_end[None], 1, 1),
        LinearConstraint(again[None], 1 + np.sum(graph.is_start & graph.needed), np.inf),
    ]
    while True:
        found = milp(
            cost, integrality=whole, bounds=bounds, constraints=rules, options={"mip_rel_gap": 0}
        )
        if found.x is None or found.status:
            raise XploreError(f"no shortest walk over {nodes} nodes: {found.message}")
        taken = np.argmax(found.x[: _WAYS * num].reshape(_WAYS, num), axis=0)
        for those in (broken := _broken(graph, taken)):
            tail, head = those[graph.tail], those[graph.head]
            between = 1 * (tail != head)
            demand = np.r_[between, 2 * between, 0 * between, tail, head, those, no_node, 0]
            rules.append(LinearConstraint(demand[None], 2, np.inf))
        if not broken:
            return taken, round(found.x[-1]) == 1


def _label(graph: _Graph, ways: Ints) -> npt.NDArray[np.int32]:
    """Of each node the number of the part that it is in, int `[N]`; the start's part has -1."""
    size, crossed = len(graph.needed), np.flatnonzero(ways <= _TWICE)
    pairs = (graph.tail[crossed], graph.head[crossed])
    matrix = sparse.coo_array((crossed + 1, pairs), shape=(size, size))
    part: npt.NDArray[np.int32] = csgraph.connected_components(matrix, directed=False)[1]
    return np.where(part == part[graph.is_start], np.int32(-1), part)


def _broken(graph: _Graph, ways: Ints) -> list[Bools]:
    """Sets of nodes, bool `[N]` each, that the walk must come to and does not."""
    part = _label(graph, ways)
    away = part >= 0
    sets = [part == i for i in np.unique(part[away & graph.needed])]
    left_out = away[graph.tail] & away[graph.head] & (graph.length > 1)
    return sets or [away] * bool(np.any(left_out))


def _taken(graph: _Graph, ways: Ints) -> list[tuple[int, int]]:
    """The edges of cells, each as often as the walk takes it."""
    away, edges = _label(graph, ways) >= 0, []
    for path, tail, head, way in zip(graph.paths, graph.tail, graph.head, ways, strict=True):
        # Excursions are made from one end, the start if it is one: it may count on them.
        from_head = way == _APART and (away[tail] or graph.is_start[head])
        steps = list(itertools.pairwise(path[::-1] if from_head or way == _TO_TAIL else path))
        steps = steps if way <= _TWICE else steps[:-1]
        edges += steps * (2 if way in (_TWICE, _APART) else 1)
    return edges


def _trail(edges: list[tuple[int, int]], start: int) -> list[int]:
    """A walk from `start` that takes each of the edges (Hierholzer, 1873)."""
    left: dict[int, list[int]] = {start: []}
    for a, b in edges:
        left.setdefault(a, []).append(b)
        left.setdefault(b, []).append(a)
    under_way, walk = [start], []
    while under_way:
        here = under_way[-1]
        if left[here]:
            under_way.append(left[here].pop())
            left[under_way[-1]].remove(here)
        else:
            walk.append(under_way.pop())
    return walk[::-1]
