"""A lineage as a tree of text, for the terminal and the model card. Light: no plots.

A model's parents are below the model where it first appears; later appearances say "see above". A tree of all
paths would grow exponentially with the number of eras.
"""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ..analysis.trace import Lineage, Node

_WIDE = 10_000  # columns, so that no line is wrapped


def tree(lineage: Lineage) -> Tree:
    """The lineage as a tree: the trial at the root, each model's parents below it by descending share."""
    top = Tree(_whole(lineage.root, ""))
    # Depth first, in the order of the lines, so that "see above" is true.
    made_of = lineage.family.made_of
    waiting = [(top, edge) for edge in reversed(made_of(lineage.root.digest))]
    shown = {lineage.root.digest}
    while waiting:
        branch, edge = waiting.pop()
        node = lineage.nodes[edge.parent]
        # A mutant comes from a single model, so a share would say nothing.
        share = "" if lineage.nodes[edge.child].kind == "mutant" else f"{percent(edge.share)} "
        if node.digest in shown:
            branch.add(Text(f"{share}{node.title}" + ("" if node.kind == "initial" else " (see above)")))
            continue
        shown.add(node.digest)
        below = branch.add(_whole(node, share))
        waiting += [(below, one) for one in reversed(made_of(node.digest))]
    return top


def tree_text(lineage: Lineage) -> str:
    """The tree as plain text, without line wrapping."""
    stream = io.StringIO()
    Console(file=stream, width=_WIDE, color_system=None).print(tree(lineage))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def percent(share: float) -> str:
    """A parent's share as text: ``62%``, ``<1%``, or ``base`` for a base that is only the origin."""
    if share == 0:
        return "base"
    return f"{share:.0%}" if share >= 0.005 else "<1%"


def scores(node: Node) -> str:
    """A node's scores in one line; a mutant's with the scores of its source: ``math 0.557 -> 0.720``."""
    said = []
    for name, value in node.scores.items():
        before = f"{node.before[name]:.3f} -> " if name in node.before else ""
        said.append(f"{name} {before}{value:.3f}")
    return ", ".join(said)


def _whole(node: Node, prefix: str) -> Text:
    """The prefix and the node's label, and the scores in the next line."""
    text, values = Text(prefix + node.label), scores(node)
    return text.append(f"\n{values}", style="dim") if values else text
