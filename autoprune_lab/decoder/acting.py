"""Acting: a session of a model that answers in actions: its prompts come as embeddings, its expert runs in passes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from autoprune_lab.decoder.cache import as_held, cache_of, pruned_of
from autoprune_lab.decoder.expert import Expert, Pass
from autoprune_lab.decoder.session import Session


class Acting:
    """One with-block on one model with an expert."""

    def __init__(self, session: Session, expert: Expert) -> None:
        self.session, self.expert = session, expert
        self.embedded: tuple[dict[str, Any], Tensor] | None = None  # of what, and what became of it
        self.one: Pass | None = None

    def embed(self, embed: Callable[..., Tensor], arguments: dict[str, Any]) -> Tensor:
        """The model makes embeddings of prompts, which the vision-language model inside is to read next."""
        with self.session.turn():
            self.session.look(arguments.get("pixel_attention_mask"))
            embeds = embed(**arguments)
            self.embedded = arguments, embeds
        return embeds

    def read(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run the forward of the vision-language model inside; what its embeddings were made of is known."""
        embedded, self.embedded = self.embedded, None
        if embedded is None or embedded[1] is not arguments.get("inputs_embeds"):
            return self.session.call(forward, arguments)
        told = embedded[0] | arguments | {"mm_encoder_outputs": self.session.made()}
        return self.session.call(lambda **_: forward(**arguments), told)

    def act(self, forward: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Run the expert's forward, on a cache that the prompt's own decoder has filled."""
        with self.session.turn():
            cache = cache_of(arguments)
            pruned = None if cache is None else pruned_of(cache)
            if pruned is not None:
                pruned = as_held(pruned, cache, len(arguments["inputs_embeds"]))
            self.session.go_on(pruned is not None)
            self.one = Pass(pruned)
            try:
                output = forward(**arguments)
            finally:
                entered, self.one = self.one.entered, None
            if len(entered) < len(self.expert.layers):
                raise ValueError(
                    f"{len(entered)} of {len(self.expert.layers)} layers of the action expert ran under the pruner: "
                    "code compiled earlier skips the others; attach to the model before anything of it is compiled"
                )
        return output

    def enter(self, layer: int, kwargs: dict[str, Any]) -> dict[str, Any]:
        """What the expert's layer `layer` gets instead of `kwargs`."""
        if self.one is None:
            raise ValueError(
                "a layer of the action expert ran outside its model's forward call: call the attached model itself"
            )
        return self.one.enter(layer, kwargs)
