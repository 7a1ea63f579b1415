"""The section ``tokenizer``: one shared vocabulary for parents with different ones."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..errors import nearest
from .section import Section

# mergekit's chat templates (mergekit._data.chat_templates); auto takes the parents' most common template.
TEMPLATES = ("auto", "alpaca", "chatml", "exaone", "llama3", "mistral")


class TokenRowPlan(Section):
    """The source of a token's embedding row.

    ``zero`` is a row of zeros, ``parent`` the row of the parent ``model``, ``model_token`` that parent's row
    of another token.
    """

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
            raise ValueError(
                "a model_token needs exactly one of 'token' and 'token_id'; other kinds need none"
            )
        return self


class TokenPlan(Section):
    """One token's embedding for the parents that lack the token; with ``force``, for all parents."""

    source: TokenRowPlan
    force: bool = False


class TokenizerPlan(Section):
    """The vocabulary of every recipe (mergekit's ``tokenizer`` and ``chat_template``)."""

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
            raise ValueError(f"not a Jinja template and not a known name: {nearest(template, TEMPLATES)}")
        return template
