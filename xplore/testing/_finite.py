"""What a finite environment promises: that its outcomes are those of its steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from xplore.contracts.spaces import Discrete
from xplore.contracts.types import (
    EnvSpec,
    FiniteEnvironment,
    Key,
    Outcomes,
    PyTree,
    Starts,
    Trajectory,
)
from xplore.testing import _compare as c
from xplore.testing import _programs as p

NUM_SAMPLES = 512  # steps drawn of each state and action whose frequencies are compared
NUM_PAIRS = 6
NUM_FOR_A_MEAN = 30
STANDARD_ERRORS = 4.0


class _Sampled(NamedTuple):
    """Some states, one row each, an action taken there, and what it led to."""

    state: PyTree
    index: Any
    action: Any
    after: Any

    def where(self, row: int) -> str:
        return f"after action {self.action[row]} in index {self.index[row]}"


class _Drawn(NamedTuple):
    """Of many steps from each of some states: `[P, M]`."""

    index: Any
    reward: Any
    terminated: Any


def check_finite(name: str, env: FiniteEnvironment, starts: p.Lanes, traj: Trajectory) -> None:
    """Holds the starts and outcomes of `env` against what was sampled.

    Probabilities sum to 1; indices are within range; episodes start in an index that `starts`
    lists; a step leads where `outcomes` says it may, and ends where it says so; how often, and for
    what reward, agrees within 4 standard errors; with `num_layers`, a step leads from a layer to
    the next.

    Args:
        name: of the environment, for messages.
        env: what is checked.
        starts: where the envs started, `[N, ...]`.
        traj: sampled steps `[T, N, ...]` with `_programs.Inside` as extras.

    Raises:
        AssertionError: names what is violated.
    """
    spec = env.spec()
    index = dict(spec.privileged.items).get("index")
    if not isinstance(index, Discrete):
        raise AssertionError(
            f"{name}: it has outcomes, so privileged 'index' must be a Discrete, not {index}"
        )
    _check_shapes(name, env, spec)
    listed = _check_starts(name, env, index, starts)
    after = _groups(traj.next_privileged["index"], traj.terminated)
    sampled = _Sampled(traj.extras.state, traj.privileged["index"], traj.action, after)
    flat = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), sampled)
    found, places = p.compiled(jax.vmap(lambda s, a: _outcomes(env, s, a)))(flat.state, flat.action)
    found, places = jax.tree.map(np.asarray, (found, places))
    _check_probabilities(name, found.probability, index, places)
    if spec.num_layers:
        _check_layers(name, spec.num_layers, index.num, listed, flat.index, found, places)
    _check_successors(name, flat, found, places)
    _check_frequencies(name, env, flat, found, places)


def _outcomes(env: FiniteEnvironment, state: PyTree, action: PyTree) -> tuple[Outcomes, jax.Array]:
    found = env.outcomes(state, action)
    return found, jax.vmap(lambda s: env.privileged(s)["index"])(found.state)


def _check_shapes(name: str, env: FiniteEnvironment, spec: EnvSpec) -> None:
    def state_of(key: Key, action: PyTree) -> tuple[PyTree, Any]:
        state, _ = env.reset_to_level(key, env.sample_level(key))
        return state, env.outcomes(state, action)

    c.require(isinstance(spec.action, Discrete), f"{name}: it has outcomes, but no discrete action")
    state, found = jax.eval_shape(state_of, jax.random.key(0), c.struct((), "int32"))
    c.require(isinstance(found, Outcomes), f"{name}: outcomes returns no Outcomes")
    num = found.probability.shape[:1]
    wanted = Outcomes(
        probability=c.struct(num, "float32"),
        state=jax.tree.map(lambda x: jax.ShapeDtypeStruct((*num, *x.shape), x.dtype), state),
        reward=c.struct(num, "float32"),
        terminated=c.struct(num, "bool"),
    )
    c.require_same(wanted, found, f"{name}: outcomes are not K of what a step gives")


def _check_starts(
    name: str, env: FiniteEnvironment, index: Discrete, lanes: p.Lanes
) -> np.ndarray[Any, Any]:
    """The indices that episodes may start in."""
    starts = env.starts()
    c.require(isinstance(starts, Starts), f"{name}: starts returns no Starts")
    probability = np.asarray(starts.probability, np.float64)
    c.require(
        bool(np.all(probability >= 0)) and abs(probability.sum() - 1.0) < 1e-5,
        f"{name}: the probabilities of starts sum to {probability.sum():.4f}, not to 1",
    )

    def place(level: PyTree) -> jax.Array:
        return env.privileged(env.reset_to_level(jax.random.key(0), level)[0])["index"]

    places = np.asarray(p.compiled(jax.vmap(place))(starts.levels))
    c.require(c.within(index, places), f"{name}: the index of a start is outside of {index}")
    listed = np.unique(places[probability > 0])
    strange = np.setdiff1d(lanes.privileged["index"], listed)
    c.require(strange.size == 0, f"{name}: an episode starts in index {strange}, not among starts")
    return listed


def _distinct(index: np.ndarray[Any, Any], action: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Positions of steps that differ in index or action, each pair once."""
    return np.sort(np.unique(np.stack([index, action]), axis=1, return_index=True)[1])


