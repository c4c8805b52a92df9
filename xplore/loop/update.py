"""The pure heart of the loop: `make_train(config)` gives `init` and `update`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from xplore.contracts.errors import ConfigError
from xplore.contracts.types import (
    Bonus,
    EnvSpec,
    Key,
    Metrics,
    PyTree,
    ReadsPrivileged,
    SeesAgent,
    WorldSampler,
)
from xplore.loop import rollout as ro
from xplore.loop.config import Config
from xplore.measure import metrics as exactly
from xplore.parts.restoring import SNAPSHOT


class TrainState(NamedTuple):
    """All that changes during a run of one seed."""

    key: Key
    agent: PyTree
    carry: PyTree
    bonus: PyTree
    worlds: PyTree
    lanes: ro.Lanes
    episodes: ro.EpisodeSums
    oracle: PyTree


class Train(NamedTuple):
    """`init(key) -> TrainState` and `update(TrainState) -> (TrainState, metrics)`, both pure."""

    init: Callable[[Key], TrainState]
    update: Callable[[TrainState], tuple[TrainState, Metrics]]


def reads_of(config: Config) -> tuple[str, ...]:
    """The privileged names that the plugs of a run read, each once."""
    worlds = config.worlds
    read = worlds.reads() if isinstance(worlds, ReadsPrivileged) else ()
    return tuple(dict.fromkeys((*config.bonus.reads(), *read)))


def checked_reads(
    bonus: Bonus, spec: EnvSpec, worlds: WorldSampler | None = None
) -> tuple[str, ...]:
    """The privileged names a bonus reads, and a world sampler.

    Raises:
        ConfigError: the environment does not tell one of them.
    """
    reads = tuple(bonus.reads())
    _require_told("bonus", reads, spec)
    if isinstance(worlds, ReadsPrivileged):
        _require_told("world sampler", worlds.reads(), spec)
        reads = tuple(dict.fromkeys((*reads, *worlds.reads())))
    return reads


def _require_told(plug: str, reads: tuple[str, ...], spec: EnvSpec) -> None:
    for name in reads:
        if name in spec.privileged:
            continue
        told = ", ".join(spec.privileged.names) or "nothing"
        hint = "choose another key for the bonus"
        if plug != "bonus":
            hint = (
                f"wrap it, as restorable/{spec.name}"
                if name == SNAPSHOT
                else "choose another environment"
            )
        raise ConfigError(
            f"the {plug} reads {name!r}, which {spec.name} does not tell (it tells {told}): {hint}"
        )


def make_train(config: Config) -> Train:
    """Returns the pure `(init, update)` of a run: jit- and vmap-able, over keys or coefficients.

    One update: sample levels -> roll out -> score with the bonus -> learn (bonus, agent, worlds).
    Metrics are float32 scalars named "episode/...", "agent/...", "bonus/..." and "worlds/...", and
    on a finite task "oracle/...".

    Raises:
        ConfigError: the plugs do not fit each other.
    """
    env, agent, bonus, worlds = config.env, config.agent, config.bonus, config.worlds
    spec = config.run_spec()
    reads = checked_reads(bonus, spec.env, worlds)
    exact = exactly.exact_of(env)
    if exact is not None and "index" not in reads:
        reads = (*reads, "index")

    def init(key: Key) -> TrainState:
        key, k_agent, k_bonus, k_worlds, k_levels, k_start = jax.random.split(key, 6)
        worlds_state = worlds.init(k_worlds, env)
        worlds_state, batch = worlds.sample(k_levels, worlds_state, env, config.num_envs)
        return TrainState(
            key=key,
            agent=agent.init(k_agent, spec),
            carry=agent.initial_carry(config.num_envs),
            bonus=bonus.init(k_bonus, spec),
            worlds=worlds_state,
            lanes=ro.start(env, reads, k_start, batch),
            episodes=ro.no_episodes(config.num_envs, ro.info_names(env)),
            oracle=() if exact is None else exactly.new_record(exact, config.num_envs),
        )

    def update(state: TrainState) -> tuple[TrainState, Metrics]:
        key, k_levels, k_start, k_rollout, k_bonus, k_agent = jax.random.split(state.key, 6)
        asked = (k_levels, state.worlds, env, config.levels_per_rollout)
        if isinstance(worlds, SeesAgent):
            worlds_state, batch = worlds.sample_for(*asked, agent, state.agent)
        else:
            worlds_state, batch = worlds.sample(*asked)
        starts = ro.start(env, reads, k_start, batch)
        carry, lanes, traj, level_metrics = ro.rollout(
            k_rollout, env, agent, reads, state.agent, state.carry, state.lanes, starts,
            config.num_steps,
        )  # fmt: skip
        # A step's bonus never comes from a predictor already trained on it: score, then learn.
        bonus_state, r_int = bonus.reward(state.bonus, traj)
        bonus_state, bonus_metrics = bonus.update(k_bonus, bonus_state, traj)
        agent_state, agent_metrics = agent.update(k_agent, state.agent, traj, r_int)
        worlds_state, world_metrics = worlds.update(worlds_state, batch, traj)
        episodes, episode_metrics = ro.episode_metrics(state.episodes, traj, r_int)
        chosen_freely = {
            "levels_generated": jnp.float32(config.levels_per_rollout),
            "scoring_steps": jnp.float32(0),
        }
        parts = {
            "agent": agent_metrics,
            "bonus": {"reward": jnp.mean(r_int), **bonus_metrics},
            "episode": episode_metrics,
            # A sampler that makes fewer levels than it supplies, or plays some by itself, says so.
            "worlds": {**chosen_freely, **level_metrics, **world_metrics},
        }
        oracle = state.oracle
        if exact is not None:
            oracle, parts["oracle"] = exactly.record(exact, oracle, traj)
        metrics = {
            f"{part}/{name}": jnp.asarray(value, jnp.float32)
            for part, values in parts.items()
            for name, value in sorted(values.items())
        }
        new = TrainState(
            key, agent_state, carry, bonus_state, worlds_state, lanes, episodes, oracle
        )
        return new, metrics

    return Train(init, update)
