"""Where a run comes from: code, packages and machine, without any path or host name."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def environment() -> dict[str, Any]:
    """Returns what a result depends on besides its config, as JSON data; never fails.

    Keys: `git` (`commit` and `dirty`, both None outside a checkout), `packages` (versions, None for
    one that is absent), `python`, `device`, `utc` (the time of the call).
    """
    return {
        "git": git_state(Path(__file__).resolve().parent),
        "packages": package_versions(),
        "python": platform.python_version(),
        "device": device(),
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def package_versions() -> dict[str, str | None]:
    """Versions of xplore and of the packages that can change a number."""
    versions = {name: _version(name) for name in PACKAGES}
    # Asked of the module: an uninstalled checkout has no metadata.
    top = sys.modules.get(__name__.partition(".")[0])
    versions["xplore"] = getattr(top, "__version__", None)
    return versions


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> dict[str, Any]:
    """The commit that holds the code in `folder`, and whether its sources differ from it.

    Both are None when the code is not tracked: a package installed into an environment that lies
    inside someone's checkout must not pass for that checkout.
    """
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    if not _git(folder, "ls-files", "--", "*.py"):
        return unknown
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    sources = [":(top)*.py", ":(top)*.toml"]  # not the results, to which every run adds
    changes = _git(folder, "status", "--porcelain", "--", *sources)
    if not commit or changes is None:
        return unknown
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    # Variables such as GIT_DIR, set inside a hook, would point at another repository.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device() -> dict[str, Any]:
    """The kind of the first JAX device, how many there are, and the processor they hang on."""
    found: dict[str, Any] = {"platform": None, "kind": None, "count": None}
    try:
        # By name: reading rows must not need JAX, only writing them after a run does.
        devices = importlib.import_module("jax").devices()
        found = {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
        }
    except Exception:  # a backend that cannot start must not lose a finished run
        pass
    return found | {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or None


def jsonable(data: Any) -> Any:
    """Turns numpy values and tuples into JSON data; a number that is not finite becomes None.

    >>> jsonable({"seconds": np.float32(0.5), "seeds": (0, 1), "flops": float("nan")})
    {'seconds': 0.5, 'seeds': [0, 1], 'flops': None}
    """
    if isinstance(data, Mapping):
        return {str(k): jsonable(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [jsonable(v) for v in data]
    if isinstance(data, (np.ndarray, np.generic)):
        return jsonable(data.tolist())
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
