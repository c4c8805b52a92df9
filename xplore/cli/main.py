"""The entry point: finds the command, and turns what can go wrong into one line and an exit code.

Exit codes: 0 done; 2 the input cannot be run, or the run diverged (one line on stderr says what
would be right); 130 and 143 stopped by Ctrl-C and by SIGTERM, with what was done saved. A bug is
not dressed up: its traceback is shown, and Python exits with 1.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

from xplore.contracts.errors import ConfigError, XploreError, did_you_mean

EXIT_BAD_INPUT = 2
_RESUMES = "the same command goes on from what was saved"


class Command(NamedTuple):
    """`function(args)` of `xplore.cli.<module>` is the command."""

    module: str
    function: str
    usage: str
    summary: str


COMMANDS = {
    "list": Command(
        "listing", "list_", "list [envs|agents|bonuses|worlds|suites]", "what there is"
    ),
    "run": Command("run", "run", "run ENV [--agent A ...]", "train one method on one task"),
    "bench": Command("suites", "bench", "bench SUITE", "run a suite's whole grid"),
    "table": Command("suites", "table", "table SUITE", "a suite's table, from its rows"),
    "plot": Command("suites", "plot", "plot SUITE", "a suite's figures, from its rows"),
    "speed": Command("speed", "speed", "speed ENV", "how many steps a second an environment makes"),
    "play": Command("play", "play", "play ENV", "play an environment in the terminal"),
    "heatmap": Command(
        "heatmap", "heatmap", "heatmap ENV [--bonuses B ...]", "draw visits and bonus per cell"
    ),
    "worlds": Command(
        "worlds", "worlds", "worlds sample SPEC", "draw levels of a family on a sheet"
    ),
    "watch": Command("watch", "watch", "watch ENV [--agent A ...]", "film an episode, as a GIF"),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, made to unwind as Ctrl-C does, so that what was done is saved."""

    signal_number = signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        with _sigterm_unwinds():
            _dispatch(args)
            sys.stdout.flush()
    except XploreError as error:
        if debug:
            raise
        print(f"xplore: error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt as stop:
        # The loop's own interruption says which signal it was and how to go on.
        message = str(stop) or (_RESUMES if args and args[0] in ("run", "bench") else "")
        print(f"xplore: stopped{': ' + message if message else ''}", file=sys.stderr)
        return 128 + int(getattr(stop, "signal_number", signal.SIGINT))
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain again when it flushes at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if args[0] == "--version":
        from xplore import __version__

        print(__version__)
        return
    if args[0] not in COMMANDS:
        raise ConfigError(
            f"unknown command {args[0]!r}{did_you_mean(args[0], COMMANDS)}"
            " (`xplore --help` shows all)"
        )
    command = COMMANDS[args[0]]
    # Imported here, so that `xplore --help` does not pay for what it does not use.
    module: Any = importlib.import_module(f"xplore.cli.{command.module}")
    getattr(module, command.function)(args[1:])


def _help() -> str:
    width = max(len(c.usage) for c in COMMANDS.values())
    lines = [f"  xplore {c.usage:<{width}}  {c.summary}" for c in COMMANDS.values()]
    return "\n".join(
        [
            "usage: xplore COMMAND ...",
            "",
            *lines,
            "",
            "`xplore COMMAND --help` shows a command's options; `xplore run ENV --agent A --help`",
            "also those of the named plugs. `--debug` shows the traceback of an error.",
        ]
    )


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: Any) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
