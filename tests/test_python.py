"""The Python front door: its names, its page, and what it accepts and rejects."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import recipesearch as rs
from recipesearch.workers.worker import Worker

ROOT = Path(__file__).parent.parent
OBJECTIVES = '''
"""An objective for the page's example."""

from lm_eval.api.instance import Instance


def brevity(lm):
    asked = [Instance("generate_until", {}, ("12+34=", {"until": ["$"], "max_gen_toks": 8}), 0)]
    return float(len(lm.generate_until(asked, disable_tqdm=True)[0]))
'''


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "plain",
        "parents": {"math": "zoo:math", "lang": "zoo:lang"},
        "space": {"weights": {"methods": ["linear"]}},
        "objectives": [{"task": "zoo:tasks/addition_b_search.yaml", "metric": "exact_match"}],
    } | changes


def at_top(lm: object) -> float:
    return 1.0


def test_the_front_door_has_exactly_these_names() -> None:
    assert set(rs.__all__) == {
        *("load", "check", "run", "open", "mutate", "export", "verify", "merge"),
        *("errors", "StudyView"),
    }
    assert all(getattr(rs, name) is not None for name in rs.__all__)
    assert set(rs.__all__) < set(dir(rs))
    with pytest.raises(AttributeError, match="no attribute 'search_all'"):
        rs.search_all  # noqa: B018


def test_importing_the_package_imports_none_of_its_functions() -> None:
    code = "import sys, recipesearch; print('recipesearch.api' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_name_of_the_front_door_stays_a_function_after_its_room_is_imported() -> None:
    """A subpackage of the same name would take the function's place."""
    code = "import recipesearch as rs, pkgutil; print(*(m.name for m in pkgutil.iter_modules(rs.__path__)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & set(rs.__all__) == {"errors"}


def test_every_example_of_the_page_runs(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process: that a worker of its own imports the objective is tested in tests/scoring."""
    monkeypatch.setattr("recipesearch.search.run.Supervised", Worker)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "objectives.py").write_text(OBJECTIVES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = (ROOT / "docs" / "python.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 6
    namespace: dict[str, Any] = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), namespace)
    assert len(namespace["view"].scored()) == 6
    assert namespace["proof"].tensors == 39
    assert namespace["frame"].on_front.any()
    assert (tmp_path / "front.html").exists()


def test_a_dict_is_as_good_as_a_file(tmp_path: Path) -> None:
    (plan,) = rs.load(raw(search={"trials": 9}), {"search.trials": 5, "search.seed": 3}, tmp_path)
    assert (plan.search.trials, plan.search.seed) == (5, 3)
    assert plan.storage_url == f"sqlite:///{tmp_path}/plain.db"
    (again,) = rs.load(raw(), ["search.trials=5"])
    assert again.search.trials == 5
    assert rs.load((plan,)) == (plan,)


def test_settings_leave_the_given_dict_as_it_is() -> None:
    given = raw(search={"trials": 9})
    rs.load(given, {"search.trials": 5})
    assert given["search"] == {"trials": 9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parants": {}}, "the study: unknown key 'parants': did you mean 'parents'?"),
        ({"folder": "/x"}, "unknown key 'folder'"),
        ({"objectives": [{"function": lambda lm: 1.0}]}, "define the function at the top of a .py file"),
        ({"objectives": 3}, "objectives"),
    ],
)
def test_a_dict_is_checked_like_a_file(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(rs.errors.PlanError, match=re.escape(message)):
        rs.load(raw(**changes))


def test_a_function_is_named_by_its_module() -> None:
    (plan,) = rs.load(raw(objectives=[{"function": at_top}]))
    assert plan.objectives[0].function == f"{__name__}:at_top"


def test_a_function_of_a_notebook_is_refused_with_the_way_out() -> None:
    def of_a_cell(lm: object) -> float:
        return 1.0

    of_a_cell.__module__, of_a_cell.__qualname__ = "__main__", "of_a_cell"
    with pytest.raises(rs.errors.PlanError, match=r"'of_a_cell' cannot be imported by a worker process"):
        rs.load(raw(objectives=[{"function": of_a_cell}]))


def test_a_study_that_was_never_run_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(rs.errors.StudyError, match="no study database"):
        rs.open(tmp_path / "absent.db")
    with pytest.raises(rs.errors.StudyError, match="run it first"):
        rs.open(rs.load(raw(), folder=tmp_path))
