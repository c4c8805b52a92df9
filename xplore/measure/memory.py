"""How much memory a JAX program will need, told before it is compiled, and how much there is.

The estimate reads the jaxpr: it walks the equations in order, keeps what is still to be used, and
takes the largest sum. XLA does much the same after fusing elementwise chains, which the walk
imitates: what one cheap operation makes and one cheap operation takes is never stored.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import psutil
from jax.extend import core

from xplore.measure.flops import open_jaxpr, sub_jaxprs, trace

# The same bytes under another shape.
_VIEWS = frozenset((
    "reshape", "squeeze", "expand_dims", "stop_gradient", "copy_p", "device_put",
    "optimization_barrier", "random_wrap", "random_unwrap", "sharding_constraint",
))  # fmt: skip
# Computed again wherever they are needed rather than stored.
_CHEAP = frozenset(("broadcast_in_dim", "iota"))
# Fused with what takes their result, if that is one operation which can be fused too.
_FUSED = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bitcast_convert_type", "cbrt", "ceil", "clamp", "clz", "convert_element_type", "cos", "cosh",
    "digamma", "div", "dynamic_slice", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1",
    "floor", "ge", "gt", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic",
    "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pad", "population_count",
    "pow", "rem", "rev", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "slice", "sqrt", "square", "sub", "tan", "tanh",
    "xor",
))  # fmt: skip
# Those of them that cannot write over what they read.
_MOVES = frozenset(("dynamic_slice", "pad", "rev", "slice"))
# Take what is fused, but store their result.
_SINKS = frozenset((
    "argmax", "argmin", "concatenate", "dynamic_update_slice", "gather", "reduce_and",
    "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "reduce_xor",
))  # fmt: skip
# Bytes that are needed for a byte of the result: random bits are made of pairs of counters.
_SCRATCH = {
    "random_bits": 4, "cumsum": 2, "cumprod": 2, "cummax": 2, "cummin": 2, "cumlogsumexp": 2,
}  # fmt: skip
# For what the walk does not see: alignment, copies into another layout, scratch of libraries.
_MARGIN = 1.3
_CALLS = frozenset((
    "call", "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "jit", "pjit", "remat", "remat2",
))  # fmt: skip


def estimate_bytes(fn: Callable[..., Any], *args: Any, donated: bool = False) -> int:
    """Estimates the most bytes alive at once while `fn(*args)` runs as one compiled program.

    Counts arguments, results and what is stored in between; a loop counts its body once, plus
    what it stacks. Meant to be above the compiled program's own figure, by less than twice.

    Args:
        fn: a function of arrays.
        args: arrays or `jax.ShapeDtypeStruct`s, in pytrees; nothing is computed.
        donated: the arguments' buffers may be written over, as with `donate_argnums`.
    """
    program = _flatten(trace(fn, *args))
    given = sum(program.sizes[v] for v in (*program.inputs, *program.consts))
    if not donated:
        return given + math.ceil(_MARGIN * _peak(program, [False] * len(program.inputs)))
    inputs = sum(program.sizes[v] for v in program.inputs)
    beyond = _peak(program, [True] * len(program.inputs)) - inputs
    return given + math.ceil(_MARGIN * max(0, beyond))


def available_bytes() -> int:
    """Bytes a program may still take: of the accelerator, or of the host within its cgroup."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return min([psutil.virtual_memory().available, *_cgroup_headrooms()])


def largest_that_fits(
    bytes_at: Callable[[int], int], limit: int, candidates: Sequence[int]
) -> int | None:
    """The largest of `candidates` that needs at most `limit` bytes; None if none does.

    Need is taken to grow with the candidate, about linearly: each look interpolates between what
    is known, so that a few evaluations are enough for a long `range`.

    Args:
        bytes_at: the need of a candidate, for instance a number of envs.
        limit: bytes.
        candidates: in ascending order.

    >>> largest_that_fits(lambda n: 100 + 7 * n, 1000, range(1, 1_000_000))
    128
    """
    if not candidates or (low_need := bytes_at(candidates[0])) > limit:
        return None
    low, high = 0, len(candidates) - 1
    if (high_need := bytes_at(candidates[high])) <= limit:
        return candidates[high]
    halve = False
    while high - low > 1:
        middle = (low + high) // 2
        if not halve and high_need > low_need:
            share = (limit - low_need) / (high_need - low_need)
            target = candidates[low] + share * (candidates[high] - candidates[low])
            middle = bisect.bisect_right(candidates, target, low + 1, high) - 1
            middle = min(max(middle, low + 1), high - 1)
        need = bytes_at(candidates[middle])
        if need <= limit:
            low, low_need = middle, need
        else:
            high, high_need = middle, need
        # Every other look halves what is left, should the need be far from linear.
        halve = not halve
    return candidates[low]


