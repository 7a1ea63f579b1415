"""The measures of scripts/structure.py, on a made-up package."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
FILES = {
    "pack/__init__.py": "from . import one\n__version__ = '1'\n",
    "pack/__main__.py": "from .three import run\n",
    "pack/errors.py": "class Broken(Exception): ...\n",
    "pack/one/__init__.py": "from ..two.names import NAMES\n",  # one -> two
    "pack/one/files.py": "from . import own\ndef read():\n    from .. import errors\n",  # one -> errors, lazy
    "pack/one/own.py": "import os.path, packaging\n",
    # two -> one, for types; two -> errors, both lazy and not
    "pack/two/names.py": "if TYPE_CHECKING:\n    from pack.one import files\n"
    "def fail():\n    from pack.errors import Broken\n",
    "pack/two/files.py": "import pack.errors\n",
    "pack/three.py": "from pack import __version__, two\n"  # three -> two
    "def run():\n" + "    pass\n" * 60,
    "scripts/demo.py": "print()\n" * 4,
    "tests/test_one.py": "def test_one(): ...\nclass TestTwo:\n    def test_two(self): ...\ndef f(): ...\n",
}


@pytest.fixture
def structure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("structure")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_arrows_are_pairs_of_entries_marked_if_only_lazy_imports_make_them(structure: ModuleType) -> None:
    trees = {
        Path(name).relative_to("pack"): ast.parse(text)
        for name, text in FILES.items()
        if name.startswith("pack/")
    }
    assert structure.arrows(trees, "pack") == {
        ("one", "two"): False,
        ("one", "errors"): True,
        ("two", "one"): False,
        ("two", "errors"): False,
        ("three", "two"): False,
    }


def test_cycles_are_strongly_connected_components(structure: ModuleType) -> None:
    ring = [("a", "b"), ("b", "c"), ("c", "a")]
    pair = [("x", "y"), ("y", "x")]
    assert structure.cycles([*ring, *pair, ("c", "x"), ("y", "leaf")]) == [set("abc"), set("xy")]
    assert structure.cycles([("a", "b"), ("b", "c"), ("a", "c")]) == []


def test_the_figures_of_a_checkout(structure: ModuleType, checkout: Path) -> None:
    assert structure.measure(checkout) == {
        "entries at the top of the package": "4",
        "rooms (folders)": "2",
        "files of the package": "9",
        "lines of the package": "76",
        "lines of tests": "4",
        "lines of scripts": "4",
        "lines of the package per line of scripts": "19.0",
        "import arrows between entries": "5",
        "arrows by lazy imports alone": "1",
        "cycles among entries": "1: one two",
        "functions over 60 lines": "1",
        "longest function": "three.py run, 61 lines",
        "longest file": "three.py, 62 lines",
        "file names that occur twice": "1: files.py",
        "test functions": "2",
    }


def test_two_checkouts_are_printed_side_by_side(
    structure: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["structure.py", str(checkout), str(checkout)])
    structure.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | before | after |"
    assert lines[2] == "| entries at the top of the package | 4 | 4 |"


def test_a_folder_without_a_package_is_named(structure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected one package"):
        structure.measure(tmp_path)
