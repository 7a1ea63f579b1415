"""The cache folder, and writing files and folders atomically: complete or absent."""

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
    """The cache folder, as an absolute path. It is safe to delete.

    ``$RECIPESEARCH_CACHE`` if set, else ``recipesearch`` in the user's cache folder (``$XDG_CACHE_HOME`` or
    ``~/.cache``).
    """
    if explicit := os.environ.get("RECIPESEARCH_CACHE"):
        return Path(explicit).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "recipesearch"


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically: temporary file in the same folder, fsync, rename.

    On an error the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp creates private files, but results are shared
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _fsync(path.parent)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``target`` if the block succeeds and is removed if it fails.

    All files are synced before the rename, so ``target`` is complete or absent even after a crash. Raises
    FileExistsError if ``target`` exists and is not empty. A folder that a killed process leaves behind keeps
    its ``.partial`` name and is never read. The next call for a target in the same parent folder removes it.
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
    """Removes a folder if it exists.

    The folder is renamed first, so a kill in the middle never leaves half of it under its own name.
    """
    gone = target.with_name(f"{_prefix(target)}gone{_SUFFIX}")
    with suppress(OSError):  # missing, or owned by another user
        os.replace(target, gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_abandoned(folder: Path, *, locked: bool = False) -> None:
    """Removes the partial files and folders in ``folder`` that killed processes of this host have left.

    Partial files of other hosts are kept, because their processes may still be running. ``locked`` removes
    those too: the caller guarantees that no other process works in ``folder``.
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
    return socket.gethostname().replace(".", "_")  # dots separate the fields of a partial folder's name


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
