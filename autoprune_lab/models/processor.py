"""The processor of a checkpoint, with stock classes; still pictures need no torchvision even where videos would."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune_lab.models.actor import TEMPLATE, answers_in_actions, check_statistics
from autoprune_lab.models.errors import CheckpointError, is_of_code, one_line
from autoprune_lab.models.folder import read_json

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

LLAVA = ("llava", "llava_next", "llava_next_video", "llava_onevision")
OWN = "processor_config.json"
NO_TORCHVISION = "needs torchvision, even for pictures, and it is not installed: pip install torchvision"
TORCHVISION_ALONE = ("PI0Processor",)  # transformers has their pictures on no other backend
CLASS_TOKENS = {"clip_vision_model": 1, "siglip_vision_model": 0}  # beside the patches


def stock_processor(folder: Path, trust_remote_code: bool = False) -> "ProcessorMixin":
    """The folder's processor, padding on the left.

    A LLaVA processor from before it expanded image tokens gets what config.json knows of them. Raises
    CheckpointError, in one line, when it cannot be made, contradicts config.json, or has no tokenizer or no image
    processor.
    """
    from transformers import AutoProcessor

    kind = _class_without_torchvision(folder)
    try:
        loader = AutoProcessor if kind is None else for_pictures(kind, _pictures_of(kind))
        processor = loader.from_pretrained(folder, trust_remote_code=trust_remote_code)
        _complete(processor, folder, trust_remote_code)
    except CheckpointError:
        raise
    except Exception as error:  # a stranger's files, some of them read by other languages' code
        if kind is not None and isinstance(error, AttributeError):  # MiniCPM-V's asks its part for videos
            raise CheckpointError(f"{kind.__name__} {NO_TORCHVISION}") from error
        if is_of_code(error, trust_remote_code):
            raise
        for file in sorted(folder.glob("*.json")):
            read_json(file)  # names the one that is broken
        raise CheckpointError(f"cannot make the processor of {folder}: {one_line(error)}") from error
    for part in ("tokenizer", "image_processor"):
        if getattr(processor, part, None) is None:
            raise CheckpointError(f"{folder} has no {part}: are preprocessor_config.json and tokenizer.json there?")
    processor.tokenizer.padding_side = "left"
    return processor


def refuse_videos(processor: Any) -> None:
    """Raise CheckpointError, naming the processor, where it has no part for videos or that part was not made."""
    if getattr(processor, "video_processor", None) is not None:
        return
    name = type(processor).__name__
    if "video_processor" in _parts_of(type(processor)):
        raise CheckpointError(
            f"{name} shows videos only with torchvision, which is not installed: pip install torchvision"
        )
    raise CheckpointError(
        f"{name} takes no videos: give frames as a list of images, or take a model whose processor has a video part, "
        "such as model=qwen2_5_vl_7b"
    )


def _complete(processor: "ProcessorMixin", folder: Path, trust_remote_code: bool) -> None:
    """Give a LLaVA processor what its own file leaves out and config.json knows; refuse what differs.

    One that answers in actions words its prompts itself.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if answers_in_actions(processor):
        check_statistics(folder, processor, config)
        processor.chat_template = TEMPLATE
    if config.model_type not in LLAVA:
        return
    said = read_json(folder / OWN) if (folder / OWN).exists() else {}
    takes = inspect.signature(type(processor).__init__).parameters
    for name, value in _image_tokens(config).items():
        if name in takes and said.get(name) is None:
            if value is None:
                raise CheckpointError(
                    f"{folder / OWN} lacks {name}, and config.json does not tell: its tower is "
                    f"{config.vision_config.model_type!r}"
                )
            setattr(processor, name, value)
        elif name in takes and value is not None and said[name] != value:
            raise CheckpointError(f"{folder / OWN} says {name}={said[name]!r:.40}, where config.json means {value!r}")


def _image_tokens(config: "PretrainedConfig") -> dict[str, Any]:
    """How a LLaVA model counts the tokens of a picture; None for what its config does not tell."""
    tower = config.vision_config
    return {
        "patch_size": tower.patch_size,
        "num_additional_image_tokens": CLASS_TOKENS.get(tower.model_type),
        "num_image_tokens": (tower.image_size // tower.patch_size) ** 2,
        "vision_feature_select_strategy": config.vision_feature_select_strategy,
    }


def for_pictures(kind: type["ProcessorMixin"], pictures: Any = None) -> type["ProcessorMixin"]:
    """The same processor class without its video processor, which transformers cannot make without torchvision.

    `pictures`: a class for its image processor, where that cannot be made either.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin

    parts: dict[str, Any] = {"image_processor": pictures or AutoImageProcessor, "tokenizer": AutoTokenizer}

    def load_parts(cls: Any, /, path: Any, processor_dict: Any = None, **options: Any) -> list[Any]:
        return [parts[name].from_pretrained(path, **options) if name in parts else None for name in _parts_of(kind)]

    def check(self: Any, name: str, part: Any) -> Any:
        if part is None or type(part) is pictures:
            return type(part)
        return kind.check_argument_for_proper_class(self, name, part)  # type: ignore[no-untyped-call]

    changed = {
        "_get_arguments_from_pretrained": classmethod(load_parts),
        "check_argument_for_proper_class": check,
        "apply_chat_template": ProcessorMixin.apply_chat_template,  # SmolVLM's own asks the video processor
    }
    return type(kind.__name__, (kind,), changed)


def _parts_of(kind: type["ProcessorMixin"]) -> list[str]:
    names: list[str] = kind.get_attributes()  # type: ignore[no-untyped-call]
    return names


def _pictures_of(kind: type["ProcessorMixin"]) -> Any:
    """Our own class for its pictures; None: transformers has one that needs no torchvision."""
    if kind.__name__ not in TORCHVISION_ALONE:
        return None
    from autoprune_lab.models.pi0_pictures import PI0ImageProcessor

    return PI0ImageProcessor


def _class_without_torchvision(folder: Path) -> type["ProcessorMixin"] | None:
    """The stock class of the folder's model type if a part of it, for videos or for pictures, cannot be made here.

    Raises CheckpointError where the class itself needs torchvision.
    """
    from transformers import AutoConfig
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES as NAMES  # type: ignore[attr-defined]
    from transformers.models.auto.processing_auto import processor_class_from_name
    from transformers.utils.import_utils import is_torchvision_available

    if is_torchvision_available():
        return None
    try:
        name = NAMES.get(AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type)
    except Exception:  # told where the config itself is checked, or of a model with its own code
        return None
    kind = processor_class_from_name(name) if name else None
    try:
        lacks = kind is not None and ("video_processor" in _parts_of(kind) or kind.__name__ in TORCHVISION_ALONE)
        return kind if lacks else None
    except ImportError as error:  # a class that stands in for one which cannot be imported
        raise CheckpointError(f"{name} {NO_TORCHVISION}") from error
