"""Where a result comes from: the code's commit and the versions it ran with."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from parrotlab import __version__

PACKAGES = ("torch", "numpy", "triton")


@functools.cache
def provenance() -> dict[str, object]:
    """``commit`` (with ``+`` if files were changed since) and ``versions``.

    Outside a checkout, in a container say, the commit is what the environment variable PARROTLAB_COMMIT says.
    """
    return {"commit": _commit(), "versions": _versions()}


def _versions() -> dict[str, str]:
    versions = {"parrotlab": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("PARROTLAB_COMMIT", "")
    return head + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10)
    return answer.stdout.strip()
