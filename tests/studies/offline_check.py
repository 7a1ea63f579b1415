"""The preflight of a study file without its parents' files and its tasks' data.

A hub model's config is read from ``configs/ORG/NAME.json`` beside the study file, which
``scripts/record_configs.py`` writes. Configs contain no tokens, so aligned parents get the size of the
donor's vocabulary.
"""

import hashlib

from studies.recorded_checkpoint import recorded_checkpoint
from studies.task_metrics import require_metric

from recipesearch.checking.alignment import builder, stated_tokenizer
from recipesearch.checking.members import stand_ins
from recipesearch.checking.parents import KnownParent, Parents, resized
from recipesearch.checking.preflight import Preflight, fit
from recipesearch.parents.identify import identify, is_hub_id
from recipesearch.parents.shapes import shapes
from recipesearch.plan import Plan
from recipesearch.recipe import Parent
from recipesearch.zoo import resolve


def check_offline(plan: Plan, before: Preflight | None) -> Preflight:
    """The plan's preflight; ``before`` is the preflight of the era before. Raises as ``preflight`` does."""
    for goal in (*plan.goals, *plan.held_out_goals):
        require_metric(goal)
    front = stand_ins(plan, before) if before else {}
    found = {
        name: KnownParent(reference, member.parent, member.shapes, member)
        if (member := front.get(reference))
        else _known(plan, reference)
        for name, reference in plan.parents.items()
    }
    tokenizer = stated_tokenizer(plan, {name: known.parent for name, known in found.items()})
    if tokenizer:
        found = resized(found, found[plan.donor].checkpoint.vocabulary)
    return fit(plan, Parents(found, plan.donor), tokenizer)


def _known(plan: Plan, reference: str) -> KnownParent:
    name, _, revision = reference.partition("+")[0].partition("@")
    if resolve(reference) is not None or (plan.folder / name).exists() or not is_hub_id(name):
        parent = identify(reference, plan.folder)
        return KnownParent(reference, parent, shapes(parent, builder(plan.engine.threads)))
    config = plan.folder / "configs" / f"{name}.json"
    assert config.exists(), f"{config} is missing: run scripts/record_configs.py with access to the hub"
    digest = hashlib.sha256(reference.encode()).hexdigest()
    return KnownParent(reference, Parent(digest, name, revision or None), recorded_checkpoint(config))
