"""xplore: exploration benchmarks in JAX. Worlds to enter, paths to take, one jitted loop."""

from xplore.contracts.component import component, from_json, replace, static, to_json
from xplore.contracts.errors import XploreError
from xplore.contracts.registry import (
    list_agents,
    list_bonuses,
    list_envs,
    list_world_samplers,
    make,
    make_agent,
    make_bonus,
    make_world_sampler,
    register_agent,
    register_bonus,
    register_env,
    register_world_sampler,
)
from xplore.contracts.spaces import Box, Dict, Discrete, Symbolic
from xplore.contracts.types import EnvSpec, LevelBatch, RunSpec, TimeStep, Trajectory
from xplore.film import render
from xplore.loop.config import Config
from xplore.loop.dataset import (
    Dataset,
    load_dataset,
    record_agent,
    record_expert,
    record_plans,
    save_dataset,
)
from xplore.loop.evaluate import Evaluation, evaluate, evaluate_result
from xplore.loop.imitation import behaviour_clone
from xplore.loop.session import Interrupted, Progress
from xplore.loop.train import Result, train
from xplore.loop.update import Train, TrainState, make_train
from xplore.measure import oracle

__version__ = "0.1.0"

__all__ = [
    "Box",
    "Config",
    "Dataset",
    "Dict",
    "Discrete",
    "EnvSpec",
    "Evaluation",
    "Interrupted",
    "LevelBatch",
    "Progress",
    "Result",
    "RunSpec",
    "Symbolic",
    "TimeStep",
    "Train",
    "TrainState",
    "Trajectory",
    "XploreError",
    "behaviour_clone",
    "component",
    "evaluate",
    "evaluate_result",
    "from_json",
    "list_agents",
    "list_bonuses",
    "list_envs",
    "list_world_samplers",
    "load_dataset",
    "make",
    "make_agent",
    "make_bonus",
    "make_train",
    "make_world_sampler",
    "oracle",
    "record_agent",
    "record_expert",
    "record_plans",
    "register_agent",
    "register_bonus",
    "register_env",
    "register_world_sampler",
    "render",
    "replace",
    "save_dataset",
    "static",
    "to_json",
    "train",
]
