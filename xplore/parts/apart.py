"""Stages of a computation that XLA is to compile apart from each other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import jax
from jax.experimental.xla_metadata import set_xla_metadata

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def apart(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """`function`, on CPU compiled without being fused with what is before or after it.

    Fused, a value of one env that all its cells depend on is computed again for each of them:
    XLA counts operations, not how often they run, and drops `jax.lax.optimization_barrier` before
    it fuses on CPU. A call with this mark it leaves alone; a compiler that does not know the mark
    gives the same numbers, and on other devices there is none.

    Args:
        function: of arrays alone; to be wrapped once, since each wrapper is traced by itself.
    """
    compiled = jax.jit(function)

    @functools.wraps(function)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        if jax.default_backend() != "cpu":
            return function(*args, **kwargs)
        # On the result, it marks the call alone; as a context, all calls within it too.
        return cast(_Result, set_xla_metadata(compiled(*args, **kwargs), inlineable="false"))

    return call
