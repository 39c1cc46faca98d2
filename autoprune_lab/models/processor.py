"""The processor of a checkpoint, with stock classes; still pictures need no torchvision even where videos would."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.errors import CheckpointError, one_line

if TYPE_CHECKING:
    from transformers import ProcessorMixin


def stock_processor(folder: Path, trust_remote_code: bool = False) -> "ProcessorMixin":
    """The folder's processor, padding on the left.

    Raises CheckpointError, in one line, when it cannot be made or has no tokenizer or no image processor.
    """
    from transformers import AutoProcessor

    kind = _video_class(folder)
    try:
        loader = AutoProcessor if kind is None else for_pictures(kind)
        processor = loader.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot make the processor of {folder}: {one_line(error)}") from error
    for part in ("tokenizer", "image_processor"):
        if getattr(processor, part, None) is None:
            raise CheckpointError(f"{folder} has no {part}: are preprocessor_config.json and tokenizer.json there?")
    processor.tokenizer.padding_side = "left"
    return processor


def for_pictures(kind: type["ProcessorMixin"]) -> type["ProcessorMixin"]:
    """The same processor class without its video processor, which transformers cannot make without torchvision."""
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin

    parts = {"image_processor": AutoImageProcessor, "tokenizer": AutoTokenizer}

    def load_parts(cls: Any, path: Any, processor_dict: Any = None, **options: Any) -> list[Any]:
        return [parts[name].from_pretrained(path, **options) if name in parts else None for name in _parts_of(kind)]

    def check(self: Any, name: str, part: Any) -> Any:
        return type(None) if part is None else kind.check_argument_for_proper_class(self, name, part)

    changed = {
        "_get_arguments_from_pretrained": classmethod(load_parts),
        "check_argument_for_proper_class": check,
        "apply_chat_template": ProcessorMixin.apply_chat_template,  # SmolVLM's own asks the video processor
    }
    return type(kind.__name__, (kind,), changed)


def _parts_of(kind: type["ProcessorMixin"]) -> list[str]:
    names: list[str] = kind.get_attributes()
    return names


def _video_class(folder: Path) -> type["ProcessorMixin"] | None:
    """The stock class of the folder's model type if it wants a video processor that cannot be made here."""
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name
    from transformers.utils import is_torchvision_available

    if is_torchvision_available():
        return None
    try:
        name = PROCESSOR_MAPPING_NAMES.get(AutoConfig.from_pretrained(folder).model_type)
    except (OSError, ValueError):
        return None
    kind = processor_class_from_name(name) if name else None
    return kind if kind is not None and "video_processor" in _parts_of(kind) else None
