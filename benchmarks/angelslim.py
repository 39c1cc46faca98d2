"""AngelSlim's token compressor, of a folder that a user names, on the transformers that is installed.

Its code is neither shipped nor copied here. Only a checkout of github.com/Tencent/AngelSlim has it: the wheels on PyPI
leave `angelslim/compressor/token_compressor` out. It was written for transformers 5.6; two things are put right while
it is imported, and nothing while it runs: the packages around the compressor are entered without their `__init__`,
which import the quantizers' dependencies, and `create_causal_mask` is given its arguments under today's names. What it
prints in every prefill goes nowhere.
"""

import importlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int
from transformers import Cache, PreTrainedModel

COMPRESSOR = "angelslim.compressor.token_compressor"
WRAPPED = {  # its classes for LLaVA, and where their originals are
    "vl_model": ("Prunable_LlavaModel", "model"),
    "text_model": ("Prunable_LlamaModel", "model.language_model"),
    "vision_attn": ("Prunable_CLIPAttention", "model.vision_tower.encoder.layers[n].self_attn"),
    "llm_attn": ("Prunable_LlamaAttention", "model.language_model.layers[n].self_attn"),
}


@dataclass(frozen=True)
class Strategy:
    """One of its methods: `stage` is "global", before layer 0, or the layer behind which it cuts."""

    name: str
    stage: str | int = "global"
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)


def strategies(n_tower_layers: int) -> dict[str, Strategy]:
    """Those of its methods that are in conf/method, by the names there, with the papers' settings."""
    read, middle = -2, int(0.35 * n_tower_layers)  # the layer that LLaVA reads, and HiPrune's of anchors

    def tower(*layers: int) -> dict[str, Any]:
        return {"inputs_embeds": True, "vit_q_layers": list(layers), "vit_k_layers": list(layers)}

    last_text = {"layer_idx": 1, "query_source": {"strategy": "last_text"}}
    pivots = {"layer_idx": 1, "pivot_image_token": 4, "pivot_text_token": 4}
    layers = {"object_layer": middle, "last_vit_layer": read, "alpha": 0.1}
    return {
        "fastv": Strategy("special_token_based_attention", 1, last_text, {"llm_q_layers": [1], "llm_k_layers": [1]}),
        "dart": Strategy("dart", 1, pivots, {"llm_k_layers": [1], "feature_map": True}),
        "visionzip": Strategy("visionzip", params={"layer_idx": read}, needs=tower(read)),
        "divprune": Strategy("divprune", needs={"inputs_embeds": True}),
        "vispruner": Strategy("vispruner", params={"layer_idx": read}, needs=tower(read)),
        "hiprune": Strategy("hiprune", params=layers, needs=tower(middle, read)),
        "scope": Strategy("scope", params={"layer_idx": read}, needs=tower(read)),
    }


class AngelSlim:
    """The compressor of a checkout. Raises FileNotFoundError where the folder has none."""

    def __init__(self, checkout: Path) -> None:
        folder = checkout / COMPRESSOR.replace(".", "/")
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{checkout} has no {COMPRESSOR.replace('.', '/')}: name a checkout of github.com/Tencent/AngelSlim; "
                "its wheels leave that out"
            )
        for name, path in (("angelslim", folder.parents[1]), ("angelslim.compressor", folder.parent)):
            package = ModuleType(name)
            package.__path__ = [str(path)]
            sys.modules[name] = package
        adapter, config, llava = (
            importlib.import_module(f"{COMPRESSOR}.{name}") for name in ("adapter", "base.config", "models.llava")
        )
        llava.create_causal_mask = _under_todays_names(llava.create_causal_mask)
        self._adapter, self._config = adapter.UniversalPruningAdapter, config

    @contextmanager
    def pruning(self, model: PreTrainedModel, strategy: Strategy, keep: float) -> Iterator[None]:
        """Inside the block the model keeps the part `keep` of its visual tokens; prompts come one by one."""
        config = self._config.TokenCompressorConfig(
            self._config.DataRequirements(**strategy.needs),
            {strategy.stage: self._config.StrategyConfig(strategy.name, {**strategy.params, "ratio": 1 - keep})},
        )
        wrapped = [
            {"name": name, "wrapper_module": ".models.llava", "wrapper_class": of, "path": path}
            for name, (of, path) in WRAPPED.items()
        ]
        with redirect_stdout(io.StringIO()):
            adapter = self._adapter(model, config, wrapped)
            adapter.wrap_model()
            try:
                yield
            finally:
                adapter.unwrap_model()


def kept(cache: Cache, ids: Int[np.ndarray, "tokens"], image: int) -> Int[np.ndarray, "kept"]:
    """Which visual tokens the prompt's cache says that it kept, numbered within the prompt."""
    (cut,) = cache.pruning_info.values()
    return np.flatnonzero(cut["mask"].numpy()[ids == image])


def _under_todays_names(create_causal_mask: Callable[..., Any]) -> Callable[..., Any]:
    def called(input_embeds: Any, cache_position: Any, **given: Any) -> Any:
        return create_causal_mask(inputs_embeds=input_embeds, **given)

    return called
