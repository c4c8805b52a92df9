"""PQN's published curve of MinAtar's Breakout, run again by its authors' own code.

Of this project it needs nothing. The code is that of `purejaxql` (Gallici et al., 2025, under the
Apache licence), which is not changed and asks for older packages than ours, so for an environment
of its own:

    git clone https://github.com/mttga/purejaxql
    python3.11 -m venv pqn-venv && pqn-venv/bin/pip install 'jax==0.4.25' 'jaxlib==0.4.25' \
        'flax==0.8.1' 'chex==0.1.85' 'optax==0.1.9' 'gymnax==0.0.6' 'numpy<2' 'scipy<=1.12' six \
        hydra-core omegaconf
    pqn-venv/bin/python benchmarks/pqn_authors.py purejaxql pqn.npz
    python -m xplore.benchmarks.learners results/learners --authors pqn.npz

Settings are those of its file for MinAtar. What is kept: of every update and seed the env steps,
the mean of the last returns of all environments (epsilon-greedy, in training), and the mean return
of the greedy agent over the episodes that 128 environments end in the 1,000 steps of a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np

_KEPT = ("env_step", "returned_episode_returns", "test_returned_episode_returns")


def main() -> None:
    """Runs the seeds in turn; after each the file holds all so far, and a later call goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clone", type=Path, help="a clone of purejaxql")
    parser.add_argument("out", type=Path, help="the file of the curves, .npz")
    parser.add_argument("--env", default="Breakout-MinAtar")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=float, default=1e7, help="env steps")
    args = parser.parse_args()

    # Imported by the file, used only where its log is sent.
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    path = args.clone / "purejaxql" / "pqn_minatar.py"
    found = importlib.util.spec_from_file_location("pqn_minatar", path)
    assert found is not None
    module = importlib.util.module_from_spec(found)
    assert found.loader is not None
    found.loader.exec_module(module)

    settings = module.OmegaConf.load(
        args.clone / "purejaxql" / "config" / "alg" / "pqn_minatar.yaml"
    )
    config = dict(module.OmegaConf.to_container(settings))
    config.update(ENV_NAME=args.env, WANDB_MODE="disabled", TOTAL_TIMESTEPS=int(args.steps))
    config["TEST_INTERVAL"] = 0.25  # of the run: tests take no part in training
    config["TOTAL_TIMESTEPS_DECAY"] = int(config["TOTAL_TIMESTEPS_DECAY"])
    began = time.time()
    train = jax.jit(module.make_train(config))
    made = _made(args.out)
    # In turn, as CPUs like it best.
    for key in jax.random.split(jax.random.PRNGKey(0), args.seeds)[len(made) :]:
        metrics = jax.tree_util.tree_map(np.asarray, train(key)["metrics"])
        made.append([metrics[name] for name in _KEPT])
        env_steps, returns, greedy = (np.stack(values) for values in zip(*made, strict=True))
        np.savez(args.out, env_steps=env_steps[0], returns=returns, greedy=greedy, env=args.env)
        print(f"{time.time() - began:.0f} s: greedy at the end {greedy[-1, -1]:.2f}", flush=True)


def _made(path: Path) -> list[list[np.ndarray]]:
    """What was kept of the seeds that were run before."""
    if not path.is_file():
        return []
    with np.load(path) as kept:
        both = zip(kept["returns"], kept["greedy"], strict=True)
        return [[kept["env_steps"], *values] for values in both]


if __name__ == "__main__":
    main()
