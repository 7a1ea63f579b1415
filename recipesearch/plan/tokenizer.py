"""The section ``tokenizer``: one vocabulary for parents that differ in theirs."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..errors import nearest
from .section import Section

# mergekit's own chat templates (mergekit._data.chat_templates); auto takes the most common of the parents'.
TEMPLATES = ("auto", "alpaca", "chatml", "exaone", "llama3", "mistral")


class TokenRowPlan(Section):
    """Where a token's row comes from: ``zero``, or a parent's (``model``) row of another token."""

    kind: Literal["parent", "zero", "model_token"]
    model: str | None = None
    token: str | None = None
    token_id: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _parent_alone(cls, value: Any) -> Any:
        return {"kind": "parent", "model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == "zero") != (self.model is None):
            raise ValueError("name a parent as 'model', unless the kind is zero")
        given = [key for key in (self.token, self.token_id) if key is not None]
        if len(given) != (self.kind == "model_token"):
            raise ValueError("a model_token has exactly one of 'token' and 'token_id', others have none")
        return self


class TokenPlan(Section):
    """One token's embedding for the parents that lack it; with ``force`` for all of them."""

    source: TokenRowPlan
    force: bool = False


class TokenizerPlan(Section):
    """Every recipe's vocabulary, where the parents' differ: mergekit's ``tokenizer``, ``chat_template``."""

    source: Literal["union", "base"] = "union"
    tokens: dict[str, TokenPlan] = Field(default={})
    pad_to_multiple_of: int | None = Field(default=None, ge=1)
    chat_template: str | None = None

    @field_validator("chat_template")
    @classmethod
    def _known_template(cls, template: str | None) -> str | None:
        if (
            template is not None
            and template not in TEMPLATES
            and not ("{" in template and len(template) >= 20)
        ):
            raise ValueError(f"neither a Jinja text nor a known template: {nearest(template, TEMPLATES)}")
        return template
