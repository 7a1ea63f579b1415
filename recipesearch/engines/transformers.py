"""The transformers engine: one model in this process, whose tensors are overwritten by each recipe.

A recipe of another depth gets a new model, which is empty until the recipe's tensors are copied into it. This
takes milliseconds. Padding with identity layers would cost a deep model's time for each answer
(docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig
from transformers.initialization import no_init_weights

from ..errors import TrialFailed
from ..merging.layered import configs, output_config, output_shape, shape
from ..merging.materialize import directories
from ..merging.measure import measure
from ..merging.resident import ResidentParents
from ..merging.stream import Merger
from ..recipe import Parent, Recipe

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class TransformersEngine:
    """Holds the parents and one live model of their architecture.

    ``donor`` gives config and tokenizer. ``threads`` sets torch's thread count for the process, because some
    methods' bits depend on it (None: torch's default).
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        donor: Parent,
        dtype: str,
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int = 64,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device, self._dtype = device, dtype
        folders = directories(dict.fromkeys((*parents, donor)))
        self._merger = Merger(ResidentParents(folders, device), device)
        self._config_of = configs(folders)
        model = AutoModelForCausalLM.from_pretrained(folders[donor], dtype=dtype).to(device).eval()
        self._lm = _as_lm(model, AutoTokenizer.from_pretrained(folders[donor]), batch_size)
        self._generation = model.generation_config
        self._set_model(model)
        self.threads = torch.get_num_threads()
        self.batch_size = batch_size
        self.versions = "/".join(f"{name} {version(name)}" for name in ("mergekit", "torch", "transformers"))

    @property
    def lm(self) -> LM:
        """The live model behind lm-eval's interface; the same object for every recipe."""
        return self._lm

    @torch.no_grad()
    def load(self, recipe: Recipe) -> LM:
        """Overwrites the live model with the recipe's model and returns it.

        Raises TrialFailed if the merge or the model's answer is not finite, if the tensors do not cover the
        model, or if two tensors that the model ties differ: such a checkpoint would load untied. The live
        model is then a mixture, but the next load overwrites every tensor and is not affected.
        """
        self._match_shape(recipe)
        written: dict[int, str] = {}
        for name, tensor in self._merger.stream(recipe):
            if name not in self._targets:
                raise TrialFailed(f"incompatible: the live model has no tensor '{name}'")
            target = self._targets[name]
            if target.shape != tensor.shape:
                raise TrialFailed(
                    f"incompatible: '{name}' is {tuple(tensor.shape)}, not {tuple(target.shape)}"
                )
            twin = written.setdefault(target.data_ptr(), name)
            if twin != name and not torch.equal(target, tensor.to(target)):
                raise TrialFailed(f"incompatible: the live model ties '{twin}' and '{name}', which differ")
            target.copy_(tensor)
        uncovered = [name for name, target in self._targets.items() if target.data_ptr() not in written]
        if uncovered:
            raise TrialFailed(f"incompatible: the merge has no tensor '{min(uncovered)}'")
        self._require_finite_answer()
        return self._lm

    @torch.no_grad()
    def measure(self, recipe: Recipe) -> Mapping[str, float]:
        """Measures of the recipe's merge."""
        return measure(self._merger.stream(recipe))

    def close(self) -> None:
        """Nothing to free: all resources are in this process's memory."""

    def _match_shape(self, recipe: Recipe) -> None:
        """Replaces the live model if its depth or kinds of layers differ from the recipe's."""
        wanted = output_shape(recipe, self._config_of)
        if wanted == self._shape:
            return
        self._set_model(None)  # memory may not suffice for two
        model = _empty(output_config(recipe, self._config_of), self._dtype, self.device)
        model.generation_config = self._generation
        self._set_model(model)

    def _set_model(self, model: Any) -> None:
        """Makes a model the live model. None frees the live model before another one is built."""
        self._model = self._lm._model = model
        self._shape = shape(model.config) if model is not None else None
        self._targets = _targets(model) if model is not None else {}

    def _require_finite_answer(self) -> None:
        """Raises TrialFailed if the model's answer is not finite.

        Finite weights can still overflow, and argmax over NaN logits would look like chance accuracy.
        """
        token = torch.tensor([[self._lm.eot_token_id or 0]], device=self.device)
        if not bool(torch.isfinite(self._model(token).logits).all()):
            raise TrialFailed("non-finite: the merged model answers NaN or Inf")


def _targets(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and persistent buffer by checkpoint name. A tied tensor has several names."""
    return dict(model.state_dict(keep_vars=True))


def _empty(config: PretrainedConfig, dtype: str, device: str) -> Any:
    """A model of a config with uninitialised weights."""
    with no_init_weights(), torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.tie_weights()
    return model.eval()


def _as_lm(model: torch.nn.Module, tokenizer: object, batch_size: int) -> LM:
    from lm_eval.models.huggingface import HFLM

    lm: LM = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    return lm
