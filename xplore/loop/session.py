"""The host side of a run: its history, its progress, its checkpoints, and how it is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from xplore.contracts.component import to_json
from xplore.contracts.errors import DivergedError
from xplore.contracts.types import PyTree
from xplore.loop.checkpoint import Checkpointer
from xplore.loop.config import Config


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a run; `signal_number` says which, the message how to go on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        env_steps, budget_steps: per seed.
        update, num_updates: updates of a seed.
        steps_per_second: env steps of all seeds together, over the last chunk.
        seconds_left: at that speed.
        metrics: of the last update, means over the seeds (NaN where no episode ended).
    """

    env_steps: int
    budget_steps: int
    update: int
    num_updates: int
    steps_per_second: float
    seconds_left: float
    metrics: dict[str, float]


class SignalGuard:
    """Holds back SIGINT and SIGTERM until the chunk in flight has ended; a second one gets through.

    Signals can only be handled in the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


def fingerprint(config: Config, seeds: tuple[int, ...]) -> dict[str, Any]:
    """What a checkpoint must agree on to be gone on from."""
    return {"config": to_json(config), "seeds": list(seeds)}


class Session:
    """The history of a group of seeds that run together, and where it is saved."""

    def __init__(
        self,
        config: Config,
        seeds: tuple[int, ...],
        metric_names: tuple[str, ...],
        folder: Path | None,
        checkpoint_every_s: float,
    ) -> None:
        self.config = config
        self.seeds = seeds
        self.folder = folder
        self.update = 0
        self.run_seconds = 0.0
        self._pace = 0.0  # updates per second, last chunk
        shape = (len(seeds), config.num_updates)
        self.metrics = {name: np.full(shape, np.nan, np.float32) for name in metric_names}
        steps = np.arange(1, config.num_updates + 1, dtype=np.int64) * config.steps_per_update
        self.env_steps = np.minimum(steps, config.budget_steps)
        self._every_s = checkpoint_every_s
        self._last_save = time.perf_counter()
        self._checkpointer = (
            None if folder is None else Checkpointer(folder, fingerprint(config, seeds))
        )

    def restore(self, like: PyTree) -> PyTree | None:
        """Returns the saved state, having taken over its history; None if nothing is saved."""
        if self._checkpointer is None:
            return None
        found = self._checkpointer.restore_latest({"state": like, "metrics": self.metrics})
        if found is None:
            return None
        self.update, tree = found
        self.metrics = {name: np.array(value) for name, value in tree["metrics"].items()}
        return tree["state"]

    def record(self, history: dict[str, np.ndarray], seconds: float) -> None:
        """Takes the metrics `[length, S]` of a chunk that took `seconds`.

        Raises:
            DivergedError: a metric of agent or bonus is NaN or infinite; the chunk is dropped.
        """
        self._check_finite(history)
        length = len(next(iter(history.values())))
        for name, values in history.items():
            self.metrics[name][:, self.update : self.update + length] = values.T
        self.update += length
        self.run_seconds += seconds
        self._pace = length / max(seconds, 1e-9)

    def _check_finite(self, history: dict[str, np.ndarray]) -> None:
        worst: tuple[int, int, str] | None = None
        for name, values in history.items():
            if not name.startswith(("agent/", "bonus/")):
                continue
            bad = np.argwhere(~np.isfinite(values))
            if bad.size and (worst is None or bad[0][0] < worst[0]):
                worst = (int(bad[0][0]), int(bad[0][1]), name)
        if worst is None:
            return
        row, seed, name = worst
        part, _, metric = name.partition("/")
        component = type(getattr(self.config, part)).__name__
        value = history[name][row, seed]
        update = self.update + row
        kept = f"; the last good checkpoint is in {self.folder}" if self.folder else ""
        raise DivergedError(
            f"{metric} of the {part} ({component}) became {value} at update {update + 1} (env step"
            f" {self.env_steps[update]:,}, seed {self.seeds[seed]}): lower its learning rate or"
            f" scale its rewards{kept}"
        )

    def save(self, state: PyTree, *, force: bool) -> None:
        """Saves if `force`, or if the last time is long enough ago."""
        due = time.perf_counter() - self._last_save >= self._every_s
        if self._checkpointer is not None and (force or due):
            self._checkpointer.save(self.update, {"state": state, "metrics": self.metrics})
            self._last_save = time.perf_counter()

    def progress(self) -> Progress:
        """How far this group is."""
        config, last = self.config, self.update - 1
        pace = self._pace * config.steps_per_update
        env_steps = int(self.env_steps[last])
        with np.errstate(all="ignore"):
            metrics = {
                name: float(np.mean(values[:, last])) for name, values in self.metrics.items()
            }
        return Progress(
            env_steps=env_steps,
            budget_steps=config.budget_steps,
            update=self.update,
            num_updates=config.num_updates,
            steps_per_second=pace * len(self.seeds),
            seconds_left=(config.budget_steps - env_steps) / pace,
            metrics=metrics,
        )


ProgressCallback = Callable[[Progress], None]
