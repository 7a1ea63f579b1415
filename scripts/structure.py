"""Measures the structure of a checkout of this project, or of two checkouts side by side.

    python scripts/structure.py [FOLDER]
    python scripts/structure.py BEFORE AFTER

FOLDER defaults to the checkout of this script. Prints a Markdown table. Nothing is imported: all figures come
from the source files. Entries are the folders and modules at the top of the package, without ``__init__.py``
and ``__main__.py``. An arrow is a pair of entries, the first of which imports the second; imports for type
checking and lazy imports (inside functions) count. A cycle is a strongly connected component of more than one
entry. Functions, files and file names are those of the package; lines include comments and blank lines.
"""

from __future__ import annotations

import argparse
import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from markdown_tables import table_head, table_row

LONG = 60  # lines of a function
_UNCOUNTED = ("__init__.py", "__main__.py")
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef

Trees = Mapping[Path, ast.Module]  # a package's modules, by their paths within the package
Arrow = tuple[str, str]  # the importing entry, the imported entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    folders = parser.parse_args().folders or [Path(__file__).resolve().parents[1]]
    if len(folders) > 2:
        parser.error("give one folder, or two folders to compare")
    measured = [measure(folder) for folder in folders]
    print(table_head("", *(["before", "after"] if len(folders) == 2 else [folders[0].resolve().name])))
    for name in measured[0]:
        print(table_row(name, *(figures[name] for figures in measured)))


def measure(folder: Path) -> dict[str, str]:
    """The figures of a checkout, by their names in the table."""
    package = _package(folder)
    texts = {path.relative_to(package): path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {name: _lines(folder / name) for name in (package.name, "tests", "scripts")}
    rooms = {path.parts[0] for path in trees if len(path.parts) > 1}
    found = arrows(trees, package.name)
    functions = [*_functions(trees)]
    return {
        "entries at the top of the package": f"{len(_entries(trees))}",
        "rooms (folders)": f"{len(rooms)}",
        "files of the package": f"{len(trees)}",
        "lines of the package": f"{lines[package.name]}",
        "lines of tests": f"{lines['tests']}",
        "lines of scripts": f"{lines['scripts']}",
        "lines of the package per line of scripts": f"{lines[package.name] / max(lines['scripts'], 1):.1f}",
        "import arrows between entries": f"{len(found)}",
        "arrows by lazy imports alone": f"{sum(found.values())}",
        "cycles among entries": _listed(" ".join(sorted(cycle)) for cycle in cycles(found)),
        f"functions over {LONG} lines": f"{sum(length > LONG for length, _ in functions)}",
        "longest function": _longest(functions),
        "longest file": _longest((len(text.splitlines()), str(path)) for path, text in texts.items()),
        "file names that occur twice": _listed(_repeated(trees)),
        "test functions": f"{_tests(folder / 'tests')}",
    }


def arrows(trees: Trees, package: str) -> dict[Arrow, bool]:
    """Which entry imports which other entry, and whether only lazy imports do."""
    entries = _entries(trees)
    found: dict[Arrow, bool] = {}
    for path, tree in trees.items():
        importer = _entry(path)
        for node, lazy in _imports(tree):
            for name in _names(node, [package, *path.parts[:-1]]):
                root, *rest = name.split(".")
                if root == package and rest and importer in entries and rest[0] in entries - {importer}:
                    arrow = importer, rest[0]
                    found[arrow] = found.get(arrow, True) and lazy
    return found


def cycles(found: Collection[Arrow]) -> list[frozenset[str]]:
    """The strongly connected components of more than one entry."""
    reached: dict[str, set[str]] = {name: set() for arrow in found for name in arrow}
    for importer, imported in found:
        reached[importer].add(imported)
    for between in reached:
        for names in reached.values():
            if between in names:
                names |= reached[between]
    groups = {frozenset(b for b in reached[a] if a in reached[b]) for a in reached if a in reached[a]}
    return sorted(groups, key=sorted)


def _package(folder: Path) -> Path:
    found = [path.parent for path in sorted(folder.glob("*/__init__.py"))]
    packages = [path for path in found if path.name not in ("tests", "scripts")]
    if len(packages) != 1:
        names = ", ".join(path.name for path in packages) or "none"
        raise SystemExit(f"{folder}: expected one package (a folder with __init__.py), found {names}")
    return packages[0]


def _entries(trees: Trees) -> set[str]:
    return {_entry(path) for path in trees if str(path) not in _UNCOUNTED}


def _entry(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def _imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import below a node, and whether a function contains the import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, lazy
        else:
            yield from _imports(child, lazy or isinstance(child, _FUNCTIONS))


def _names(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """The absolute dotted names that an import in a module of the package may mean."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        base = package[: len(package) - node.level + 1] if node.level else []
        yield from (".".join(filter(None, [*base, node.module, alias.name])) for alias in node.names)


def _functions(trees: Trees) -> Iterator[tuple[int, str]]:
    """The lines of each function, and its place."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{path} {node.name}"


def _repeated(trees: Trees) -> list[str]:
    names = Counter(path.name for path in trees if path.name != "__init__.py")
    return sorted(name for name, count in names.items() if count > 1)


def _tests(folder: Path) -> int:
    nodes = (n for path in folder.rglob("test_*.py") for n in ast.walk(ast.parse(path.read_text("utf-8"))))
    return sum(isinstance(node, _FUNCTIONS) and node.name.startswith("test_") for node in nodes)


def _lines(folder: Path) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py"))


def _longest(lengths: Iterable[tuple[int, str]]) -> str:
    lines, name = max(lengths, default=(0, "none"))
    return f"{name}, {lines} lines"


def _listed(names: Iterable[str]) -> str:
    """How many names, and the names."""
    shown = list(names)
    return f"{len(shown)}: {', '.join(shown)}" if shown else "0"


if __name__ == "__main__":
    main()
