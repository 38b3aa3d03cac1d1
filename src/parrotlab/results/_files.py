"""How a store touches the disk: one working process per run, and folders that are complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


class StoreError(Exception):
    """The store cannot do what it was asked; the message is one line and says what to do."""


class Busy(StoreError):
    """Another process works on the same run."""


@contextlib.contextmanager
def clear_errors(root: Path) -> Iterator[None]:
    """A full disk or a read-only store as one clear line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write to {root}: {reason}. What was stored before is untouched.") from error


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file of that path; the operating system lets go of it when the process dies, however it dies."""
    descriptor = _locked(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Busy(f"run {path.stem} is being worked on by another process; it holds {path}") from None
        except OSError:
            os.close(descriptor)
            raise
        # The holder before us may have removed the file between our opening and our locking it.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)


def publish(files: dict[str, bytes], drafts: Path, place: Path) -> None:
    """Fills a hidden folder in ``drafts`` and renames it to ``place``; raises OSError where that is taken.

    The files are on the disk before the name is: a machine that loses power leaves a whole folder or none.
    """
    draft = drafts / f"{place.name}.{uuid.uuid4().hex}"
    try:
        draft.mkdir(parents=True)
        for name, content in files.items():
            with open(draft / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(draft)
        os.rename(draft, place)
        _sync_folder(place.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
