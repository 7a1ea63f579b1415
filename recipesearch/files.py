"""Where derived files live, and how a file or folder appears complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .processes import alive, own_mark

_SUFFIX = ".partial"
_PARTIAL = re.compile(r"\..+\.(?P<host>[^.]+)-(?P<mark>\d+-\d*)\.[^.]+\.partial")


def cache_dir() -> Path:
    """``$RECIPESEARCH_CACHE``, else ``recipesearch`` in the user's cache folder. Safe to delete."""
    if explicit := os.environ.get("RECIPESEARCH_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "recipesearch"


def write_text(path: Path, text: str) -> None:
    """Writes a file whole: temp file beside it, fsync, rename. On an error the old file stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp makes private files; these are results to share
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _fsync(path.parent)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a temp folder that becomes ``target`` if the block succeeds, and vanishes if it does not.

    Everything is synced before the rename, so that ``target`` is complete or absent, also after a crash.
    Raises FileExistsError if ``target`` exists and is not empty. A folder left by a killed process keeps
    its ``.partial`` name, is never read, and is removed when the next one is begun beside it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not empty; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target.parent)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target), suffix=_SUFFIX))
    try:
        yield partial
        partial.chmod(0o755)
        for path in [*partial.rglob("*"), partial]:
            _fsync(path)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _fsync(target.parent)


def remove_folder(target: Path) -> None:
    """Removes a folder, if it is there: renamed first, so that a kill leaves no half of it under its name."""
    gone = target.with_name(f"{_prefix(target)}gone{_SUFFIX}")
    with suppress(OSError):  # it is not there, or somebody else's
        os.replace(target, gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_abandoned(folder: Path, *, locked: bool = False) -> None:
    """Removes what killed processes of this host have left of whole folders and files in ``folder``.

    Other hosts' stay, since nothing here knows whether their processes live; unless ``folder`` is ``locked``
    by the caller, so that nobody else can be at work there.
    """
    for partial in folder.glob(f".*{_SUFFIX}"):
        if not locked and not _is_abandoned(partial.name):
            continue
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    return f".{target.name}.{_host()}-{own_mark()}."


def _is_abandoned(name: str) -> bool:
    owner = _PARTIAL.fullmatch(name)
    return owner is not None and owner["host"] == _host() and not alive(owner["mark"])


def _host() -> str:
    return socket.gethostname().replace(".", "_")  # dots part a partial folder's name


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
