"""Do a checkpoint's tensors fill the model that its config.json describes? transformers makes up what it misses."""

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from autoprune_lab.models.errors import CheckpointError, one_line
from autoprune_lab.models.headers import Header

DEPTHS = ("num_hidden_layers", "num_layers", "n_layers", "depth")
NAMED = 3  # tensors in a message
PARAMETERS = (".weight", ".bias")  # buffers, such as position_ids, may hold whole numbers


def check_fit(folder: Path, config: Mapping[str, Any], tensors: Header) -> None:
    """Load the tensors' names and shapes into the model without memory, by transformers' own rules.

    `config` is what config.json says. Raises CheckpointError as `refuse_gaps` does, and for a model that cannot be
    made. Says nothing of quantised weights, and nothing where accelerate is not installed: there gaps are found when
    the weights are read.
    """
    for field, depth in _depths(config):
        if depth > len(tensors):  # making so many would take for ever
            raise CheckpointError(
                f"{folder / 'config.json'} says {field}={depth}, but the weights hold {len(tensors)} tensors in all"
            )
    no_floats = [name for name, entry in tensors.items() if name.endswith(PARAMETERS) and not _is_float(entry["dtype"])]
    if no_floats and "quantization_config" not in config:
        raise CheckpointError(
            f"{folder}: {_some(no_floats, 'tensors hold no floating-point numbers')}, but config.json has no "
            "quantization_config"
        )
    import torch
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES
    from transformers import AutoConfig

    try:
        described = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        _check_feature_layer(described)
        if "quantization_config" in config or importlib.util.find_spec("accelerate") is None:
            return
        model_class: Any = CLASSES[type(described)]
        _, info = model_class.from_pretrained(
            None,
            config=described,
            state_dict={name: torch.empty(entry["shape"], device="meta") for name, entry in tensors.items()},
            device_map="meta",
            attn_implementation="eager",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # a stranger's numbers, anywhere in transformers
        raise CheckpointError(
            f"{folder / 'config.json'} describes no model that can be made: {one_line(error)}"
        ) from error
    refuse_gaps(folder, info)


def _check_feature_layer(described: Any) -> None:
    """Raise ValueError where the vision features come from a layer that the tower does not have."""
    depth = getattr(getattr(described, "vision_config", None), "num_hidden_layers", None)
    wanted = getattr(described, "vision_feature_layer", None)
    for layer in wanted if isinstance(wanted, list | tuple) else [wanted]:
        if isinstance(layer, int) and isinstance(depth, int) and not -depth <= layer <= depth:
            raise ValueError(f"vision_feature_layer is {layer}, and the tower has {depth} layers")


def refuse_gaps(folder: Path, info: Mapping[str, Collection[Any]]) -> None:
    """Raise CheckpointError unless every parameter was read and every tensor used.

    `info`: what `from_pretrained(output_loading_info=True)` gives. Tied weights, and buffers that older versions
    saved, are not in it.
    """
    gaps = [
        _some(sorted(info["missing_keys"]), "tensors are missing"),
        _some([f"{name} is {_by(held)}, not {_by(wanted)}" for name, held, wanted in sorted(info["mismatched_keys"])],
              "have another shape than config.json says"),
        _some(sorted(info["unexpected_keys"]), "are not of this model"),
        _some(sorted(map(one_line, info.get("error_msgs", ()))), "cannot be converted"),
    ]  # fmt: skip
    if told := "; ".join(gap for gap in gaps if gap):
        raise CheckpointError(
            f"{folder}: {told}. What is missing would be filled at random: mend the checkpoint; model.strict=false "
            "(load_model: strict=False) loads it all the same"
        )


def _is_float(dtype: str) -> bool:
    """By safetensors' name of it: F32, BF16, F8_E4M3, ..., and not I8, U8, BOOL or C64."""
    return dtype.startswith(("F", "BF"))


def _some(names: list[str], what: str) -> str:
    """How many they are, and the first few."""
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"


def _by(shape: Collection[int]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def _depths(config: Mapping[str, Any], levels: int = 3) -> Iterator[tuple[str, int]]:
    """Numbers of layers, in the config and so many levels of its parts."""
    for field, value in config.items():
        if isinstance(value, Mapping) and levels:
            yield from _depths(value, levels - 1)
        elif field in DEPTHS and isinstance(value, int):
            yield field, value