def _cgroup_headrooms() -> list[int]:
    """What is left under the memory limits of this process's cgroup and of those it lies in."""
    found = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = Path("/sys/fs/cgroup") / controllers
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        folder = root / path.lstrip("/")
        # Inside a container the path may be the host's, of which only the root is mounted here.
        for group in [folder, *folder.parents][: len(folder.parts) - len(root.parts) + 1]:
            found += _headroom(group, *names)
    return found


def _headroom(group: Path, limit_file: str, usage_file: str, reclaimable: str) -> list[int]:
    limit, usage = _read(group / limit_file), _read(group / usage_file)
    if not (limit.isdigit() and usage.isdigit()):
        return []  # "max", or no such file
    stat = dict(line.split()[:2] for line in _read(group / "memory.stat").splitlines())
    # Cached files are given up when a program asks for their memory.
    return [max(0, int(limit) - int(usage) + int(stat.get(reclaimable, "0")))]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclasses.dataclass
class _Op:
    """One equation over numbered values; None stands for a literal."""

    eqn: core.JaxprEqn
    ins: list[int | None]
    outs: list[int]


@dataclasses.dataclass
class _Program:
    """A jaxpr with its calls inlined, as XLA will inline them."""

    ops: list[_Op] = dataclasses.field(default_factory=list)
    sizes: list[int] = dataclasses.field(default_factory=list)
    inputs: list[int] = dataclasses.field(default_factory=list)
    consts: list[int] = dataclasses.field(default_factory=list)
    outs: list[int | None] = dataclasses.field(default_factory=list)

    def new(self, atom: Any) -> int:
        self.sizes.append(_bytes(atom))
        return len(self.sizes) - 1


def _bytes(atom: Any) -> int:
    dtype = getattr(atom.aval, "dtype", None)
    return 0 if dtype is None else math.prod(atom.aval.shape) * int(dtype.itemsize)


def _ndim(atom: Any) -> int:
    return len(getattr(atom.aval, "shape", ()))


def _flatten(jaxpr: core.Jaxpr) -> _Program:
    program = _Program()
    program.inputs = [program.new(v) for v in jaxpr.invars]
    program.consts = [program.new(v) for v in jaxpr.constvars]
    program.outs = _inline(program, jaxpr, list(program.inputs), list(program.consts))
    return program


def _inline(
    program: _Program, jaxpr: core.Jaxpr, ins: list[int | None], consts: list[int]
) -> list[int | None]:
    """Adds the equations of `jaxpr`, called on the values `ins`; returns its results."""
    known: dict[Any, int | None] = dict(zip(jaxpr.invars, ins, strict=True))
    known.update(zip(jaxpr.constvars, consts, strict=True))

    def value(atom: Any) -> int | None:
        return None if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        given = [value(v) for v in eqn.invars]
        called = list(sub_jaxprs(eqn)) if eqn.primitive.name in _CALLS else []
        if len(called) == 1 and len(called[0].invars) == len(given):
            inner_consts = [program.new(v) for v in called[0].constvars]
            program.consts += inner_consts
            results = _inline(program, called[0], given, inner_consts)
            known.update(zip(eqn.outvars, results, strict=True))
            continue
        outs = [program.new(v) for v in eqn.outvars]
        known.update(zip(eqn.outvars, outs, strict=True))
        program.ops.append(_Op(eqn, given, outs))
    return [value(v) for v in jaxpr.outvars]


def _roots(program: _Program) -> list[frozenset[int]]:
    """For every value the stored values it is made of: itself, or what it is fused from."""
    # Uses of a value, through views of it: how many, and whether all of them can be fused.
    uses = [(0, True) for _ in program.sizes]

    def used(value: int | None, count: int, fusible: bool) -> None:
        if value is not None:
            uses[value] = (uses[value][0] + count, uses[value][1] and fusible)

    for value in program.outs:
        used(value, 1, False)
    for op in reversed(program.ops):
        name = op.eqn.primitive.name
        for value in op.ins:
            if name in _VIEWS or name in _CHEAP:
                used(value, *uses[op.outs[0]])
            else:
                used(value, 1, name in _FUSED or name in _SINKS)

    roots = [frozenset((v,)) for v in range(len(program.sizes))]
    for op in program.ops:
        name = op.eqn.primitive.name
        for value in op.outs:
            count, fusible = uses[value]
            cheap = name in _CHEAP and fusible
            if name in _VIEWS or cheap or (name in _FUSED and fusible and count == 1):
                made_of = [roots[v] for v in op.ins if v is not None]
                roots[value] = frozenset().union(*made_of)
    return roots


