"""What the repository says about itself is true."""

import re
from pathlib import Path

import pytest
import yaml

from recipesearch.checking.offline import check_offline
from recipesearch.parents.identify import read_recipe
from recipesearch.plan import load_plans

ROOT = Path(__file__).parent.parent


def test_the_readme_lists_every_file_of_the_package() -> None:
    listed = set(re.findall(r"^\s+(\w+\.py) ", (ROOT / "README.md").read_text(), re.MULTILINE))
    files = {p.name for p in (ROOT / "recipesearch").rglob("*.py") if not p.name.startswith("__")}
    assert listed == files


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_file_passes_check_offline(path: Path, zoo: Path) -> None:
    """Its parents by the recorded configs, its tasks and metrics by what they state; era after era."""
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
