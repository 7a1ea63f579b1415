"""What the repository says about itself is true."""

import re
from pathlib import Path

import pytest
import yaml

from recipesearch.parents.identify import read_recipe
from recipesearch.plan import load_plans

ROOT = Path(__file__).parent.parent


def test_the_readme_has_a_line_for_every_room() -> None:
    tree = (ROOT / "README.md").read_text().partition("## The tree")[2]
    rooms = set(re.findall(r"^  (\w+)/ ", tree, re.MULTILINE))
    assert rooms == {path.parent.name for path in (ROOT / "recipesearch").glob("*/__init__.py")}
    loose = {p.name for p in (ROOT / "recipesearch").glob("*.py") if not p.name.startswith("__")}
    assert set(re.findall(r"\b(\w+\.py)\b", tree)) == loose


@pytest.mark.parametrize(
    "room", sorted((ROOT / "recipesearch").glob("*/__init__.py")), ids=lambda p: p.parent.name
)
def test_every_room_lists_its_files(room: Path) -> None:
    files = {path.name for path in room.parent.glob("*.py")} - {"__init__.py"}
    listed = re.findall(r"^(\w+\.py) ", room.read_text().split('"""')[1], re.MULTILINE)
    assert sorted(listed) == sorted(files)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_file_passes_check_offline(path: Path, zoo: Path) -> None:
    """Era by era: the parents by their recorded configs, the metrics by the tasks' YAML files."""
    from studies.offline_check import check_offline  # loads torch, which a light install lacks

    before = None
    for plan in load_plans(path):
        before = check_offline(plan, before)
        assert before.space.genes


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_file_is_a_recipe_and_names_no_path_of_a_machine(path: Path, zoo: Path) -> None:
    recipe, _ = read_recipe(path)
    assert recipe.digest
    references = re.findall(r"model: (\S+)", path.read_text())
    assert references
    assert all(reference.startswith("zoo:") for reference in references)


def test_the_tables_of_methods_and_keys_in_the_guide_are_complete() -> None:
    from recipesearch.plan import EnginePlan, LayersPlan, MutationPlan, SearchPlan, WeightsPlan
    from recipesearch.recipe.methods import METHODS

    guide = (ROOT / "docs" / "guide.md").read_text()
    keys = [
        *SearchPlan.model_fields,
        *EnginePlan.model_fields,
        *WeightsPlan.model_fields,
        *LayersPlan.model_fields,
        *MutationPlan.model_fields,
        *METHODS,
    ]
    assert [key for key in keys if key not in guide] == []
    assert yaml.safe_load((ROOT / "recipesearch/cli/demo.yaml").read_text())["name"] == "demo"
