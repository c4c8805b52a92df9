"""Floating-point operations of a JAX program, counted from its jaxpr.

XLA's own count takes the body of a loop once, whatever its length, and is missing or wrong on some
backends; a jaxpr says how long every `scan` is, and reading it needs no compilation and no device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import partial_eval

from xplore.contracts.errors import ConfigError

# Primitives that move, compare or pick data without computing a float; gathers, sorts and sampled
# bits among them.
_FREE = frozenset((
    "approx_top_k", "bitcast_convert_type", "broadcast_in_dim", "concatenate",
    "convert_element_type", "copy", "copy_p", "device_put", "dynamic_slice",
    "dynamic_update_slice", "expand_dims", "gather", "imag", "iota", "optimization_barrier",
    "pad", "random_unwrap", "random_wrap", "real", "reduce_precision", "reshape", "rev",
    "scatter", "select_n", "sharding_constraint", "slice", "sort", "split", "squeeze",
    "stop_gradient", "top_k", "transpose",
))  # fmt: skip
# One operation per element that goes in, not per element that comes out.
_PER_INPUT = frozenset((
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce",
    "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum",
    "reduce_xor",
))  # fmt: skip


def count_flops(fn: Callable[..., Any], *args: Any, while_trips: float | None = 1.0) -> float:
    """Counts the floating-point operations of `fn(*args)`, without compiling or running it.

    A product of matrices costs 2 M N K (batched over what is batched), a convolution 2 per output
    element and weight that reaches it, an elementwise function of floats 1 per element
    (transcendental ones too), a reduction 1 per element that it reads. Integer arithmetic, moving,
    gathering, sorting and random bits cost 0. A `scan` counts its body `length` times, a `cond` its
    dearest branch (all of them once `vmap` has turned it into a select, as they are then all run).
    Code whose result is not used costs nothing.

    Args:
        fn: a function of arrays; `jit`, `vmap` and `grad` may be inside or outside.
        args: arrays or `jax.ShapeDtypeStruct`s, in pytrees.
        while_trips: how often the body of a while loop is counted that does not tell how long it
            is (loops over a counter with constant bounds do). None refuses such loops.

    Returns:
        The number of operations, exact for what the rules above cover.

    Raises:
        ConfigError: `while_trips` is None and a loop does not tell how long it is.

    >>> x, w = jax.ShapeDtypeStruct((8, 3), "float32"), jax.ShapeDtypeStruct((3, 5), "float32")
    >>> count_flops(jnp.dot, x, w)
    240.0
    """
    return _count(trace(fn, *args), while_trips)


def trace(fn: Callable[..., Any], *args: Any) -> core.Jaxpr:
    """The jaxpr of `fn(*args)` without the code whose results are not used."""
    jaxpr = open_jaxpr(jax.make_jaxpr(fn)(*args))
    # All inputs are kept, so that they stay in step with the leaves of `args`.
    live: core.Jaxpr = partial_eval.dce_jaxpr(jaxpr, True, True)[0]
    return live


def open_jaxpr(jaxpr: Any) -> core.Jaxpr:
    """The jaxpr inside a closed one; an open one as it is."""
    found: core.Jaxpr = jaxpr.jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else jaxpr
    return found


def sub_jaxprs(eqn: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The jaxprs an equation calls; of a linear solve only the solve, its transpose is not run."""
    if eqn.primitive.name == "custom_linear_solve":
        yield open_jaxpr(eqn.params["jaxprs"].solve)
        return
    for value in eqn.params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, (core.Jaxpr, core.ClosedJaxpr)):
                yield open_jaxpr(part)


def _count(jaxpr: core.Jaxpr, while_trips: float | None) -> float:
    # The same inner jaxpr is met many times (every use of a jitted helper): each is counted once.
    @functools.cache
    def inside(jaxpr: core.Jaxpr) -> float:
        return float(sum(equation(eqn) for eqn in jaxpr.eqns))

    def equation(eqn: core.JaxprEqn) -> float:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan":
            return float(params["length"]) * inside(open_jaxpr(params["jaxpr"]))
        if name == "cond":
            return max(inside(open_jaxpr(branch)) for branch in params["branches"])
        if name == "while":
            once = sum(inside(open_jaxpr(params[p])) for p in ("cond_jaxpr", "body_jaxpr"))
            return once * _trips(eqn, while_trips) if once else 0.0
        if name in _PER_INPUT or name.startswith(("reduce_window", "scatter")):
            return _leaf(eqn)  # their inner jaxprs say how two elements combine
        called = list(sub_jaxprs(eqn))
        return sum(inside(sub) for sub in called) if called else _leaf(eqn)

    return inside(jaxpr)


def _trips(eqn: core.JaxprEqn, while_trips: float | None) -> float:
    found = _constant_trips(eqn)
    if found is not None:
        return float(found)
    if while_trips is None:
        raise ConfigError(
            "a while loop's number of iterations depends on its data, so its operations cannot be"
            " counted: give while_trips, how often to count its body"
        )
    return while_trips


