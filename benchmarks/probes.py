"""Every learner on the six probe environments: `python -m xplore.benchmarks.probes results/probes`.

A probe knows the optimal value of each of its observations. Of the first three, where nothing can
be chosen, the values that an agent learned are held against them; of the next two, what it earns
when it acts greedily too. The sixth is a lock that has to be explored: agents that claim to explore
by themselves are asked how often they open it in the last tenth of their training, or greedily,
whichever is more often. What is done is not run again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import tyro

from xplore.agents.q_networks import of_heads
from xplore.agents.search.targets import foresee_obs
from xplore.benchmarks.cells import fingerprint_of, keep_rows, keep_table
from xplore.benchmarks.suite import Options, spelt
from xplore.contracts.registry import make, make_agent, make_bonus, make_world_sampler
from xplore.contracts.types import PyTree
from xplore.loop.config import Config
from xplore.loop.evaluate import evaluate_result
from xplore.loop.train import train
from xplore.parts.levels import held_out_ids
from xplore.parts.quantiles import beliefs
from xplore.record.files import writable_folder

SEEDS: Final = 3
DISCOUNT: Final = 0.9
VALUE_ERROR, RETURN_ERROR, OPENED = 0.15, 0.1, 0.5
VALUES: Final = ("Probe-Constant-v0", "Probe-Observation-v0", "Probe-Discount-v0")
CHOICES: Final = ("Probe-Choice-v0", "Probe-ChoiceByObservation-v0")
LOCK: Final = "Probe-Exploration-v0"
_EPISODES: Final = 64


_NONE: Final[Options] = MappingProxyType({})


class Learner(NamedTuple):
    """How an agent is run on the probes.

    Attributes:
        options: of the agent on the first five; None: it is not run there.
        budget_steps, num_steps: of a run there, in 16 envs.
        exploring: options on the lock; None: it does not claim to explore.
        lock_steps, lock_num_steps: the budget on the lock, and steps of a rollout.
        bonus, bonus_options: on the lock.
    """

    options: Options | None
    budget_steps: int = 7_680
    num_steps: int = 4
    exploring: Options | None = None
    lock_steps: int = 65_536
    lock_num_steps: int = 16
    bonus: str = "none"
    bonus_options: Options = _NONE


_FAST: Final = {"learning_rate": 3e-3, "discount": DISCOUNT}
_POLICY: Final = {**_FAST, "entropy_coefficient": 0.0}
_REPLAY: Final = {
    **_FAST, "n_step": 1, "replay_size": 2_048, "batch_size": 64, "warmup_steps": 64,
    "updates_per_rollout": 8, "target_period": 8, "layer_norm": False,
}  # fmt: skip
_GREEDY: Final = {"epsilon_steps": 2_000}
_HEADS: Final = {"num_heads": 3, "num_quantiles": 4, "ucb_coefficient": 3.0}
_THOMPSON: Final = {
    "num_heads": 5, "num_quantiles": 4, "acting": "thompson", "ucb_coefficient": 1.0,
    "learning_rate": 3e-3, "discount": 0.99,
}  # fmt: skip
# With priors: more heads, a shorter horizon, and more targets, as what is not known at the end of a
# way comes back by a step with each. "of scale 0" tells what these settings are worth alone.
_PRIORS: Final = {"prior_scale": 1.0}
_FEW_STEPS: Final = {
    "num_heads": 10, "num_quantiles": 4, "ucb_coefficient": 10.0, "learning_rate": 3e-3,
    "discount": DISCOUNT, "trace": 0.3, "num_minibatches": 4, "anneal_steps": 65_536,
}  # fmt: skip
_DEEP: Final = {
    **_REPLAY, "num_heads": 10, "num_quantiles": 4, "ucb_coefficient": 3.0, "share_encoder": True,
    "updates_per_rollout": 16, "target_period": 4,
}  # fmt: skip
_ROLLOUTS: Final = {"learning_rate": 1e-2, "discount": DISCOUNT}
_DIAYN: Final = {
    "num_skills": 2, "extrinsic_coefficient": 1.0, "skill_coefficient": 0.0,
    "discriminator_steps": 1, "discriminator_fraction": 0.1,
}  # fmt: skip
_BOOT: Final = {**_FAST, "num_heads": 4, "batch_size": 32, "updates_per_rollout": 8}

# By the id of the agent, and what is else said of it.
LEARNERS: Final[dict[str, Learner]] = {
    "ppo": Learner(
        _POLICY, 25_600, 16, {}, 102_400, 128, bonus="count", bonus_options={"key": "position"}
    ),
    "ppo_rnn": Learner({**_POLICY, "num_minibatches": 4}, 25_600, 16),
    "rapid": Learner(
        {**_POLICY, "buffer_size": 256, "batch_size": 32, "imitation_steps": 4}, 25_600, 16
    ),
    "diayn": Learner({**_FAST, **_DIAYN}, 51_200, 16),
    "pqn": Learner({**_ROLLOUTS, **_GREEDY}, num_steps=16),
    "pqn_rnn": Learner({**_ROLLOUTS, **_GREEDY, "num_minibatches": 4}, 15_360, 16),
    "ede_pqn": Learner({**_ROLLOUTS, **_HEADS}, num_steps=16, exploring=_THOMPSON),
    "ede_pqn with priors": Learner(
        {**_ROLLOUTS, **_HEADS, **_PRIORS},
        num_steps=16,
        exploring={**_FEW_STEPS, **_PRIORS},
        lock_num_steps=8,
    ),
    "ede_pqn with priors of scale 0": Learner(None, exploring=_FEW_STEPS, lock_num_steps=8),
    "dqn": Learner({**_REPLAY, **_GREEDY}),
    "qr_dqn": Learner({**_REPLAY, **_GREEDY, "num_quantiles": 8}),
    "ede": Learner({**_REPLAY, **_HEADS}, exploring={**_REPLAY, **_THOMPSON}),
    "ede with priors": Learner({**_REPLAY, **_HEADS, **_PRIORS}, exploring={**_DEEP, **_PRIORS}),
    "ede with priors of scale 0": Learner(None, exploring=_DEEP),
    "boot_dqn": Learner(
        _BOOT,
        exploring={"num_heads": 10, "updates_per_rollout": 16, "prior_scale": 1.0},
        lock_steps=98_304,
    ),
    "plan2explore": Learner({**_FAST, "updates_per_rollout": 16}, exploring={}),
    "alphazero": Learner(_FAST, exploring={"novelty_bonus": 1.0}),
    "muzero": Learner(
        {**_FAST, "replay_size": 512, "unroll_steps": 2}, exploring={"novelty_bonus": 1.0}
    ),
}


def id_of(agent: str) -> str:
    """The id of what is listed as `agent`."""
    return agent.partition(" ")[0]


def config_of(agent: str, probe: str) -> Config:
    """The run of an agent on a probe.

    Raises:
        KeyError: no such learner.
    """
    how = LEARNERS[agent]
    is_lock = probe == LOCK
    num_steps = how.lock_num_steps if is_lock else how.num_steps
    budget = how.lock_steps if is_lock else how.budget_steps
    return Config(
        env=make(probe),
        agent=make_agent(id_of(agent), **_options(agent, probe)),
        bonus=make_bonus(
            how.bonus if is_lock else "none", **(how.bonus_options if is_lock else {})
        ),
        worlds=make_world_sampler("fresh"),
        budget_steps=budget,
        num_envs=16,
        num_steps=num_steps,
    )


Read = Callable[[Any, Any, jax.Array], jax.Array]


def _policy(agent: Any, state: PyTree, obs: jax.Array) -> jax.Array:
    found: jax.Array = state.network.apply(state.params, obs, method="value")[:, 0]
    return found


def _by_memory(agent: Any, state: PyTree, obs: jax.Array) -> Any:
    """What a recurrent network says at the start of episodes `[S]`."""
    carry, first = agent.initial_carry(len(obs)), jnp.ones(len(obs), bool)
    last = carry.last.action if hasattr(carry, "last") else carry.action
    told = agent._told(state.network, last, carry.reward, first)
    return state.network.apply(state.params, obs[None], told[None], first[None], carry.memory)


def _best(values: jax.Array) -> jax.Array:
    return jnp.max(values, axis=-1)


def _boot(agent: Any, state: PyTree, obs: jax.Array) -> jax.Array:
    learned = of_heads(state.network, state.learned.params, obs)
    return jnp.mean(_best(learned + agent._prior(state, obs)), axis=0)


# The values `[S]` that an agent gives to observations `[S, 1]`. That of diayn sees a skill too.
READERS: Final[dict[str, Read]] = {
    "ppo": _policy,
    "ppo_rnn": lambda a, s, o: _by_memory(a, s, o).value[0, :, 0],
    "rapid": lambda a, s, o: _policy(a, s.learner, o),
    "pqn": lambda a, s, o: _best(s.network.apply(s.params, o)),
    "pqn_rnn": lambda a, s, o: _best(_by_memory(a, s, o)[0][0]),
    "ede_pqn": lambda a, s, o: _best(beliefs(a._quantiles(s, o)).mean),
    "dqn": lambda a, s, o: _best(s.network.apply(s.learned.params, o)),
    "qr_dqn": lambda a, s, o: _best(jnp.mean(s.network.apply(s.learned.params, o), axis=-1)),
    "ede": lambda a, s, o: _best(beliefs(a._quantiles(s, s.learned.params, o)).mean),
    "boot_dqn": _boot,
    "plan2explore": lambda a, s, o: _best(
        a._values(s.num_actions, s.minds.values.params, o)[..., 1]
    ),
    "alphazero": lambda a, s, o: foresee_obs(s.network, s.learned.params, o).value[:, 0],
    "muzero": lambda a, s, o: foresee_obs(s.network, s.learned.params, o).value[:, 0],
}


def run(agent: str, probe: str) -> list[dict[str, Any]]:
    """A row for each seed."""
    config = config_of(agent, probe)
    result = train(config, seeds=SEEDS)
    env: Any = config.env
    errors = np.full(SEEDS, np.nan)
    reader = READERS.get(id_of(agent))
    if reader is not None and probe != LOCK:
        obs = jnp.asarray(env.observations())
        known = env.values(DISCOUNT)
        # Of an episode's start: what comes later depends on the past.
        if id_of(agent).endswith("_rnn"):
            starts = slice(1 if probe == "Probe-Discount-v0" else len(obs))
            obs, known = obs[starts], known[starts]
        read = jax.jit(jax.vmap(lambda s: reader(config.agent, s, obs)))
        errors = np.abs(np.asarray(read(result.state.agent)) - known).max(axis=1)
    earned = np.full(SEEDS, np.nan)
    if probe not in VALUES:
        found = evaluate_result(result, held_out_ids(0, _EPISODES), greedy=True)
        values = found.success if probe == LOCK else found.returns
        earned = np.asarray(values, np.float64).mean(axis=(1, 2))
    if probe == LOCK:  # some act greedily by the task alone, some by a head that explores
        success = result.metrics["episode/success"]
        trained = np.nanmean(success[:, -max(1, success.shape[1] // 10) :], axis=1)
        earned = np.maximum(earned, trained)
    return [
        {
            "agent": agent,
            "probe": probe,
            "seed": seed,
            "value_error": float(errors[seed]),
            "earned": float(earned[seed]),
            "budget_steps": config.budget_steps,
            "method": spelt(id_of(agent), _options(agent, probe)),
            "fingerprint": fingerprint_of(config),
        }
        for seed in range(SEEDS)
    ]


def _options(agent: str, probe: str) -> Options:
    how = LEARNERS[agent]
    return (how.exploring if probe == LOCK else how.options) or {}


def passed(row: pd.Series) -> bool:
    """Whether a run did what its probe asks for."""
    if row["probe"] == LOCK:
        return bool(row["earned"] > OPENED)
    env: Any = make(row["probe"])
    is_known = math.isnan(row["value_error"]) or row["value_error"] < VALUE_ERROR
    is_earned = math.isnan(row["earned"]) or row["earned"] > env.optimal_return - RETURN_ERROR
    return is_known and is_earned


def report(rows: pd.DataFrame) -> str:
    """The markdown: of each cell how many seeds passed, and the largest error or least success."""
    names = [p.removeprefix("Probe-").removesuffix("-v0") for p in (*VALUES, *CHOICES, LOCK)]
    lines = [f"| agent | {' | '.join(names)} |", "|---" * 7 + "|"]
    for agent in LEARNERS:
        cells = []
        for probe in (*VALUES, *CHOICES, LOCK):
            mine = rows[(rows["agent"] == agent) & (rows["probe"] == probe)]
            if mine.empty:
                cells.append("")
                continue
            told = []
            if mine["value_error"].notna().all():
                told.append(f"±{mine['value_error'].max():.2f}")
            if mine["earned"].notna().all():
                told.append(f"{mine['earned'].min():.2f}")
            won = sum(passed(row) for _, row in mine.iterrows())
            cells.append(f"{won}/{len(mine)} ({', '.join(told)})" if told else "")
        name = agent.replace(id_of(agent), f"`{id_of(agent)}`", 1)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Seeds that passed, and of the worst of them: ± how far a learned value is from the known"
        f" one (up to {VALUE_ERROR} passes; the discount is {DISCOUNT}), then what the greedy agent"
        f" earns (from {1 - RETURN_ERROR} of 1 on), or how often it opens the lock, at the end of"
        f" its training or greedily (above {OPENED}; chance opens it once in a million episodes)."
        " The lock is for those that explore by themselves, and for `ppo` with the bonus `count`."
        " `diayn` is told of the reward here, and its values, which see a skill, are not read.",
    ]
    return "\n".join(lines) + "\n"


def main(
    folder: tyro.conf.Positional[Path],
    /,
    agents: Sequence[str] = tuple(LEARNERS),
    probes: Sequence[str] = (*VALUES, *CHOICES, LOCK),
    report_only: bool = False,
) -> None:
    """Runs what is missing in `folder`, and writes `rows.parquet` and `table.md`.

    Args:
        folder: where.
        agents: run only these.
        probes: run only these.
        report_only: run nothing.
    """
    writable_folder(folder)
    path = folder / "rows.parquet"
    rows = pd.read_parquet(path) if path.exists() else pd.DataFrame({"fingerprint": []})
    cells = [(a, p) for a in agents for p in probes if is_run(a, p)]
    for agent, probe in () if report_only else cells:
        if (rows["fingerprint"] == fingerprint_of(config_of(agent, probe))).any():
            continue
        made = pd.DataFrame(run(agent, probe))
        if len(rows):  # those of the same cell with other settings make room
            old = rows[(rows["agent"] != agent) | (rows["probe"] != probe)]
            rows = pd.concat([old, made], ignore_index=True)
        else:
            rows = made
        print(
            agent, probe, made[["value_error", "earned"]].to_numpy().round(3).tolist(), flush=True
        )
        keep_rows(folder, rows)
    keep_table(folder, report(rows))


def is_run(agent: str, probe: str) -> bool:
    """Whether an agent is run on a probe."""
    how = LEARNERS[agent]
    return (how.exploring if probe == LOCK else how.options) is not None


if __name__ == "__main__":
    tyro.cli(main)
