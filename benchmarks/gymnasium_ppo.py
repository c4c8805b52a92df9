"""A PPO that knows nothing of JAX trains on our environments: Stable-Baselines3's, in PyTorch.

`python -m xplore.benchmarks.gymnasium_ppo MiniGrid-DoorKey-5x5-v0` prints the share of held-out
levels solved, before and after. Neither package is among our dependencies.
"""

from __future__ import annotations

import importlib
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tyro

from xplore.compat.gymnasium import VectorEnv, make_vec
from xplore.contracts.errors import ConfigError
from xplore.envs.minigrid.observation import View
from xplore.parts.levels import held_out_ids

Array = npt.NDArray[Any]


class Learning(NamedTuple):
    """What `learn` found: success rates on held-out levels, and the speed of training."""

    before: float
    after: float
    steps: int
    steps_per_second: float


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"this needs {name.partition('.')[0]}, which is not installed:"
            " pip install stable-baselines3"
        ) from error


def to_stable_baselines(envs: VectorEnv) -> Any:
    """Envs that reset in the same step, as a `VecEnv` of Stable-Baselines3."""
    base = _module("stable_baselines3.common.vec_env").VecEnv
    return type("Adapter", (_Adapter, base), {})(envs)


class _Adapter:
    """The methods of a `VecEnv`, which is put below them once it can be imported."""

    def __init__(self, envs: Any) -> None:
        self.envs = envs
        self._seeds: list[int | None] = []
        base: Any = super()
        base.__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> Any:
        seed, self._seeds = self._seeds[0], [None] * self.envs.num_envs
        return self.envs.reset(seed=seed)[0]

    def step_async(self, actions: Array) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, infos = self.envs.step(self._actions)
        ended = terminated | truncated
        told: list[dict[str, Any]] = [{} for _ in ended]
        for i in np.flatnonzero(ended).tolist():
            told[i] = {
                "terminal_observation": infos["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "is_success": bool(infos["final_info"]["success"][i]),
            }
        return obs, reward.astype(np.float32), ended, told

    def close(self) -> None:
        self.envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name)] * self.envs.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the envs are one program: their options are given to make_vec")

    def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the envs are one program: they have no methods each")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.envs.num_envs


def make_envs(id: str, num_envs: int, **options: Any) -> VectorEnv:
    """Envs that reset in the same step; of MiniGrid, the image alone is observed."""
    if id.startswith("MiniGrid-"):
        options["view"] = View()
    return make_vec(id, num_envs, autoreset_mode="SameStep", **options)


def _policy() -> dict[str, Any]:
    """A perceptron that is fed a tenth of what is observed.

    Symbols up to 10 as they are can set the critic far above every return there is. Where time
    limits are bootstrapped from, as here, that lasts, and the agent learns to avoid the goal.
    """
    extractor: Any = _module("stable_baselines3.common.torch_layers").FlattenExtractor

    class Tenth(extractor):  # type: ignore[misc]
        def forward(self, observed: Any) -> Any:
            return super().forward(observed) * 0.1

    return {
        "net_arch": [128, 128],
        "activation_fn": _module("torch").nn.ReLU,
        "features_extractor_class": Tenth,
        "normalize_images": False,
    }


def success_rate(model: Any, id: str, levels: Array) -> float:
    """The share of episodes, one each of as many envs as there are `levels`, that succeed."""
    envs = make_envs(id, len(levels), levels=levels)
    obs, _ = envs.reset(seed=0)
    done, success = np.zeros((2, len(levels)), bool)
    while not done.all():
        obs, _, terminated, truncated, infos = envs.step(model.predict(obs)[0])
        ended = terminated | truncated
        if ended.any():
            success |= ~done & ended & infos["final_info"]["success"]
        done |= ended
    return float(success.mean())


def learn(id: str, steps: int, seed: int = 0, num_envs: int = 32) -> Learning:
    """Trains Stable-Baselines3's PPO with a multi-layer perceptron on fresh levels."""
    model = _module("stable_baselines3").PPO(
        "MlpPolicy",
        to_stable_baselines(make_envs(id, num_envs, seed=seed)),
        n_steps=128,
        batch_size=512,
        n_epochs=4,
        learning_rate=1e-3,
        ent_coef=0.01,
        seed=seed,
        device="cpu",
        policy_kwargs=_policy(),
    )
    levels = np.asarray(held_out_ids(0, 200))
    before = success_rate(model, id, levels)
    begun = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begun
    after = success_rate(model, id, levels)
    return Learning(before, after, model.num_timesteps, model.num_timesteps / seconds)


def main(
    id: tyro.conf.Positional[str] = "MiniGrid-DoorKey-5x5-v0", steps: int = 300_000, seed: int = 0
) -> None:
    """Trains on `id` and prints what came of it."""
    found = learn(id, steps, seed)
    print(
        f"{id}: success on held-out levels {found.before:.1%} -> {found.after:.1%}"
        f" in {found.steps:,} steps at {found.steps_per_second:,.0f} per second"
    )


if __name__ == "__main__":
    tyro.cli(main)
