"""Errors a user can act on: one line that says what was wrong and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XploreError(Exception):
    """Base of every error caused by input; the command line prints it without a traceback."""


class UnknownIdError(XploreError):
    """An id or option that no component is registered under."""


class ConfigError(XploreError):
    """A setting, or a combination of settings, that cannot run."""


class DivergedError(XploreError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""


class ResultsError(XploreError):
    """A results folder or file that cannot be read or written."""


class CheckpointError(XploreError):
    """A checkpoint that does not belong to this run, or cannot be read."""


def check_least(name: str, options: object, **least: int) -> None:
    """Refuses numbers among the fields of `options` that are below the least they may be.

    >>> import types
    >>> check_least("ppo", types.SimpleNamespace(num_epochs=0), num_epochs=1)
    Traceback (most recent call last):
    xplore.contracts.errors.ConfigError: ppo: num_epochs is 0: it must be at least 1

    Raises:
        ConfigError: names the first such field.
    """
    for field, number in least.items():
        if (given := getattr(options, field)) < number:
            raise ConfigError(f"{name}: {field} is {given}: it must be at least {number}")


def did_you_mean(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Returns `"; did you mean 'a' or 'b'?"` for the closest of `known`, or `""`.

    >>> did_you_mean("pp", ["ppo", "random"])
    "; did you mean 'ppo'?"
    """
    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=most, cutoff=0.5)
    if not close:
        return ""
    return "; did you mean " + " or ".join(repr(lowered[c]) for c in close) + "?"
