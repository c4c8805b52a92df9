"""Our environments under gymnasium's API: one env, or many that a single program steps.

    register()
    envs = gymnasium.make_vec("xplore/MiniGrid-DoorKey-8x8-v0", num_envs=256)

gymnasium is optional: it is imported when an environment is made, not when this module is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xplore.compat.lanes import Array, Batch, Levels
from xplore.contracts import registry
from xplore.contracts.component import replace
from xplore.contracts.errors import ConfigError
from xplore.contracts.spaces import Box, Discrete, Space, Symbolic
from xplore.contracts.types import PyTree

if TYPE_CHECKING:
    import gymnasium
    import gymnasium.vector

    Env = gymnasium.Env[Any, Any]
    VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
else:
    Env = VectorEnv = object  # `_upon` puts gymnasium's own below once one is made

_METADATA: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}


def make(
    id: str,
    /,
    *,
    levels: Levels = None,
    text_missions: bool = True,
    render_mode: str | None = None,
    **overrides: Any,
) -> Env:
    """The environment registered under `id`, as a `gymnasium.Env`.

    A MiniGrid environment observes what upstream's does, a dict of "image", "direction" and
    "mission", which is a sentence in a `Text` space. Given a `view`, it observes what that says.
    `info` has the entries of ours, such as "success", and "level_id".

    Args:
        id: as for `xplore.make`.
        levels: None for a new level in every episode; a number for that many training levels, those
            of the world sampler `fixed` with `set_seed=0`; or the ids of levels.
        text_missions: whether missions are sentences; if not, they are arrays of word numbers.
        render_mode: "rgb_array" or None; there are pictures of MiniGrid.
        **overrides: options of the environment, as `max_steps=100`.

    Raises:
        ConfigError: gymnasium is not installed, or a setting cannot be had.
    """
    base = _gymnasium().Env
    batch = Batch(_environment(id, overrides), 1, levels, "Disabled", text_missions, render_mode)
    return cast(Env, _upon(_XploreEnv, base)(batch))


def make_vec(
    id: str,
    /,
    num_envs: int,
    *,
    seed: int | None = 0,
    levels: Levels = None,
    autoreset_mode: Any = "NextStep",
    text_missions: bool = True,
    render_mode: str | None = None,
    **overrides: Any,
) -> VectorEnv:
    """Envs of the environment registered under `id`, as a `gymnasium.vector.VectorEnv`.

    They go through what gymnasium's `SyncVectorEnv` of `num_envs` times `make(id)` does, step for
    step and with the same infos. Missions that are sentences come as a tuple of them.

    Args:
        id: as for `xplore.make`.
        num_envs: how many.
        seed: of a first `reset` that is given none; None for entropy. Env `i` takes `seed + i`.
        levels: as for `make`.
        autoreset_mode: "NextStep" or "SameStep", or the member of `AutoresetMode`. With the latter
            infos have "final_obs" and "final_info" where an episode ended.
        text_missions: as for `make`.
        render_mode: as for `make`; there is then a picture of every env.
        **overrides: options of the environment.

    Raises:
        ConfigError: gymnasium is not installed, or a setting cannot be had.
    """
    base = _gymnasium().vector.VectorEnv
    mode = getattr(autoreset_mode, "value", autoreset_mode)
    if num_envs < 1:
        raise ConfigError(f"num_envs is {num_envs}: at least 1 is needed")
    if mode not in ("NextStep", "SameStep"):
        raise ConfigError(f"autoreset_mode is {mode!r}: it must be 'NextStep' or 'SameStep'")
    made = _environment(id, overrides)
    batch = Batch(made, num_envs, levels, mode, text_missions, render_mode)
    return cast(VectorEnv, _upon(_XploreVectorEnv, base)(batch, seed))


def register(prefix: str = "xplore/") -> list[str]:
    """Registers every environment with gymnasium, for `gymnasium.make` and `gymnasium.make_vec`.

    A slash in an id of ours becomes a hyphen: `xplore/gymnax-CartPole-v1`. Their options are those
    of `make` and `make_vec`; a first `reset` without a seed draws entropy, as it does in gymnasium.

    Args:
        prefix: of the ids. With "" ours take the place of upstream's.

    Returns:
        The ids.
    """
    gymnasium = _gymnasium()
    ids = {prefix + id.replace("/", "-"): id for id in registry.list_envs()}
    for name, id in ids.items():
        entry_point = f"{__name__}:single_entry_point"
        if name in gymnasium.registry and gymnasium.registry[name].entry_point == entry_point:
            continue
        gymnasium.register(
            name,
            entry_point=entry_point,
            vector_entry_point=f"{__name__}:vector_entry_point",
            kwargs={"xplore_id": id},
        )
    return list(ids)


class _EntryPoint:
    # gymnasium reads it before anything is made, and offers "human" by itself.
    metadata = _METADATA

    def __call__(self, xplore_id: str, **kwargs: Any) -> Env:
        return make(xplore_id, **kwargs)


single_entry_point = _EntryPoint()


def vector_entry_point(
    xplore_id: str, num_envs: int, seed: int | None = None, **kwargs: Any
) -> VectorEnv:
    """What `gymnasium.make_vec` calls."""
    return make_vec(xplore_id, num_envs, seed=seed, **kwargs)


def _gymnasium() -> ModuleType:
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(
            "this needs the package gymnasium, which is not installed: pip install gymnasium"
        ) from error
    return gymnasium


def _environment(id: str, overrides: dict[str, Any]) -> Any:
    made: Any = registry.make(id, **overrides)
    if hasattr(made, "view") and "view" not in overrides:
        return replace(made, view=replace(made.view, direction=True, mission=True))
    return made


def _to_space(space: Space, missions: tuple[str, ...] = ()) -> Any:
    """A space of ours as gymnasium's; symbols are bytes of any value, as upstream has them."""
    spaces = _gymnasium().spaces
    if isinstance(space, Discrete):
        return spaces.Discrete(space.num)
    if isinstance(space, Box):
        return spaces.Box(space.low, space.high, space.shape, np.dtype(space.dtype).type)
    if isinstance(space, Symbolic):
        return spaces.Box(0, 255, space.shape, np.uint8)
    found = {name: _to_space(child) for name, child in space.items}
    if missions:
        lengths = [len(mission) for mission in missions]
        letters = "".join(sorted(set("".join(missions))))
        found["mission"] = spaces.Text(max(lengths), min_length=min(lengths), charset=letters)
    return spaces.Dict(found)


