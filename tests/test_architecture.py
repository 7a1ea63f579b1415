"""Which modules may load heavy packages. Who may import whom is a contract in pyproject.toml."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import recipesearch

PACKAGE = Path(recipesearch.__file__).parent
HEAVY = {"torch", "transformers", "vllm", "mergekit", "lm_eval", "trl", "ray", "peft", "datasets", "scipy"}
# Everything else is light: it imports heavy packages, and these modules, inside functions only.
HEAVY_ROOMS = ("merging", "engines")
HEAVY_MODULES = {
    "recipesearch.mutation.training",
    "recipesearch.mutation.watch",
    "recipesearch.zoo.characters",
    "recipesearch.zoo.models",
}


def test_light_modules_load_nothing_heavy() -> None:
    loading = {name: found for name in modules() if not is_heavy(name) and (found := heavy_of(name))}
    assert loading == {}


def test_every_module_that_is_listed_as_heavy_is() -> None:
    assert {name for name in HEAVY_MODULES if not heavy_of(name)} == set(), "take it off the list"
    for room in HEAVY_ROOMS:
        assert any(heavy_of(name) for name in modules() if name.startswith(f"recipesearch.{room}."))


def test_importing_the_package_or_asking_for_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, recipesearch.api, recipesearch.search.evolve, recipesearch.checking.needs\n"
        "sys.argv = ['recipesearch', '--help']\n"
        "from recipesearch.cli import main\n"
        "try: main()\n"
        f"finally: print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert done.stderr.strip() == ""


def test_no_two_modules_have_one_name() -> None:
    names = [path.name for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")]
    assert [name for name in names if names.count(name) > 1] == []


def is_heavy(name: str) -> bool:
    return name in HEAVY_MODULES or name.split(".")[1:2] in [[room] for room in HEAVY_ROOMS]


@functools.cache
def modules() -> dict[str, Path]:
    """The package's modules by dotted name; a folder's __init__ by the folder's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ["recipesearch", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def heavy_of(name: str) -> set[str]:
    """The heavy packages that importing a module loads, by way of other modules too."""
    seen, waiting, found = set(), [name], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for target in top_imports(module):
            root = target.split(".")[0]
            if root in HEAVY:
                found.add(root)
            elif root == "recipesearch":
                parts = target.split(".")
                packages = (".".join(parts[:size]) for size in range(1, len(parts) + 1))
                waiting.extend(package for package in packages if package in modules())
    return found


@functools.cache
def top_imports(name: str) -> tuple[str, ...]:
    """Absolute dotted names of what a module imports when it is loaded; for type checking does not count."""
    path = modules()[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return tuple(_imports(ast.parse(path.read_text()), package))


def _imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)
