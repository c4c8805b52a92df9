"""From the words of a command line to values: tyro parses, and what is wrong is said in one line.

The options of a plug are not typed here: `--bonus.coefficient 0.1` exists because the component
that `--bonus` names has a field `coefficient`.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeVar

import tyro

from xplore.contracts.errors import ConfigError, did_you_mean
from xplore.contracts.registry import Entry, find

T = TypeVar("T")

# Where the options of each plug are routed: `--env.size 12` goes to the environment's factory.
PLUGS = ("env", "agent", "bonus", "worlds")


def _steps_from_text(text: str) -> int:
    value = float(text.replace("_", ""))
    if not value.is_integer():
        raise ValueError(f"{text} is not a whole number")
    return int(value)


StepCount = Annotated[
    int,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="STEPS",
        instance_from_str=lambda words: _steps_from_text(words[0]),
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A whole number that may be written `1e6` or `1_000_000`."""


def parse(cls: type[T], args: Sequence[str], *, prog: str) -> T:
    """Builds a `cls` (a dataclass) from `args`.

    Raises:
        ConfigError: a word is not understood; names the closest options.
        SystemExit: help was asked for and printed.
    """
    known = [*_flags(cls), "--help"]
    for word in args:
        name = word.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            raise ConfigError(f"unknown option {name!r}{did_you_mean(name, known)} {_see(prog)}")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            made, unexpected = tyro.cli(cls, prog=prog, args=list(args), return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{_one_line(said.getvalue())} {_see(prog)}") from None
    if unexpected:
        raise ConfigError(f"unexpected {unexpected[0]!r} {_see(prog)}")
    return made


def _see(prog: str) -> str:
    return f"(`{prog} --help` shows what there is)"


def _one_line(box: str) -> str:
    # tyro frames its message, in lines or in dashes: a title, then the message, then more help.
    body: list[str] = []
    for line in (line.strip(" │") for line in box.splitlines()[1:]):
        if line.strip("─╰╯-"):
            body.append(line)
        elif body:
            break
    return " ".join(" ".join(body).split()) or " ".join(box.split())


def _flags(cls: Any, prefix: str = "--") -> Iterator[str]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, name = hints[field.name], field.name.replace("_", "-")
        marks = getattr(hint, "__metadata__", ())
        if tyro.conf.Positional in marks:
            continue
        name = next((m.name for m in marks if getattr(m, "name", None)), name)
        inner = hint.__origin__ if hasattr(hint, "__metadata__") else hint
        if dataclasses.is_dataclass(inner):
            yield from _flags(inner, f"{prefix}{name}.")
        else:
            yield prefix + name
            if inner is bool:
                yield f"{prefix}no-{name}"


def with_plugs(cls: type[T], ids: dict[str, str], args: Sequence[str]) -> type[T]:
    """`cls` with one group of options more for each plug in `ids` (kind -> id).

    The group of kind `bonus` is the field `bonus_options`, spelt `--bonus.<option>`. A factory that
    takes any keyword (`**params`) is given those that `args` name.
    """
    groups: list[Any] = []
    for kind, id in ids.items():
        named = [w.partition("=")[0] for w in args if w.startswith(f"--{kind}.")]
        names = [w.partition(".")[2].replace("-", "_") for w in named]
        group = plug_options(find(kind, id), names)
        hint = Annotated[group, tyro.conf.arg(name=kind)]  # type: ignore[valid-type]
        groups.append((f"{kind}_options", hint, dataclasses.field()))
    made = dataclasses.make_dataclass(cls.__name__, groups, bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = cls.__doc__
    return made


def plug_options(entry: Entry, named: Sequence[str] = ()) -> type[Any]:
    """A dataclass with one field for each option of `entry` that a command line can spell.

    For a factory with `**params` also one for each of `named`, whose type is seen from its value.
    """
    helps, parameters = _helps(entry), _parameters(entry)
    fields: list[Any] = []
    for name, (hint, default) in parameters.items():
        marked = Annotated[hint, tyro.conf.arg(help=helps.get(name, ""))]  # type: ignore[valid-type]
        required = default is inspect.Parameter.empty
        fields.append(
            (name, marked, dataclasses.field(**({} if required else {"default": default})))
        )
    signature = inspect.signature(entry.factory).parameters
    if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        free = dict.fromkeys(n for n in named if n not in signature and n.isidentifier())
        fields += [(n, str, dataclasses.field(metadata={"free": True})) for n in free]
    title = f"options of {entry.kind} {entry.id}"
    return dataclasses.make_dataclass(title, fields, frozen=True, kw_only=True)


def _helps(entry: Entry) -> dict[str, str]:
    """What the `Args` or `Attributes` of the factory's docstring say of each option."""
    text = inspect.getdoc(entry.factory) or ""
    found = re.finditer(r"^ {4}(\w+(?:, \w+)*): (.+(?:\n {8,}.+)*)", text, re.MULTILINE)
    return {name: " ".join(match[2].split()) for match in found for name in match[1].split(", ")}


def _parameters(entry: Entry) -> dict[str, tuple[Any, Any]]:
    hints = typing.get_type_hints(entry.factory)
    found = {}
    for name, parameter in inspect.signature(entry.factory).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = entry.kwargs.get(name, parameter.default)
        hint = _spellable(hints.get(name, type(default)))
        if hint is float and isinstance(default, int):
            default = float(default)
        plain = isinstance(default, (bool, int, float, str, tuple, types.NoneType))
        if hint is not None and (plain or default is parameter.empty):
            found[name] = (hint, default)
    return found


def _spellable(hint: Any) -> Any | None:
    """The part of a type hint that words can express, or None: arrays and components drop out."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if hint in (int, float, bool, str, type(None)) or origin is Literal:
        return hint
    if origin in (typing.Union, types.UnionType):
        kept = [m for m in map(_spellable, members) if m is not None]
        return typing.Union[tuple(kept)] if set(kept) - {type(None)} else None  # noqa: UP007
    if origin is tuple:
        return hint if all(m is Ellipsis or _spellable(m) == m for m in members) else None
    return None


def chosen(values: Any, kind: str) -> dict[str, Any]:
    """The options of a plug that differ from its defaults, as overrides for its factory."""
    group = getattr(values, f"{kind}_options")
    given = ((f, getattr(group, f.name)) for f in dataclasses.fields(group))
    return {
        f.name: _literal(value) if f.metadata.get("free") else value
        for f, value in given
        if value != f.default
    }


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def peek(args: Sequence[str], option: str, default: str) -> str:
    """The value `option` has in `args`, read before parsing: it decides which options there are."""
    value = default
    for word, following in zip(args, [*args[1:], ""], strict=True):
        if word == option and following:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def leading(args: Sequence[str], what: str, prog: str) -> str | None:
    """The first word, which must be `what`; None where only help is asked for."""
    if args and not args[0].startswith("-"):
        return args[0]
    if "--help" in args or "-h" in args:
        return None
    raise ConfigError(f"name the {what} first: `{prog} {what.upper()} ...`")
