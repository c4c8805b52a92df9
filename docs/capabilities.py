"""What each registered agent can do, found by trying: the table of docs/agents.md.

Agents are asked for their state over small specs, which refuse or take them, and their update is
traced, never compiled, to see what it depends on. What cannot be seen so, they declare in `traits`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from xplore.contracts.errors import ConfigError
from xplore.contracts.registry import entries, make_agent
from xplore.contracts.spaces import Box, Dict, Discrete, Space, shape_dtype
from xplore.contracts.types import EnvSpec, PyTree, RunSpec, Trajectory

NUM_ENVS, NUM_STEPS = 8, 4
STATES = Dict({"index": Discrete(12), "position": Discrete(12)})
OBSERVATIONS: dict[str, tuple[Space, int]] = {  # with the number of layers of its indices
    "any observation": (Box((5,)), 0),  # what takes a vector takes pictures and symbols too
    "an index": (Discrete(12), 4),
}
ACTIONS: dict[str, Space] = {"discrete": Discrete(3), "continuous": Box((2,), "float32", -1.0, 1.0)}
# What an agent declares in `traits`, and the column of it.
TRAITS = {
    "model": "learns a model",
    "simulator": "searches the simulator",
    "restores": "restores states",
}


class Capabilities(NamedTuple):
    """Of one agent: `observations` and `actions` it takes, and what it is made of."""

    observations: tuple[str, ...]
    actions: tuple[str, ...]
    recurrent: bool
    replay: bool
    bonus: bool
    traits: tuple[str, ...]


def _spec(observation: str, action: str) -> RunSpec:
    space, layers = OBSERVATIONS[observation]
    env = EnvSpec("probe", space, ACTIONS[action], 9, privileged=STATES, num_layers=layers)
    return RunSpec(env, NUM_ENVS, NUM_STEPS)


def _state(agent: Any, spec: RunSpec) -> PyTree | None:
    """Shapes of the state, or None where the environment is refused."""
    try:
        return jax.eval_shape(lambda key: agent.init(key, spec), jax.random.key(0))
    except ConfigError:
        return None


def _is_memory(leaf: Any) -> bool:
    return leaf.ndim > 1 and jnp.issubdtype(leaf.dtype, jnp.floating)


def _shape(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _depends_on_bonus(agent: Any, spec: RunSpec, state: PyTree) -> bool:
    """Whether what `update` returns as state depends on the intrinsic reward."""
    lead = (NUM_STEPS, NUM_ENVS)

    def steps(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: _shape((*lead, *x.shape), x.dtype), tree)

    def act(key: jax.Array, state: PyTree) -> PyTree:
        obs = jax.vmap(spec.env.observation.sample)(jax.random.split(key, NUM_ENVS))
        carry = agent.initial_carry(NUM_ENVS)
        return carry, agent.act(key, state, carry, obs, jnp.ones(NUM_ENVS, bool))[1:]

    key = jax.random.key(0)
    carry, (action, extras) = jax.eval_shape(act, key, state)
    dtypes: tuple[Any, ...] = (jnp.float32, jnp.bool_, jnp.uint32)
    number, flag, level_id = (_shape(lead, t) for t in dtypes)
    obs = steps(shape_dtype(spec.env.observation))

    def along(x: Any) -> Any:
        return _shape((NUM_STEPS, *x.shape), x.dtype)

    traj = Trajectory(
        obs=obs, action=jax.tree.map(along, action), reward=number, next_obs=obs, terminated=flag,
        truncated=flag, first=flag, level_id=level_id,
        info={"success": flag}, privileged={}, next_privileged={},
        extras=jax.tree.map(along, extras), carry=carry,
    )  # fmt: skip

    def update(r_int: jax.Array, key: jax.Array, state: PyTree, traj: Trajectory) -> PyTree:
        return agent.update(key, state, traj, r_int)[0]

    traced = jax.make_jaxpr(update)(number, key, state, traj).jaxpr
    _, used = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return bool(used[0])


def capabilities(id: str) -> Capabilities:
    """What the agent of that id can do with its default options."""
    agent: Any = make_agent(id)
    taken = {
        (o, a): found
        for a in ACTIONS
        for o in OBSERVATIONS
        if (found := _state(agent, _spec(o, a))) is not None
    }
    if not taken:
        raise ConfigError(f"agent {id} takes none of the specs that docs/capabilities.py tries")
    (kinds, state), carry = next(iter(taken.items())), agent.initial_carry(NUM_ENVS)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state)]
    return Capabilities(
        observations=tuple(o for o in OBSERVATIONS if any(o == k[0] for k in taken)),
        actions=tuple(a for a in ACTIONS if any(a == k[1] for k in taken)),
        recurrent=any(map(_is_memory, jax.tree.leaves(carry))),
        replay=any(path.startswith(".replay") for path in paths),
        bonus=_depends_on_bonus(agent, _spec(*kinds), state),
        traits=tuple(getattr(type(agent), "traits", ())),
    )


@functools.cache
def table() -> str:
    """The markdown of what every agent of this library can do."""
    columns = [*OBSERVATIONS, *ACTIONS, "recurrent", "replay", *TRAITS.values(), "a bonus counts"]
    lines = [f"| agent | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for id, entry in entries("agent").items():
        if not entry.factory.__module__.startswith("xplore."):
            continue
        can = capabilities(id)
        marks = [*(o in can.observations for o in OBSERVATIONS)]
        marks += [*(a in can.actions for a in ACTIONS), can.recurrent, can.replay]
        marks += [*(t in can.traits for t in TRAITS), can.bonus]
        lines.append(f"| `{id}` | {' | '.join('yes' if m else '' for m in np.array(marks))} |")
    return "\n".join(lines)
