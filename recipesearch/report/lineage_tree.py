"""A lineage as a tree of text, for the terminal and the model card. Light: no plots.

A model's own parents are below it the first time it comes, and "see above" after that: over eras a tree of
all paths would be exponential.
"""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ..analysis.trace import Lineage, Node

_WIDE = 10_000  # columns: nothing is wrapped


def tree(lineage: Lineage) -> Tree:
    """The lineage as a tree: the trial at its top, each model's parents below it by falling share."""
    top = Tree(_whole(lineage.root, ""))
    # Depth first and in order, so that what was shown stands above.
    made_of = lineage.family.made_of
    waiting = [(top, edge) for edge in reversed(made_of(lineage.root.digest))]
    shown = {lineage.root.digest}
    while waiting:
        branch, edge = waiting.pop()
        node = lineage.nodes[edge.parent]
        # A mutant is all of one model: no share to tell.
        share = "" if lineage.nodes[edge.child].kind == "mutant" else f"{percent(edge.share)} "
        if node.digest in shown:
            branch.add(Text(f"{share}{node.title}" + ("" if node.kind == "initial" else " (see above)")))
            continue
        shown.add(node.digest)
        below = branch.add(_whole(node, share))
        waiting += [(below, one) for one in reversed(made_of(node.digest))]
    return top


def tree_text(lineage: Lineage) -> str:
    """The tree as plain text, its lines as long as they are."""
    stream = io.StringIO()
    Console(file=stream, width=_WIDE, color_system=None).print(tree(lineage))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def percent(share: float) -> str:
    """A parent's share for people: ``62%``, ``<1%``; ``base`` where it only gives the origin."""
    if share == 0:
        return "base"
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def scores(node: Node) -> str:
    """A node's values in one line, a mutant's with those it was judged against: ``math 0.557 -> 0.720``."""
    said = []
    for name, value in node.scores.items():
        before = f"{node.before[name]:.3f} -> " if name in node.before else ""
        said.append(f"{name} {before}{value:.3f}")
    return ", ".join(said)


def _whole(node: Node, prefix: str) -> Text:
    """Name and label, and the scores in a line below."""
    text, values = Text(prefix + node.label), scores(node)
    return text.append(f"\n{values}", style="dim") if values else text
