"""What a killed process leaves of a folder is removed, and nothing of those that live or may live."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recipesearch import files
from recipesearch.files import remove_abandoned, remove_folder, whole_folder
from recipesearch.processes import own_mark

KILLED = """
import os, sys
from pathlib import Path
from recipesearch.files import whole_folder

with whole_folder(Path(sys.argv[1])) as partial:
    (partial / "model.safetensors").touch()
    os.kill(os.getpid(), 9)
"""
KILLED_IN_A_FILE = """
import os, sys
from pathlib import Path
from recipesearch.files import write_text

os.fsync = lambda handle: os.kill(os.getpid(), 9)
write_text(Path(sys.argv[1]), "recipe")
"""


def killed_while_writing(target: Path, program: str = KILLED) -> Path:
    """What a process that was killed has left of a folder or a file."""
    before = set(target.parent.glob("*"))
    assert subprocess.run([sys.executable, "-c", program, str(target)]).returncode == -9
    (left,) = set(target.parent.glob("*")) - before
    return left


def named(folder: Path, owner: str) -> Path:
    """Another process's partial folder."""
    partial = folder / f".other.name.{owner}.abc.partial"
    partial.mkdir()
    return partial


@pytest.fixture(params=["node", "node.of-a.cluster"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """This host's name, as partial folders have it."""
    monkeypatch.setattr(socket, "gethostname", lambda: request.param)
    return request.param.replace(".", "_")


def test_the_next_folder_beside_it_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "model")
    assert left.name.startswith(".model.")
    with whole_folder(tmp_path / "next"):
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["next"]


def test_what_a_killed_process_left_of_a_file_goes_too(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "recipe.yaml", KILLED_IN_A_FILE)
    assert left.name.startswith(".recipe.yaml.")
    remove_abandoned(tmp_path)
    assert not any(tmp_path.iterdir())


def test_what_belongs_to_the_living_or_to_another_host_stays(tmp_path: Path, host: str) -> None:
    reused = f"{os.getpid()}-1"  # this process's number, from before its start
    gone = [named(tmp_path, f"{host}-{mark}") for mark in ("999999999-1", reused)]
    staying = [named(tmp_path, owner) for owner in ("elsewhere-999999999-1", f"{host}-{own_mark()}", "x")]
    with whole_folder(tmp_path / "one") as living, whole_folder(tmp_path / "two"):
        assert all(path.exists() for path in (living, *staying))
        assert not any(path.exists() for path in gone)


def test_without_proc_a_number_decides(tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipesearch.processes._PROC", tmp_path / "absent")
    gone, staying = named(tmp_path, f"{host}-999999999-"), named(tmp_path, f"{host}-1-")
    with whole_folder(tmp_path / "one") as living:
        remove_abandoned(tmp_path)
        assert (living.exists(), staying.exists(), gone.exists()) == (True, True, False)


def test_in_a_locked_folder_all_that_is_not_whole_goes(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "absent", locked=True)
    named(tmp_path, "elsewhere-1-1")
    named(tmp_path, "x")
    (tmp_path / "whole").mkdir()
    (tmp_path / ".hidden").touch()
    (tmp_path / "recipe.yaml").touch()
    remove_abandoned(tmp_path, locked=True)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", ".hidden", "recipe.yaml"}


def test_a_folder_that_is_removed_is_never_half_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole_folder(tmp_path / "model") as partial:
        (partial / "a").touch()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # killed before the first file is gone
        remove_folder(tmp_path / "model")
        assert not (tmp_path / "model").exists()
    remove_folder(tmp_path / "model")
    remove_abandoned(tmp_path, locked=True)
    assert not any(tmp_path.iterdir())


def test_a_zombie_owns_nothing_any_more(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "model")])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (left,) = tmp_path.iterdir()
    remove_abandoned(tmp_path)
    process.wait()
    assert files._PARTIAL.fullmatch(left.name)
    assert not left.exists()
