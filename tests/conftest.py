"""Test configuration: must run before jax is imported."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Compilation is most of a test's time; what was compiled once is kept between runs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402 - the settings above are read at import
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 20_000  # Linux allows a process 65,530; every compiled program takes some


@pytest.fixture(autouse=True)
def _forget_programs() -> Iterator[None]:
    """Frees the compiled programs of earlier tests before the process has too many of them."""
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()