def _metadata(batch: Batch) -> dict[str, Any]:
    # A copy: gymnasium's `SyncVectorEnv` writes into it.
    return dict(_METADATA) if batch.can_render else {"render_modes": []}


def _of(obs: PyTree, i: int) -> PyTree:
    return {name: _of(x, i) for name, x in obs.items()} if isinstance(obs, dict) else obs[i]


@functools.cache
def _upon(cls: type, base: type) -> type:
    return type(cls.__name__[1:], (cls, base), {"__module__": __name__, "__doc__": cls.__doc__})


class _XploreEnv(Env):
    """One env; see `make`."""

    def __init__(self, batch: Batch) -> None:
        self.metadata, self.render_mode = _metadata(batch), batch.render_mode
        self.observation_space = _to_space(batch.observation, batch.missions)
        self.action_space = _to_space(batch.action)
        self._batch = batch

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        goes_on = seed is None and self._batch.begun
        obs = self._batch.reset([None if goes_on else self.np_random])
        return _of(obs, 0), {"level_id": self._batch.level_id.item()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        ts = self._batch.step(np.asarray(action)[None])
        info = {name: value.item() for name, value in ts.info.items()}
        info["level_id"] = self._batch.level_id.item()
        obs = _of(self._batch.numpy(ts.obs), 0)
        return obs, ts.reward.item(), ts.terminated.item(), ts.truncated.item(), info

    def render(self) -> Any:
        pictures = self._batch.pictures()
        return None if pictures is None else pictures[0]


class _XploreVectorEnv(VectorEnv):
    """Many envs; see `make_vec`."""

    def __init__(self, batch: Batch, seed: int | None) -> None:
        from gymnasium.vector import AutoresetMode
        from gymnasium.vector.utils import batch_space

        self.num_envs, self.render_mode = batch.num_envs, batch.render_mode
        self.metadata = {**_metadata(batch), "autoreset_mode": AutoresetMode(batch.autoreset)}
        self.single_observation_space = _to_space(batch.observation, batch.missions)
        self.single_action_space = _to_space(batch.action)
        self.observation_space = batch_space(self.single_observation_space, batch.num_envs)
        self.action_space = batch_space(self.single_action_space, batch.num_envs)
        self._batch, self._seed = batch, seed
        self._due = np.zeros(batch.num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        from gymnasium.utils.seeding import np_random

        batch = self._batch
        seed = self._seed if seed is None and not batch.begun else seed
        if isinstance(seed, (int, np.integer)):
            super().reset(seed=int(seed))
            seeds: Sequence[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise ConfigError(f"there are {len(seeds)} seeds for {self.num_envs} envs")
        obs = batch.reset([None if s is None and batch.begun else np_random(s)[0] for s in seeds])
        self._due = np.zeros(self.num_envs, bool)
        return obs, _masked({"level_id": batch.level_id}, ~self._due)

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        batch, due, level_id = self._batch, self._due, self._batch.level_id
        ts = batch.step(actions)
        infos: dict[str, Any] = {}
        if batch.autoreset == "SameStep":
            due = ts.terminated | ts.truncated
            if due.any():
                infos = self._final(batch.numpy(ts.obs), {**ts.info, "level_id": level_id}, due)
        else:
            # Where the last step ended an episode, all that this one did is to begin another.
            for x in (ts.reward, ts.terminated, ts.truncated):
                x[due] = 0
            self._due = ts.terminated | ts.truncated
        infos |= _masked(ts.info, ~due) | _masked({"level_id": batch.level_id}, due | True)
        return batch.numpy(batch.lanes.obs), ts.reward, ts.terminated, ts.truncated, infos

    def _final(self, obs: Any, info: dict[str, Array], ended: Array) -> dict[str, Any]:
        final_obs = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended).tolist():
            final_obs[i] = _of(obs, i)
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": _masked(info, ended),
            "_final_info": ended.copy(),
        }

    def render(self) -> Any:
        pictures = self._batch.pictures()
        return None if pictures is None else tuple(pictures)


def _masked(values: dict[str, Any], mask: Array) -> dict[str, Any]:
    """Infos of the envs of `mask`, in the form and the dtypes that gymnasium gives them."""
    infos: dict[str, Any] = {}
    for name, value in values.items() if mask.any() else ():
        infos[name] = np.zeros(mask.shape, type(value[0].item()))
        infos[name][mask], infos[f"_{name}"] = value[mask], mask.copy()
    return infos
