"""A job: one config with its seeds, from training to rows that will never have to be made again.

Its fingerprint is a hash of all that decides its numbers: a seed whose rows are there is not run
again, and a job whose settings changed is another job.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from xplore.benchmarks.held_out import optimal_steps
from xplore.contracts.component import to_json
from xplore.loop.config import Config
from xplore.loop.evaluate import Evaluation, evaluate
from xplore.loop.session import ProgressCallback
from xplore.loop.train import Result, SeedMode, train
from xplore.loop.update import reads_of
from xplore.measure import generalisation
from xplore.parts.levels import held_out_ids, train_ids
from xplore.record.files import writable_folder
from xplore.record.rows import Labels, long_rows, read_sidecars, write_run
from xplore.worlds.fixed import Fixed

# Points of a learning curve that are kept: more than a figure can show.
MAX_POINTS = 200
_SUMMED = ("episode/count", "worlds/levels_generated", "worlds/scoring_steps")
_PROTOCOL = 1  # raised when what is measured changes without any config changing


class Job(NamedTuple):
    """One config with what its rows are filed under.

    Attributes:
        labels: suite, task and the names of the plugs.
        config: what is run.
        eval_levels: held-out levels each seed is evaluated on after training; 0 for none.
        sources: a hash of the user's own files that define plugs (see `sources_of`).
        eval_episodes: tries on each of those levels; see `Suite`.
        eval_greedy: evaluate the agent without the noise it acts with.
    """

    labels: Labels
    config: Config
    eval_levels: int = 64
    sources: str = ""
    eval_episodes: int = 1
    eval_greedy: bool = False

    @property
    def title(self) -> str:
        """For people: `DeepSea-16-v0 ppo+count`."""
        plugs = [p for p in (self.labels.agent, self.labels.bonus) if p != "none"]
        worlds = "" if self.labels.worlds == "fresh" else f" {self.labels.worlds}"
        return f"{self.labels.task} {'+'.join(plugs)}{worlds}"

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides the numbers of a seed."""
        data = [_PROTOCOL, vars(self.labels), to_json(self.config), self.eval_levels, self.sources]
        # Jobs from before there were these keep their fingerprints.
        if (self.eval_episodes, self.eval_greedy) != (1, False):
            data += [self.eval_episodes, self.eval_greedy]
        return _hash(data)


class Outcome(NamedTuple):
    """What running a job left: the rows it wrote, where, and how long it took."""

    rows: pd.DataFrame
    path: Path
    seeds: tuple[int, ...]
    compile_seconds: float
    run_seconds: float


