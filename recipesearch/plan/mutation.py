"""The section ``mutation``: how winners are fine-tuned into new parents, and over how many eras."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt, model_validator

from ..errors import nearest
from .eras import MOST_ERAS
from .objective import ObjectivePlan
from .section import BadKey, Section

# The settings that determine an adapter. The others concern the gate and the loop.
TRAINING = (
    "kind", "chosen", "pairs", "samples", "temperature", "beta", "learning_rate", "steps", "batch", "rank",
    "max_length", "max_margin", "max_kl",
)  # fmt: skip


class VariantPlan(Section):
    """A fine-tuned variant of a parent for the first population.

    ``of`` is the parent's name in the study file. ``preference`` items and ``settings`` (such as the learning
    rate) replace those of the section ``mutation``.
    """

    of: str
    preference: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)


class MutationPlan(Section):
    """How a recipe's model is fine-tuned into a mutant, when the mutant is accepted, and the loop around it.

    Mining: the model gives ``samples`` answers to each preference item, the first greedy, the others drawn at
    ``temperature``. The answers yield ``pairs``. Training: a LoRA of ``rank`` on every linear layer learns
    from the pairs for ``steps`` steps of ``batch`` pairs. Training stops early beyond ``max_margin`` (of
    DPO's rewards) or ``max_kl`` (nats per token, from the model before training). Gate: a mutant is accepted
    if at least one objective improves with p < ``significance`` / number of objectives, and no objective and
    no task of ``monitor`` gets worse by more than ``tolerance``.

    Each of ``eras`` chooses ``elites`` from its results, a share ``random`` of them at random, and mutates
    ``mutants`` of the elites. The next era has at most ``pool`` parents; ``control`` is the rule by which
    parents are dropped. Its seeds include ``immigrants`` random recipes and the averages of ``mates`` pairs
    of complementary parents. With ``perturb`` a winner inherits the settings of the mutant with the largest
    share in it, and these settings change by factors of exp(N(0, perturb^2)). The first era's parents are
    those of the study file and the fine-tuned ``variants`` of them, by name.
    """

    kind: Literal["dpo", "sft"] = "dpo"
    chosen: Literal["reference", "best"] = "reference"
    pairs: int = Field(default=256, ge=8)
    samples: PositiveInt = 4
    temperature: PositiveFloat = 1.0
    beta: PositiveFloat = 0.1
    learning_rate: PositiveFloat = 1e-4
    steps: PositiveInt = 60
    batch: PositiveInt = 16
    rank: PositiveInt = 16
    max_length: PositiveInt = 1024
    max_margin: PositiveFloat = 20.0
    max_kl: PositiveFloat = 0.3
    monitor: tuple[ObjectivePlan, ...] = ()
    significance: float = Field(default=0.05, gt=0, lt=1)
    tolerance: FiniteFloat = Field(default=0.05, ge=0)
    eras: int = Field(default=1, ge=1, le=MOST_ERAS)
    elites: PositiveInt = 4
    random: float = Field(default=0.25, ge=0, le=1)
    mutants: int = Field(default=2, ge=0)
    pool: int = Field(default=8, ge=2)
    control: Literal["niching", "none"] = "niching"
    immigrants: int = Field(default=4, ge=0)
    mates: int = Field(default=2, ge=0)
    perturb: float = Field(default=0.0, ge=0, le=2)
    variants: dict[str, VariantPlan] = Field(default_factory=dict)

    def of_variant(self, name: str) -> MutationPlan:
        """The mutation settings of one variant. Raises ValueError for an invalid setting."""
        whole = self.model_dump(exclude={"variants"})
        return MutationPlan.model_validate({**whole, **self.variants[name].settings})

    @model_validator(mode="after")
    def _variants_can_be_made(self) -> Self:
        for name, variant in self.variants.items():
            for key in variant.settings:
                if key not in TRAINING:
                    raise BadKey(f"variants.{name}.settings.{key}", nearest(key, TRAINING), unknown=True)
            self.of_variant(name)
        return self