def _constant_trips(eqn: core.JaxprEqn) -> int | None:
    """Iterations of `while counter < bound: counter += step`; None where they are not constant."""
    cond, body = open_jaxpr(eqn.params["cond_jaxpr"]), open_jaxpr(eqn.params["body_jaxpr"])
    num_cond, num_body = (len(part.invars) - len(eqn.outvars) for part in (cond, body))
    starts = eqn.invars[num_cond + num_body :]
    outer = [*eqn.invars[:num_cond], *starts]
    if len(cond.eqns) != 1 or cond.eqns[0].primitive.name not in ("lt", "le"):
        return None
    test = cond.eqns[0]
    counter, bound = test.invars
    if test.outvars[0] is not cond.outvars[0] or counter not in cond.invars[num_cond:]:
        return None
    place = cond.invars.index(counter) - num_cond
    stop = _literal(bound)
    if stop is None and bound in cond.invars:
        index = cond.invars.index(bound)
        carried = index - num_cond
        # A bound that is carried along is constant only where the body hands it on as it is.
        if carried < 0 or body.outvars[carried] is body.invars[num_body + carried]:
            stop = _literal(outer[index])
    start = _literal(starts[place])
    step = _increment(body, body.invars[num_body + place], body.outvars[place])
    if start is None or stop is None or not step or step < 0:
        return None
    return max(0, -(-(stop - start + (test.primitive.name == "le")) // step))


def _increment(body: core.Jaxpr, before: core.Var, after: Any) -> int | None:
    for eqn in body.eqns:
        if eqn.outvars[0] is after and eqn.primitive.name == "add":
            if eqn.invars[0] is before:
                return _literal(eqn.invars[1])
            if eqn.invars[1] is before:
                return _literal(eqn.invars[0])
    return None


def _literal(atom: Any) -> int | None:
    if isinstance(atom, core.Literal) and _shape(atom) == () and not _is_float(atom):
        return int(atom.val)
    return None


def _leaf(eqn: core.JaxprEqn) -> float:
    """Operations of an equation that calls nothing."""
    name = eqn.primitive.name
    if name in _FREE or not any(_is_float(v) for v in (*eqn.invars, *eqn.outvars)):
        return 0.0
    if name in _RULES:
        return float(_RULES[name](eqn))
    if name.startswith("scatter"):  # one that combines; its last operand is the updates
        return float(_size(eqn.invars[-1]))
    if name in _PER_INPUT:
        return float(sum(_size(v) for v in eqn.invars if _is_float(v)))
    if name.startswith("reduce_window") or name == "select_and_gather_add":
        return float(_size(eqn.outvars[0]) * math.prod(eqn.params["window_dimensions"]))
    return float(max(_size(v) for v in eqn.outvars))


def _dot_general(eqn: core.JaxprEqn) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    return 2 * _size(eqn.outvars[0]) * math.prod(_shape(eqn.invars[0])[int(d)] for d in contracted)


def _convolution(eqn: core.JaxprEqn) -> float:
    weights = _shape(eqn.invars[1])
    out_channels = weights[eqn.params["dimension_numbers"].rhs_spec[0]]
    per_output = math.prod(weights) // out_channels
    # Zeros put between the inputs (the gradient of a stride) take part in nothing.
    spread: int = math.prod(eqn.params["lhs_dilation"] or ())
    return float(2 * _size(eqn.outvars[0]) * per_output / spread)


def _integer_pow(eqn: core.JaxprEqn) -> int:
    power: int = abs(eqn.params["y"])
    products = max(power.bit_length() + power.bit_count() - 2, 0)  # square and multiply
    return (products + int(eqn.params["y"] < 0)) * _size(eqn.outvars[0])


def _square_matrix(factor: float) -> Callable[[core.JaxprEqn], float]:
    """`factor * n^3` per matrix of a decomposition."""

    def rule(eqn: core.JaxprEqn) -> float:
        *batch, rows, columns = _shape(eqn.invars[0])
        return factor * math.prod(batch) * rows * columns * min(rows, columns)

    return rule


def _triangular_solve(eqn: core.JaxprEqn) -> int:
    return _size(eqn.invars[1]) * _shape(eqn.invars[0])[-1]


def _fft(eqn: core.JaxprEqn) -> float:
    length: int = math.prod(eqn.params["fft_lengths"])
    transforms = max(_size(eqn.invars[0]), _size(eqn.outvars[0])) / max(length, 1)
    return 5.0 * transforms * length * math.log2(max(length, 2))


_RULES: dict[str, Callable[[core.JaxprEqn], float]] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "integer_pow": _integer_pow,
    "cholesky": _square_matrix(1 / 3),
    "lu": _square_matrix(2 / 3),
    "geqrf": _square_matrix(4 / 3),
    "qr": _square_matrix(4 / 3),
    "householder_product": _square_matrix(4 / 3),
    "eigh": _square_matrix(9.0),
    "eig": _square_matrix(25.0),
    "svd": _square_matrix(20.0),
    "triangular_solve": _triangular_solve,
    "fft": _fft,
}


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _size(atom: Any) -> int:
    return math.prod(_shape(atom))


def _is_float(atom: Any) -> bool:
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact))
