"""What ended workers leave is removed, and nothing else: no process, file or exit status of others."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import IGNORING, MAPPING, WAITING, alive, living, within

from recipesearch.processes import own_mark
from recipesearch.workers import remains

Stranger = Callable[..., subprocess.Popen[str]]
NOBODY = "999999999-1"  # the mark of a supervisor that is gone

# Names itself in bytes that are no text, as a name cut within a letter is.
ODDLY_NAMED = f"from pathlib import Path; Path('/proc/self/comm').write_bytes(b'gr\\xc3'); {WAITING}"
DYING_WITH_ITS_PARENT = """
import os, sys
from pathlib import Path
from recipesearch.workers.remains import die_with_parent

die_with_parent()
Path(sys.argv[1]).write_text(str(os.getpid()))
print(flush=True)
sys.stdin.read()
"""
WITH_A_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"


def note(records: Path, group: int, mark: str, *segments: Path) -> Path:
    """A record as a supervisor writes it."""
    records.mkdir(parents=True, exist_ok=True)
    path = records / f"{group}.json"
    path.write_text(json.dumps({"group": group, "mark": mark, "segments": [str(s) for s in segments]}))
    return path


# -- ending a group


def test_a_group_has_ended_when_the_call_returns(stranger: Stranger) -> None:
    """Also members that ignore SIGTERM, or that are stopped."""
    group = stranger().pid
    stranger(IGNORING, group=group)
    os.kill(stranger(group=group).pid, signal.SIGSTOP)
    outside = stranger()
    remains.end_group(group)
    assert living(group) == []
    assert alive(outside.pid)


def test_the_spared_process_stays(stranger: Stranger) -> None:
    leader = stranger()
    other = stranger(group=leader.pid)
    remains.end_group(leader.pid, spare=leader.pid)
    assert alive(leader.pid)
    assert not alive(other.pid)


def test_a_groups_shared_memory_goes_with_it(stranger: Stranger, segment: Path) -> None:
    group = stranger(MAPPING, segment).pid
    assert remains.group_memory(group) == {str(segment)}
    remains.end_group(group)
    assert not segment.exists()


def test_shared_memory_that_another_process_uses_stays(stranger: Stranger, segment: Path) -> None:
    group = stranger(MAPPING, segment).pid
    stranger(MAPPING, segment)
    remains.end_group(group)
    assert segment.exists()


@pytest.fixture
def ram_disk() -> Iterator[Path]:
    folder = Path("/dev/shm") / f"recipesearch-test-{os.getpid()}"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    for file in folder.parent.glob(f"{folder.name}*"):
        file.unlink()


@pytest.mark.parametrize("name", ["{}/model.safetensors", "{}.safetensors"])
def test_a_model_on_the_ram_disk_is_no_shared_memory(name: str, stranger: Stranger, ram_disk: Path) -> None:
    """Parents may lie in /dev/shm or below it, and workers map their files."""
    weights = Path(name.format(ram_disk))
    remains.end_group(stranger(MAPPING, weights).pid)
    assert weights.exists()


def test_a_strangers_odd_name_hinders_nothing(stranger: Stranger) -> None:
    stranger(ODDLY_NAMED)
    group = stranger().pid
    remains.end_group(group)
    assert living(group) == []


def test_the_exit_status_of_other_children_is_left_to_others(stranger: Stranger) -> None:
    """A program that runs a search may have children of its own."""
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    assert within(20, lambda: not alive(other.pid))
    remains.end_group(stranger().pid)
    assert other.wait() == 7


def test_where_there_is_no_proc_a_whole_group_is_killed_or_none_of_it(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leader = stranger()
    other = stranger(group=leader.pid)
    monkeypatch.setattr(remains, "_PROC", tmp_path / "absent")
    remains.end_group(leader.pid, spare=leader.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        other.wait(0.3)
    assert leader.poll() is None
    remains.end_group(leader.pid)
    assert leader.wait(10) == other.wait(10) == -signal.SIGKILL
    remains.end_group(leader.pid)  # nobody is there


def test_a_process_that_asks_for_it_dies_with_its_parent(stranger: Stranger, tmp_path: Path) -> None:
    parent = stranger(WITH_A_CHILD, DYING_WITH_ITS_PARENT, tmp_path / "child")
    child = int((tmp_path / "child").read_text())
    parent.kill()
    assert within(5, lambda: not alive(child))


# -- what earlier runs left


def test_what_a_lost_supervisor_left_is_removed(stranger: Stranger, records: Path, segment: Path) -> None:
    """Processes that bear its mark, the segments it had noted, and the record."""
    child = stranger(WAITING, RECIPESEARCH_WORKER=NOBODY)
    segment.touch()
    record = note(records, child.pid, NOBODY, segment)
    remains.remove_stale(records)
    assert not alive(child.pid)
    assert not segment.exists()
    assert not record.exists()


def test_what_a_living_supervisor_noted_is_left_alone(
    stranger: Stranger, records: Path, segment: Path
) -> None:
    mark = own_mark()
    child = stranger(MAPPING, segment, RECIPESEARCH_WORKER=mark)
    remains.write_record(records, child.pid)
    record = records / f"{child.pid}.json"
    assert json.loads(record.read_text()) == {"group": child.pid, "mark": mark, "segments": [str(segment)]}
    child.kill()
    remains.remove_stale(records)
    assert record.exists()
    assert segment.exists(), "it may map it again"


def test_a_supervisor_is_known_by_its_start_not_only_by_its_number(records: Path) -> None:
    record = note(records, 999999999, f"{os.getpid()}-1")
    remains.remove_stale(records)
    assert not record.exists()


@pytest.mark.parametrize("environment", [{}, {remains.MARK: "1-1"}])
def test_a_stranger_that_has_a_lost_groups_number_is_not_killed(
    stranger: Stranger, records: Path, environment: dict[str, str]
) -> None:
    other = stranger(WAITING, **environment)
    record = note(records, other.pid, NOBODY)
    remains.remove_stale(records)
    assert alive(other.pid)
    assert not record.exists()


def test_a_lost_groups_segment_that_another_process_has_mapped_stays(
    stranger: Stranger, records: Path, segment: Path
) -> None:
    stranger(MAPPING, segment)
    note(records, 999999999, NOBODY, segment)
    remains.remove_stale(records)
    assert segment.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"group": 1'])
def test_a_broken_record_does_not_keep_the_others_from_being_read(records: Path, text: str) -> None:
    whole = note(records, 999999999, NOBODY)
    (records / "1.json").write_text(text)
    (records / "a.json").write_text(text)
    remains.remove_stale(records)
    assert not whole.exists()