def _peak(program: _Program, owned: Sequence[bool]) -> int:
    """Most bytes alive at once: of owned inputs, of what is stored in between, and of results.

    An owned input is the program's to free or overwrite after its last use; others are not.
    """
    roots = _roots(program)
    sizes = list(program.sizes)
    for value in program.consts:
        sizes[value] = 0
    for value, own in zip(program.inputs, owned, strict=True):
        sizes[value] = sizes[value] if own else 0
    last = {r: at for at, op in enumerate(program.ops) for r in _made_of(op.ins, roots)}
    last |= dict.fromkeys(_made_of(program.outs, roots), len(program.ops))
    dying: dict[int, list[int]] = {}
    for root, at in last.items():
        dying.setdefault(at, []).append(root)

    live = peak = sum(sizes[v] for v in program.inputs if v in last)
    for at, op in enumerate(program.ops):
        freed = dying.get(at, [])
        new = [v for v in op.outs if roots[v] == {v}]
        made = sum(sizes[v] for v in new)
        peak = max(peak, live + _extra(op, made, {r: sizes[r] for r in freed}, roots))
        kept = sum(sizes[v] for v in new if v in last)
        live += kept - sum(sizes[r] for r in freed)
        peak = max(peak, live)
    # A result that is an argument handed through is copied.
    through = [v for v in program.outs if v is not None and not any(sizes[r] for r in roots[v])]
    return peak + sum(program.sizes[v] for v in through)


def _made_of(values: Sequence[int | None], roots: list[frozenset[int]]) -> set[int]:
    return {root for v in values if v is not None for root in roots[v]}


def _extra(op: _Op, made: int, freed: dict[int, int], roots: list[frozenset[int]]) -> int:
    """Bytes needed while `op` runs, beyond what was alive before it; `made` is what it stores.

    `freed` are the values that nobody needs after it, with their sizes.
    """
    name = op.eqn.primitive.name

    def released(values: Sequence[int | None]) -> int:
        return sum(freed.get(root, 0) for root in _made_of(values, roots))

    if name in ("scan", "while"):
        need, carried = (_scan if name == "scan" else _while)(op)
        return need - released(carried)
    if name.startswith(("scatter", "dynamic_update_slice")):  # written in place where possible
        return max(0, made - released(op.ins[:1]))
    if name == "sort" or (name in _FUSED and name not in _MOVES):
        return max(0, made - released(op.ins))
    called = [_flatten(sub) for sub in sub_jaxprs(op.eqn)]
    inside = [_peak(sub, [False] * len(sub.inputs)) for sub in called]
    if name == "cond":
        return max(inside)
    if name == "conv_general_dilated":  # works on copies of another layout
        return made + sum(_bytes(v) for v in op.eqn.invars)
    return _SCRATCH.get(name, 1) * made + max(inside, default=0)


def _scan(op: _Op) -> tuple[int, list[int | None]]:
    """What the loop needs with its stacks and its carry, and which values the carry starts from."""
    outer, body = op.eqn, open_jaxpr(op.eqn.params["jaxpr"])
    # What is cut or stacked along time has one more axis outside than inside. (The parameters that
    # say so have other names in other versions of JAX.)
    num_cut = sum(_ndim(a) != _ndim(b) for a, b in zip(outer.invars, body.invars, strict=True))
    stacked = [a for a, b in zip(outer.outvars, body.outvars, strict=True) if _ndim(a) != _ndim(b)]
    num_carry = len(body.outvars) - len(stacked)
    num_consts = len(body.invars) - num_carry - num_cut
    need = sum(_bytes(v) for v in stacked) + _body(body, num_consts)
    return need, op.ins[num_consts : num_consts + num_carry]


def _while(op: _Op) -> tuple[int, list[int | None]]:
    """As `_scan`: the loop is in its test or in its body, one at a time."""
    num_carry = len(op.eqn.outvars)
    parts = [open_jaxpr(op.eqn.params[part]) for part in ("cond_jaxpr", "body_jaxpr")]
    need = max(_body(part, len(part.invars) - num_carry) for part in parts)
    return need, op.ins[len(op.ins) - num_carry :]


def _body(jaxpr: core.Jaxpr, num_consts: int) -> int:
    """What one turn of a loop needs: all but its constants is its own."""
    return _peak(_flatten(jaxpr), [i >= num_consts for i in range(len(jaxpr.invars))])
