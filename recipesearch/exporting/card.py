"""The model card of an exported recipe: Hub metadata, scores with errors, and how to rebuild it."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from ..analysis.trace import Lineage, trace
from ..checking.preflight import Preflight
from ..parents.identify import SCRIPT
from ..plan import FRONT
from ..recipe import Parent, Recipe
from ..report.rows import shown
from ..score import Conditions, Measurement
from ..study.results import Results, Row, conditions_of
from .bundle import all_parents
from .card_lineage import lineage_sections


def model_card(
    checked: Preflight, results: Results, row: Row, recipe_yaml: str, *, stock: bool, script: bool = False
) -> str:
    """The card as Markdown with YAML front matter. ``base_model`` lists the hub parents of all generations.

    ``stock``: stock mergekit can resolve the recipe's references. ``script``: the stock commands are in a
    script of their own.
    """
    plan = checked.plan
    hub = [p.source for p in _origins(checked.pool.parents.values()) if p.revision]
    front = {
        "base_model": list(dict.fromkeys(hub)) or None,
        "base_model_relation": "merge" if hub else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["mergekit", "merge", "recipesearch", "evolutionary-merge"],
    }
    head = yaml.safe_dump({k: v for k, v in front.items() if v is not None}, sort_keys=False)
    conditions = conditions_of(results.identity)
    lineage = trace(checked, results, row)
    among = f" of era '{plan.era}'" if plan.era else ""
    return f"""---
{head}---
# {plan.name}, trial {row.number}

A merge found by recipesearch with sampler
`{results.sampler}`, seed {plan.search.seed}, among {len(results.scored)} scored recipes{among}.

## Scores

{_score_table(results, row)}

Search items chose this recipe among many, so its search scores are optimistic; the held-out items had no
part in the choice. Scored with {conditions.kind} in {conditions.dtype} on {conditions.device}.

## Parents

{_parent_table(checked, lineage)}

{lineage_sections(lineage)}

## Recipe

```yaml
{recipe_yaml.rstrip()}
```

## Rebuild

```
{_rebuild_command(checked, conditions, stock, script)}
```

gives the same tensors bit for bit with the same versions, device and number of threads ({conditions.engine});
`recipesearch verify recipe.yaml` proves it and scores the result again.
"""


def _rebuild_command(checked: Preflight, conditions: Conditions, stock: bool, script: bool) -> str:
    if not stock:
        return "recipesearch merge recipe.yaml -o OUTPUT"
    if script:
        return f"sh {SCRIPT}"
    cuda = " --cuda" if conditions.device == "cuda" else ""
    return f"mergekit-yaml recipe.yaml OUTPUT --random-seed {checked.pool.seed} -j {conditions.threads}{cuda}"


def _score_table(results: Results, row: Row) -> str:
    assert row.values is not None
    lines = ["| objective | search | held out |", "|---|---|---|"]
    for index, name in enumerate(results.objectives):
        held_out = _shown(row.held_out[index]) if row.held_out else "not scored"
        lines.append(f"| {name} | {_shown(row.values[index])} | {held_out} |")
    return "\n".join(lines)


def _shown(measurement: Measurement) -> str:
    return shown(measurement.value, measurement.stderr)


def _parent_table(checked: Preflight, lineage: Lineage) -> str:
    lines = ["| parent | model | content digest |", "|---|---|---|"]
    for name, parent in checked.pool.parents.items():
        lines.append(f"| {name} | {_model(checked, lineage, name)} | `{parent.digest[:16]}` |")
    return "\n".join(lines)


def _model(checked: Preflight, lineage: Lineage, name: str) -> str:
    """A parent's description: its reference, or its trial in an earlier era and the models merged there."""
    reference = checked.plan.parents[name]
    if (member := checked.parents.by_name[name].member) is None:
        node = lineage.nodes.get(checked.pool.parents[name].digest)
        return node.title if node and node.trial is not None else f"`{reference}`"
    merged = ", ".join(f"`{parent.reference}`" for parent in _origins([member.parent]))
    return f"trial {member.trial} of {member.study} ({reference.removeprefix(FRONT)}), a merge of {merged}"


def _origins(parents: Iterable[Parent]) -> list[Parent]:
    """The distinct original models of the parents: the parents themselves, or the models merged into them."""
    found: dict[Parent, None] = {}
    for parent in parents:
        within = all_parents(parent.source) if isinstance(parent.source, Recipe) else [parent]
        found |= dict.fromkeys(p for p in within if not isinstance(p.source, Recipe))
    return list(found)
