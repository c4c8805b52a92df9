"""A folder that several processes may write to at once, and that only ever grows."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from xplore.contracts.errors import ResultsError

_TEMPORARY = ".xplore-*.tmp"


def writable_folder(folder: str | os.PathLike[str]) -> Path:
    """Returns `folder`, made if it was not there, after writing to it once to be sure.

    Permission bits are not asked: they say yes to an administrator on a read-only disk.

    Raises:
        ResultsError: it is a file, or cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _temporary(path)
        probe.touch(exist_ok=False)
        probe.unlink(missing_ok=True)  # another process may already have swept it away
    except OSError as error:
        raise unwritable(path, error) from error
    return path


def unwritable(path: Path, error: OSError) -> ResultsError:
    """The one line for a folder, or a file in it, that cannot be written."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        reason = "it, or a part of its path, is a file and not a folder"
    else:
        reason = error.strerror or type(error).__name__
    return ResultsError(
        f"cannot write results to '{path}': {reason}; name a folder that can be written"
    )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds `folder` for this process; yields False where the system has no locks.

    The lock is on the folder itself, and the system drops it when the process dies, `kill -9`
    included, so that nothing is left over to clear by hand.
    """
    if sys.platform == "win32":  # no such locks, but `_link_new` still never overwrites
        yield False
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            held = True
        except OSError:  # some network file systems
            held = False
        yield held
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Removes what a killed process left half-written; call it only while holding the lock."""
    for leftover in folder.glob(_TEMPORARY):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(target: Path, *, replace: bool = False) -> Iterator[IO[bytes]]:
    """Opens a file that appears under its name `target` whole or not at all, at the end.

    With `replace` it takes the place of a file of that name; without, it never does.

    Raises:
        FileExistsError: `target` is there already (and `replace` is False); it is as it was.
    """
    temporary = _temporary(target.parent)
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(target)
        else:
            _link_new(temporary, target)
        _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link_new(source: Path, target: Path) -> None:
    # Unlike a rename, a link fails if the name is taken, in one step that no process can split.
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the folder's lock is the protection left
        if target.exists():
            raise FileExistsError(target) from None
        source.replace(target)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system can open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _temporary(folder: Path) -> Path:
    return folder / _TEMPORARY.replace("*", f"{os.getpid()}-{secrets.token_hex(8)}")
