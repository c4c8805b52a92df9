"""The conformance checks, over everything that is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import xplore
from xplore.contracts import registry
from xplore.contracts.errors import ConfigError
from xplore.testing import check_agent, check_bonus, check_env, check_world_sampler

NEEDS_DATA = "gymnax/MNISTBandit-bsuite"  # its own tests fake the files that gymnax would download

# One of each kind of observation and action.
KINDS = {
    "symbolic": "MiniGrid-Empty-5x5-v0",
    "image": "DeepSea-5-v0",
    "vector": "gymnax/CartPole-v1",
    "layered": "tabular/DeepSea-5-v0",
    "discrete": "gymnax/FrozenLake-misc",
    "box action": "gymnax/Pendulum-v1",
}
# Those that forget everything. Other episodic bonuses also have networks or statistics of the whole
# run, without which tests/test_bonus_episodic.py shows that they forget.
EPISODIC = frozenset({"episodic_count", "first_visit"})


def first_of_each_factory() -> set[str]:
    firsts: dict[Callable[..., Any], str] = {}
    for id, entry in registry.entries("env").items():
        firsts.setdefault(entry.factory, id)
    return set(firsts.values())


THOROUGH = first_of_each_factory()


@pytest.mark.parametrize("id", sorted(THOROUGH - {NEEDS_DATA}))
def test_registered_environments(id):
    # Ids of one factory differ in size or in what is adapted: one of each here, all are slow.
    check_env(xplore.make(id), num_steps=32)


def run(
    check: Callable[..., None], x: Any, kinds: tuple[str, ...], most: int = 9, **kwargs: Any
) -> list[str]:
    """Runs a check in environments of several kinds, in `most` at most; the refusals."""
    refusals: list[str] = []
    for count, kind in enumerate(kinds):
        if count - len(refusals) == most:
            break
        try:
            check(x, xplore.make(KINDS[kind]), **kwargs)
        except ConfigError as refusal:
            refusals.append(str(refusal))
    assert not any("\n" in refusal for refusal in refusals)
    return refusals


@pytest.mark.parametrize("id", xplore.list_bonuses())
def test_registered_bonuses(id):
    # Compiling an update is dear: one kind that it takes, here.
    refusals = run(
        check_bonus, xplore.make_bonus(id), tuple(KINDS), most=1, episodic=id in EPISODIC
    )
    assert len(refusals) < len(KINDS), refusals


# Agents with programs that take half a minute to compile, and the kind they are checked in.
DEAR = {"alphazero": "symbolic", "muzero": "vector", "plan2explore": "image"}


@pytest.mark.parametrize("id", [i for i in xplore.list_agents() if i not in DEAR])
def test_registered_agents(id):
    refusals = run(check_agent, xplore.make_agent(id), tuple(KINDS), most=1)
    assert len(refusals) < len(KINDS), refusals


WITH_DEMANDS = {"accel", "curriculum", "go_explore", "spec_search"}


@pytest.mark.parametrize("id", xplore.list_world_samplers())
def test_registered_world_samplers(id):
    # Those that refuse want levels that can be edited, or that say how hard they are, or whose
    # options have ranges, or states that can be gone back to: tests/test_world_samplers.py,
    # tests/test_family_spec.py and tests/test_go_explore.py check them where they work.
    refusals = run(check_world_sampler, xplore.make_world_sampler(id), ("symbolic",))
    assert bool(refusals) == (id in WITH_DEMANDS), refusals


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "symbolic"])
@pytest.mark.parametrize("id", xplore.list_bonuses())
def test_every_bonus_in_every_kind(id, kind):
    run(check_bonus, xplore.make_bonus(id), (kind,), episodic=id in EPISODIC)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "kind"), [(i, k) for i in xplore.list_agents() for k in KINDS if DEAR.get(i, k) == k]
)
def test_every_agent_in_every_kind(id, kind):
    run(check_agent, xplore.make_agent(id), (kind,))


@pytest.mark.slow
@pytest.mark.parametrize("id", [i for i in xplore.list_envs() if i not in THOROUGH | {NEEDS_DATA}])
def test_every_environment_thoroughly(id):
    check_env(xplore.make(id), num_steps=256)
