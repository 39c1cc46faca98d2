"""Which tokens of a prompt stand for pictures: by a model's own config, or by marks that come with the prompt."""

from typing import Any

_NAMES = (("image_token_id", "image_token_index"), ("video_token_id", "video_token_index"))
"""How transformers' configs name the token of an image, and that of a video."""

MARKS = "image_embeds_position_mask"
"""The argument that tells a model without such a token where its pictures go (Kosmos-2): (batch, tokens), 1 there."""


def prompt_config(config: Any) -> Any:
    """The part of a model's config that is of the model inside that reads prompts (pi0's); else the config itself."""
    return getattr(config, "vlm_config", config)


def visual_token_ids(config: Any) -> tuple[int, ...]:
    """The ids of the tokens that images and videos become, the image's first; empty where `config` names none.

    Some families have one id for both (Molmo 2), or write a video's frames with the image's (SmolVLM, InternVL).
    """
    config = prompt_config(config)
    given = (next((i for name in names if (i := getattr(config, name, None)) is not None), None) for names in _NAMES)
    return tuple(dict.fromkeys(int(token) for token in given if token is not None))
