"""What a suite is made of: data that knows no method's inside and no environment's dynamics.

A module of this folder whose variable `SUITE` is a `Suite` is found by `xplore bench NAME`; so is
`path/to/file.py` of a user.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Mapping
from importlib.abc import InspectLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import xplore.benchmarks
from xplore.contracts.errors import ConfigError, UnknownIdError, XploreError, did_you_mean
from xplore.record.experiments import Experiment

Options = Mapping[str, Any]


def spelt(id: str, options: Options) -> str:
    """An id with its options, as rows and tables name it.

    >>> spelt("rnd", {"coefficient": 0.5}), spelt("here/mine.py:novelty", {})
    ('rnd(coefficient=0.5)', 'mine.py:novelty')
    """
    inner = ",".join(f"{name}={value}" for name, value in sorted(options.items()))
    path, separator, name = id.rpartition(":")
    if separator and path.endswith(".py"):
        id = f"{Path(path).name}:{name}"  # where a user keeps a file is not part of a result
    return f"{id}({inner})" if inner else id


@dataclasses.dataclass(frozen=True)
class Task:
    """One environment with its budget and its score.

    The score of a seed is its value of `score` after the whole budget, normalised so that `low` is
    0 and `high` is 1.

    Attributes:
        env: id of the environment.
        budget_steps: env steps a seed may spend.
        high: the optimal value of `score`, exact or a bound; `high_reason` says which and why.
        solved_when: a seed has solved the task when `score` reaches this, unnormalised.
        low: the value of `score` that is worth 0; None stands for what the `random` agent reached
            in the suite's own rows, so that nobody types it.
        num_envs, num_steps: N and T of the loop, the same for every method.
        score: name of the metric; `eval/...` is measured on held-out levels.
        curve: name of the metric that is followed during training.
        options: overrides for the environment.
        label: what the task is called in tables; by default its id with its options.
        tags: capabilities the task asks for.
    """

    env: str
    budget_steps: int
    high: float
    high_reason: str
    solved_when: float
    low: float | None = None
    num_envs: int = 64
    num_steps: int = 128
    score: str = "eval/return"
    curve: str = "episode/return"
    options: Options = dataclasses.field(default_factory=dict)
    label: str = ""
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", spelt(self.env, self.options))
        if self.low is not None and not self.low < self.high:
            raise ConfigError(f"task {self.label}: low {self.low} must be below high {self.high}")


@dataclasses.dataclass(frozen=True)
class Method:
    """An agent, a bonus and a world sampler, with the options that differ from their defaults.

    With `eval_greedy` the agent is evaluated without the noise it acts with in training.
    """

    label: str
    agent: str = "ppo"
    bonus: str = "none"
    worlds: str = "fresh"
    agent_options: Options = dataclasses.field(default_factory=dict)
    bonus_options: Options = dataclasses.field(default_factory=dict)
    worlds_options: Options = dataclasses.field(default_factory=dict)
    eval_greedy: bool = False

    @property
    def is_random(self) -> bool:
        """Whether this is plain random action, whose score is the zero of a task."""
        return self.agent == "random"

    @property
    def names(self) -> dict[str, str]:
        """The three plugs as rows name them, for example `rnd(coefficient=0.5)`."""
        return {
            "agent": spelt(self.agent, self.agent_options),
            "bonus": spelt(self.bonus, self.bonus_options),
            "worlds": spelt(self.worlds, self.worlds_options),
        }


@dataclasses.dataclass(frozen=True)
class Suite:
    """A grid of tasks x methods x seeds.

    Attributes:
        seeds: how many, 0 to n-1.
        eval_levels: held-out levels each seed is evaluated on; the same for all.
        eval_episodes: tries on each; from 2 on, what `xplore.measure.generalisation` measures of
            training and held-out levels is measured too, and the gap between the two.
        experiments: tasks that are scored together too, by rules of their own.
    """

    name: str
    description: str
    tasks: tuple[Task, ...]
    methods: tuple[Method, ...]
    seeds: int = 5
    eval_levels: int = 64
    eval_episodes: int = 1
    tags: tuple[str, ...] = ()
    experiments: tuple[Experiment, ...] = ()

    def __post_init__(self) -> None:
        for what, labels in (
            ("task", [t.label for t in self.tasks]),
            ("method", [m.label for m in self.methods]),
        ):
            twice = sorted({x for x in labels if labels.count(x) > 1})
            if twice:
                raise ConfigError(f"suite {self.name}: two {what}s are labelled {twice[0]!r}")
            if not labels:
                raise ConfigError(f"suite {self.name} has no {what}s")
        needs_random = [t.label for t in self.tasks if t.low is None]
        if needs_random and not any(m.is_random for m in self.methods):
            raise ConfigError(
                f"suite {self.name}: task {needs_random[0]} has no low score, and no method is the"
                " `random` agent whose score would be it"
            )

        known = [t.label for t in self.tasks]
        for experiment in self.experiments:
            for label in experiment.settings.values():
                if label not in known:
                    raise ConfigError(
                        f"suite {self.name}: experiment {experiment.name} scores {label!r}, which"
                        f" is no task of it{did_you_mean(label, known)}"
                    )

    def task(self, label: str) -> Task:
        """The task of that label."""
        return next(t for t in self.tasks if t.label == label)


@functools.cache
def suites() -> dict[str, Suite]:
    """All suites of `xplore.benchmarks`, by name."""
    found = {}
    for module in pkgutil.iter_modules(xplore.benchmarks.__path__, "xplore.benchmarks."):
        # What is no suite is not imported: other modules here are slow to, or need more packages.
        if not _mentions_suite(module.name):
            continue
        suite = _suite_of(importlib.import_module(module.name))
        if suite is not None:
            found[suite.name] = suite
    return dict(sorted(found.items()))


def _mentions_suite(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    loader = None if spec is None else spec.loader
    source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    return source is None or re.search(r"^SUITE\b", source, re.MULTILINE) is not None


def find_suite(name: str) -> Suite:
    """The suite of that name, or the `SUITE` of `path/to/file.py`.

    Raises:
        UnknownIdError: there is none; names the closest.
        ConfigError: the file cannot be imported.
    """
    if name.endswith(".py"):
        suite = _suite_of(_load(Path(name)))
        if suite is None:
            raise UnknownIdError(f"{name} has no variable SUITE that is a Suite")
        return suite
    if name not in suites():
        raise UnknownIdError(
            f"unknown suite {name!r}{did_you_mean(name, suites())} (`xplore list suites` shows all)"
        )
    return suites()[name]


def _suite_of(module: ModuleType) -> Suite | None:
    suite = getattr(module, "SUITE", None)
    return suite if isinstance(suite, Suite) else None


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise UnknownIdError(f"no such file: {path}")
    spec = importlib.util.spec_from_file_location(f"xplore_suite_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # what it declares must be found where it says it is
    try:
        spec.loader.exec_module(module)
    except XploreError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
