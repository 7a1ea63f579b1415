"""The rooms: who may import whom, and where heavy packages may be imported. Read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import recipesearch

PACKAGE = Path(recipesearch.__file__).parent

# Each room (a module or a subpackage) and the rooms it may import. Data flows one way:
# plan -> genome -> recipe -> live model -> score -> ledger and study -> front -> export.
ALLOWED: dict[str, set[str]] = {
    "architectures": set(),
    "errors": set(),
    "files": {"processes"},
    "methods": set(),
    "score": set(),
    "pareto": set(),
    "processes": set(),
    "recipe": {"methods"},
    "recipe_yaml": {"errors", "methods", "recipe"},
    "zoo": {"errors", "files"},
    "plan": {"errors", "methods", "score", "zoo"},
    "alignment": {"errors", "merging", "plan", "recipe"},
    "merging": {"architectures", "errors", "files", "methods", "recipe", "recipe_yaml", "zoo"},
    "space": {"architectures", "errors", "methods", "plan", "recipe"},
    "samplers": {"errors", "plan"},
    "memory": {"errors", "merging", "plan"},
    "preflight": {"alignment", "errors", "memory", "merging", "plan", "recipe", "samplers", "space"},
    "estimate": {"alignment", "memory", "merging", "preflight", "space"},
    "lineage": {"diversity", "eras", "errors", "mutation", "plan", "preflight", "recipe", "space", "study"},
    "eras": {"errors", "plan", "preflight", "recipe", "study"},
    "engines": {"errors", "memory", "merging", "plan", "recipe"},
    "scoring": {"errors", "score"},
    "study": {"errors", "pareto", "plan", "recipe", "recipe_yaml", "samplers", "score", "space"},
    "diversity": {"methods", "pareto", "recipe", "space", "study"},
    "workers": {
        "alignment",
        "engines",
        "errors",
        "files",
        "merging",
        "plan",
        "processes",
        "recipe",
        "score",
        "scoring",
        "study",
    },
    "mutation": {
        "engines",
        "errors",
        "files",
        "merging",
        "plan",
        "recipe",
        "recipe_yaml",
        "scoring",
        "study",
        "workers",
    },
    "evolution": {
        "diversity",
        "eras",
        "errors",
        "files",
        "lineage",
        "merging",
        "mutation",
        "pareto",
        "plan",
        "preflight",
        "recipe",
        "scoring",
        "search",
        "space",
        "study",
        "workers",
    },
    "offline": {"alignment", "eras", "errors", "merging", "plan", "preflight", "recipe", "scoring"},
    "search": {"eras", "errors", "plan", "preflight", "recipe", "score", "space", "study", "workers"},
    "sweep": {
        "errors",
        "methods",
        "plan",
        "preflight",
        "recipe",
        "recipe_yaml",
        "score",
        "search",
        "space",
        "study",
        "workers",
    },
    "verify": {"engines", "errors", "files", "merging", "plan", "recipe", "recipe_yaml", "scoring", "zoo"},
    "inspection": {
        "errors",
        "files",
        "lineage",
        "merging",
        "mutation",
        "pareto",
        "plan",
        "preflight",
        "recipe",
        "recipe_yaml",
        "score",
        "study",
        "sweep",
    },
    "cli": {
        "diversity",
        "engines",
        "eras",
        "errors",
        "estimate",
        "evolution",
        "files",
        "inspection",
        "lineage",
        "merging",
        "mutation",
        "offline",
        "plan",
        "preflight",
        "scoring",
        "search",
        "space",
        "study",
        "sweep",
        "verify",
        "workers",
        "zoo",
    },
    "__main__": {"cli"},
    "__init__": set(),
}

HEAVY = {"torch", "transformers", "vllm", "mergekit", "lm_eval", "trl", "ray", "peft", "datasets"}
# The modules that may import heavy packages at their top: nobody imports them without meaning it.
HEAVY_MODULES = {
    "engines/canary.py",
    "engines/transformers.py",
    "engines/vllm_lm.py",
    "engines/vllm_worker.py",
    "merging/checkpoint.py",
    "merging/draws.py",
    "merging/materialize.py",
    "merging/layered.py",
    "merging/measure.py",
    "merging/resident.py",
    "merging/stock.py",
    "merging/stream.py",
    "merging/vocabulary.py",
    "mutation/training.py",
    "mutation/watch.py",
    "zoo/characters.py",
    "zoo/models.py",
}
LIGHT = (
    "recipesearch",
    "recipesearch.cli.app",
    "recipesearch.plan",
    "recipesearch.parents.memory",
    "recipesearch.check.preflight",
    "recipesearch.diversity",
    "recipesearch.search.run",
    "recipesearch.workers.supervisor",
    "recipesearch.study.study",
    "recipesearch.report.tables",
    "recipesearch.export.export",
    "recipesearch.report.lineage_page",
    "recipesearch.lineage",
    "recipesearch.evolution",
    "recipesearch.mutation.breeder",
    "recipesearch.mutation.training_process",
    "recipesearch.zoo",
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    """Absolute dotted names of what a module imports; type-checking imports count as none at the top."""
    tree = ast.parse(path.read_text())
    package = ["recipesearch", *path.relative_to(PACKAGE).parts[:-1]]
    nodes: list[ast.stmt] | Iterator[ast.AST] = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def test_every_room_imports_only_the_rooms_it_may() -> None:
    broken = []
    for path in modules():
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "recipesearch" or len(parts) < 2 or parts[1] == "__version__":
                continue
            if parts[1] != room(path) and parts[1] not in ALLOWED[room(path)]:
                broken.append(f"{path.relative_to(PACKAGE)} imports {parts[1]}")
    assert not broken


def test_the_allowed_imports_have_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        free = {name for name, needs in ALLOWED.items() if name not in done and needs <= done}
        assert free, f"a cycle among {sorted(set(ALLOWED) - done)}"
        done |= free


def test_no_two_modules_of_one_room_import_each_other() -> None:
    edges = {}
    for path in modules():
        dotted = ".".join(["recipesearch", *path.relative_to(PACKAGE).with_suffix("").parts])
        edges[dotted.removesuffix(".__init__")] = set(imports(path))
    for one, targets in edges.items():
        for other in edges:
            if one < other and any(t == other or t.startswith(other + ".") for t in targets):
                assert not any(
                    t == one or t.startswith(one + ".") for t in edges[other] if one.count(".") > 1
                )


def test_heavy_packages_are_imported_at_the_top_of_listed_modules_only() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.split(".")[0] in HEAVY for name in imports(path, top_only=True))
    }
    assert found <= HEAVY_MODULES
    assert found >= HEAVY_MODULES, "a listed module is heavy no more: take it off the list"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['recipesearch', '--help']\n"
        "from recipesearch.cli import main\n"
        "try: main()\n"
        f"finally: print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == ""