def _check_probabilities(
    name: str, probability: np.ndarray[Any, Any], index: Discrete, places: np.ndarray[Any, Any]
) -> None:
    total = probability.sum(axis=1, dtype=np.float64)
    worst = total[np.argmax(np.abs(total - 1.0))]
    c.require(
        bool(np.all(probability >= 0)) and abs(worst - 1.0) < 1e-5,
        f"{name}: the probabilities of outcomes sum to {worst:.4f}, not to 1",
    )
    c.require(
        c.within(index, places[probability > 0]),
        f"{name}: the index after an outcome is outside of {index}",
    )


def _check_layers(
    name: str,
    num_layers: int,
    num_states: int,
    starts: np.ndarray[Any, Any],
    before: np.ndarray[Any, Any],
    found: Outcomes,
    places: np.ndarray[Any, Any],
) -> None:
    said = f"{name}: num_layers={num_layers}, but"
    c.require(
        num_states % num_layers == 0, f"{said} {num_states} indices are not layers of one size"
    )
    size = num_states // num_layers
    c.require(bool(np.all(starts < size)), f"{said} an episode starts outside of layer 0")
    goes_on = (np.asarray(found.probability) > 0) & ~np.asarray(found.terminated)
    leads_on = places // size == before[:, None] // size + 1
    c.require(bool(np.all(leads_on | ~goes_on)), f"{said} a step leads to another than the next")


def _check_successors(
    name: str, flat: _Sampled, found: Outcomes, places: np.ndarray[Any, Any]
) -> None:
    says = _groups(places, np.asarray(found.terminated))
    possible = (says == flat.after[:, None]) & (np.asarray(found.probability) > 0)
    for row in np.flatnonzero(~possible.any(1))[:1]:
        c.require(
            False,
            f"{name}: a step leads to {_spelt(flat.after[row])} {flat.where(row)}, no outcome",
        )


def _check_frequencies(
    name: str, env: FiniteEnvironment, flat: Any, found: Outcomes, places: np.ndarray[Any, Any]
) -> None:
    """Compares many steps of a few states and actions, those with most outcomes first."""
    distinct = _distinct(flat.index, flat.action)
    num_outcomes = (np.asarray(found.probability)[distinct] > 0).sum(1)
    many = distinct[np.argsort(-num_outcomes, kind="stable")]
    half = NUM_PAIRS // 2
    chosen = np.concatenate([many[:half], many[half:][-half:]])
    keys = jax.random.split(jax.random.key(2), (len(chosen), NUM_SAMPLES))

    def one(key: Key, state: PyTree, action: PyTree) -> _Drawn:
        after, ts = env.step(key, state, action)
        return _Drawn(env.privileged(after)["index"], ts.reward, ts.terminated)

    draw = p.compiled(jax.vmap(jax.vmap(one, (0, None, None))))
    drawn = jax.tree.map(np.asarray, draw(keys, *c.pick((flat.state, flat.action), chosen)))
    for row, pair in enumerate(chosen):
        _compare(name, flat.where(pair), c.pick(found, pair), places[pair], c.pick(drawn, row))


def _compare(
    name: str, where: str, found: Outcomes, places: np.ndarray[Any, Any], drawn: _Drawn
) -> None:
    """Holds the outcomes of one state and action against steps of it."""
    says = _groups(places, np.asarray(found.terminated))
    does = _groups(np.asarray(drawn.index), np.asarray(drawn.terminated))
    probability = np.asarray(found.probability, np.float64)
    reward = np.asarray(found.reward, np.float64)
    for outcome in np.union1d(says, does):
        here = says == outcome
        likely = float(probability[here].sum())
        got = np.asarray(drawn.reward, np.float64)[does == outcome]
        what = f"{name}: {_spelt(outcome)} {where}"
        expected = NUM_SAMPLES * likely
        slack = STANDARD_ERRORS * np.sqrt(expected * max(1.0 - likely, 0.0)) + (likely > 0)
        c.require(
            abs(len(got) - expected) <= slack,
            f"{what} has probability {likely:.4f} by outcomes, but {len(got)} of {NUM_SAMPLES}"
            " steps lead there",
        )
        if len(got) < NUM_FOR_A_MEAN:
            continue
        mean = float(probability[here] @ reward[here]) / likely
        error = STANDARD_ERRORS * got.std() / np.sqrt(len(got)) + 1e-5 * (1.0 + abs(mean))
        c.require(
            abs(got.mean() - mean) <= error,
            f"{what} has the reward {mean:.5f} by outcomes, but {got.mean():.5f} by steps",
        )


def _groups(index: Any, terminated: Any) -> np.ndarray[Any, Any]:
    """A number for each way a step can turn out: twice the index, and 1 if it ends there."""
    return np.asarray(index, np.int64) * 2 + np.asarray(terminated)


def _spelt(group: int) -> str:
    return f"index {group // 2}{', the end,' if group % 2 else ''}"