def _hash(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sources_of(*ids: str) -> str:
    """A hash of the files behind ids of the form `path/to/file.py:name`; "" if there are none.

    With it in the fingerprint, a bonus that its author edits is run again.
    """
    files = sorted({id.rpartition(":")[0] for id in ids if id.rpartition(":")[0].endswith(".py")})
    return _hash([Path(file).read_text(encoding="utf-8") for file in files]) if files else ""


def run_id_of(job: Job, seeds: Iterable[int]) -> str:
    """The id of the run of `seeds` together."""
    return _hash([job.fingerprint, sorted(seeds)])


def finished_seeds(folder: str | Path, jobs: Iterable[Job]) -> dict[str, dict[int, str]]:
    """Of each job's fingerprint: the seeds whose rows are in `folder`, with the id of their run."""
    found: dict[str, dict[int, str]] = {job.fingerprint: {} for job in jobs}
    if not Path(folder).is_dir():
        return found
    for run_id, sidecar in read_sidecars(folder).items():
        seeds = found.get(str(sidecar.get("fingerprint")))
        if seeds is not None:
            for seed in sidecar["seeds"]:
                seeds.setdefault(int(seed), run_id)
    return found


ShowProgress = Callable[[Job], AbstractContextManager[ProgressCallback | None]]


def silent(job: Job) -> AbstractContextManager[None]:
    """No progress is shown."""
    return contextlib.nullcontext()


def run_job(
    job: Job,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    checkpoints: str | Path | None = None,
    checkpoint_every_s: float = 60.0,
    seed_mode: SeedMode = "vmap",
    show_progress: ShowProgress = silent,
) -> Outcome | None:
    """Trains and evaluates `seeds`, adds their rows to `folder`, and returns them.

    Interrupted at any moment and called again, it goes on from its last checkpoint, which is
    removed once the rows are written. Returns None if another process is running this very job.

    Args:
        job: what to run.
        seeds: which.
        folder: where the rows go.
        checkpoints: where to save on the way; by default `.checkpoints` in `folder`.
        checkpoint_every_s: seconds between two.
        seed_mode: see `train`.
        show_progress: for the job, a context manager that gives `train` its callback.

    Raises:
        XploreError: it cannot run, or diverged, or `folder` cannot be written.
    """
    # Before the run: rows that cannot be written must not cost hours first.
    results = writable_folder(folder)
    run_id = run_id_of(job, seeds)
    saved = writable_folder(
        (Path(checkpoints) if checkpoints else results / ".checkpoints") / run_id
    )
    with _claimed(saved) as ours:
        if not ours:
            return None
        with show_progress(job) as on_progress:
            result = train(
                job.config,
                seeds=seeds,
                seed_mode=seed_mode,
                checkpoint_dir=saved,
                checkpoint_every_s=checkpoint_every_s,
                on_progress=on_progress,
            )
        rows = _rows(job, result)
        path = write_run(results, job.labels, rows, _sidecar(job, result, seed_mode), run_id=run_id)
        shutil.rmtree(saved, ignore_errors=True)
    return Outcome(rows, path, result.seeds, result.compile_seconds, result.run_seconds)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that works in `folder`; a process that dies lets go of it."""
    if sys.platform == "win32":  # no such locks: one process at a time is then up to the user
        yield True
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _sidecar(job: Job, result: Result, seed_mode: SeedMode) -> dict[str, Any]:
    return {
        "fingerprint": job.fingerprint,
        "config": to_json(job.config),
        "seeds": list(result.seeds),
        "seed_mode": seed_mode,
        "eval_levels": job.eval_levels,
        "eval_episodes": job.eval_episodes,
        "eval_greedy": job.eval_greedy,
        "privileged": list(reads_of(job.config)),
        "env_steps": job.config.budget_steps,
        "compile_seconds": result.compile_seconds,
        "run_seconds": result.run_seconds,
        "flops_per_update": result.flops_per_update,
    }


def _rows(job: Job, result: Result) -> pd.DataFrame:
    steps, metrics = thinned(result.env_steps, result.metrics)
    parts = [long_rows(result.seeds, steps, metrics)]
    if job.eval_levels and job.config.env.spec().max_steps:
        last = [job.config.budget_steps]
        parts.append(long_rows(result.seeds, last, evaluated(job, result)))
    # A mean over no episodes is not a row.
    return pd.concat(parts, ignore_index=True).dropna(subset=["value"])


def thinned(
    env_steps: np.ndarray, metrics: dict[str, np.ndarray], max_points: int = MAX_POINTS
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Joins neighbouring updates until at most `max_points` are left, `[S, U]` to `[S, P]`.

    Means over episodes are weighted by how many ended, so that every episode counts once; their
    count is summed, and so is what choosing levels cost (`worlds/levels_generated`,
    `worlds/scoring_steps`); what is told of the whole run so far (`episode/total...`, `oracle/...`)
    is the last; the rest is averaged. A point is filed under its last update's env steps.
    """
    num = len(env_steps)
    edges = np.linspace(0, num, min(num, max_points) + 1).round().astype(int)
    starts, count = edges[:-1], metrics["episode/count"].astype(np.float64)

    def total(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts, axis=1)

    joined = {}
    for name, values in metrics.items():
        if name in _SUMMED:
            joined[name] = total(values.astype(np.float64))
            continue
        of_episodes = name.startswith("episode/") or name == "oracle/regret"
        if name.startswith(("episode/total", "oracle/")) and name != "oracle/regret":
            joined[name] = values[:, edges[1:] - 1].astype(np.float64)
            continue
        weight = count if of_episodes else np.isfinite(values).astype(np.float64)
        with np.errstate(invalid="ignore"):
            sums = total(np.where(weight > 0, values.astype(np.float64), 0.0) * weight)
            joined[name] = sums / total(weight)  # 0/0: NaN, no episode ended
    return env_steps[edges[1:] - 1], joined


def evaluated(job: Job, result: Result) -> dict[str, np.ndarray]:
    """Means over levels after training, `[S]` each.

    `eval/...` is on held-out levels, the same for every seed. A method that trains on a fixed set
    of levels also gets `eval_train/...` on (the first of) those, so that the gap can be read off;
    with several episodes a level, it is there, as `gap/...`.
    """
    num_seeds, config = len(result.seeds), job.config
    agent = config.agent.greedy() if job.eval_greedy else config.agent
    plugs: tuple[Any, Any] = (config.env, agent)
    play = _evaluator(*plugs, job.eval_episodes)
    held_out = jnp.tile(held_out_ids(0, job.eval_levels), (num_seeds, 1))
    sets = {"eval": held_out}
    if isinstance(config.worlds, Fixed):
        index = jnp.arange(min(config.worlds.num_levels, job.eval_levels))
        sets["eval_train"] = jax.vmap(lambda state: train_ids(state, index))(result.state.worlds)
    found: dict[str, np.ndarray] = {}
    of_sets = {}
    for name, ids in sets.items():
        keys = jax.random.split(jax.random.key(0), num_seeds)
        outcome = jax.device_get(play(result.state.agent, ids, keys))
        returns = np.sort(outcome.returns.mean(-1), axis=1)
        worst = max(1, returns.shape[1] // 10)
        found[f"{name}/return"] = returns.mean(1)
        found[f"{name}/return_worst_tenth"] = returns[:, :worst].mean(1)
        found[f"{name}/success"] = outcome.success.reshape(num_seeds, -1).mean(1)
        found[f"{name}/length"] = outcome.lengths.reshape(num_seeds, -1).mean(1)
        if job.eval_episodes > 1:
            best = optimal_steps(*plugs[:1], job.eval_levels) if name == "eval" else None
            of_sets[name] = generalisation.of_levels(generalisation.Tries(*outcome), best)
            found |= {f"{name}/{metric}": x for metric, x in of_sets[name].items()}
    if len(of_sets) == 2:
        gaps = generalisation.gaps(of_sets["eval_train"], of_sets["eval"])
        found |= {f"gap/{metric}": x for metric, x in gaps.items()}
    return found


@functools.lru_cache(maxsize=16)
def _evaluator(env: Any, agent: Any, episodes: int) -> Callable[..., Evaluation]:
    # Cached, so that the methods of a grid that share an agent share the compiled program.
    def one(state: Any, ids: jax.Array, key: jax.Array) -> Evaluation:
        return evaluate(env, agent, state, ids, key=key, episodes_per_level=episodes)

    return jax.jit(jax.vmap(one))
