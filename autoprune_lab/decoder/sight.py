"""Sight: what evidence may ask of the vision tower in one call, carried to the visual tokens, once it is asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.layout import Prompt
from autoprune_lab.decoder.meter import share
from autoprune_lab.decoder.places import Places, UnknownPlacesError, places, told
from autoprune_lab.decoder.tower import Call, Read, Tower
from autoprune_lab.evidence.evidence import TowerLayer
from autoprune_lab.evidence.transfer import upload

KINDS = ("image", "video")


@dataclass(eq=False)
class Shown:
    """Images, or videos, of one call: what the model was told of them, the watched layers' calls, and what came out."""

    given: Mapping[str, Any] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    output: Any = None


class Sight:
    """`shown` and `features` (what was computed before the call) by kind; `input_ids` (batch, positions)."""

    def __init__(
        self,
        anatomy: Anatomy,
        tower: Tower | None,
        prompt: Prompt,
        input_ids: Tensor,
        shown: Mapping[str, Shown],
        features: Mapping[str, Any],
    ) -> None:
        self.anatomy, self.tower, self.prompt, self.ids = anatomy, tower, prompt, input_ids
        self.shown, self.features = shown, features
        self._flops, self._made = 0, dict[Any, Tensor]()
        self._places = dict[str, Places]()

    def grid(self) -> Int[Tensor, "tokens 4"]:
        """(picture, t, h, w) of all tokens of the batch that stand for a picture, row by row; see `Evidence.grid`."""
        return self._once("grid", lambda: upload(torch.from_numpy(self.host_grid), self.ids.device))

    @cached_property
    def host_grid(self) -> Int[np.ndarray, "tokens 4"]:
        """The same on the host, where it was made."""
        return self._grid().numpy()

    def attention(self, layer: TowerLayer) -> Tensor:
        """(tokens,): see `Evidence.tower_attention`."""
        return self._read("attention", layer)[:, 0]

    def wide_attention(self, layer: TowerLayer) -> Tensor:
        """(tokens,): see `Evidence.wide_attention`."""
        return self._read("wide_attention", layer)[:, 0]

    def received(self, layer: TowerLayer) -> Tensor:
        """(tokens,): see `Evidence.tower_received`."""
        tower = self.tower
        return self._read("received" if tower is not None and tower.has_cls else "attention", layer)[:, 0]

    def features_of(self, layer: TowerLayer) -> Tensor:
        """(tokens, width): see `Evidence.tower_features`."""
        return self._read("features", layer)

    def keys(self, layer: TowerLayer) -> Tensor:
        """(tokens, width): see `Evidence.tower_keys`."""
        return self._read("keys", layer)

    def mean_keys(self, layer: TowerLayer) -> Tensor:
        """(tokens, dim): see `Evidence.mean_keys`."""
        return self._read("mean_keys", layer)

    def take_flops(self) -> Int[np.ndarray, "batch"]:
        """What was spent since the last call of this function, shared among samples by their visual tokens."""
        spent, self._flops = self._flops, 0
        return np.array(share(spent, self.prompt.n_pictured.tolist()), dtype=np.int64)

    def _once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _grid(self) -> Tensor:
        place = self._joined(lambda kind: self._placed(kind).place())
        kind = self._is_video.cpu() if self._mixed else torch.zeros(len(place), dtype=torch.bool)
        picture = torch.stack([place[:, 0], kind], dim=1)
        change = (picture.diff(dim=0) != 0).any(1).long()
        number = torch.cat([change.new_zeros(min(len(place), 1)), change.cumsum(0)])
        n = torch.from_numpy(self.prompt.n_pictured)
        first = number[(n.cumsum(0) - n).clamp(max=max(len(number) - 1, 0))] if len(number) else n
        place[:, 0] = number - first.repeat_interleave(n)
        return place

    def _read(self, what: str, layer: TowerLayer) -> Tensor:
        def of(kind: str) -> Tensor:
            kept = getattr(self._feature(kind), "tower_attention", None)
            if kept is not None and what == "attention" and layer is None and not self._calls(kind):
                values: Tensor = kept[0]
                self._flops += kept[1]
                return values
            tower, number = self._tower(), self._number(layer)
            placed, call = self._placed(kind), self._call(kind, number)
            read: Read = getattr(tower, f"{what}_of")(call, number)
            # The [CLS] row of the layer that the decoder reads has never been charged: figures go on from there.
            free = what == "attention" and layer is None and tower.has_cls
            self._flops += 0 if free else read.flops
            return placed.carry(read.values)

        return self._once((what, layer), lambda: self._joined(of))

    def _joined(self, of: Callable[[str], Tensor]) -> Tensor:
        """One row a token: `of` images and `of` videos, in the prompt's order, repeated for beams."""
        kinds = [kind for kind, there in zip(KINDS, self._there, strict=True) if there]
        if kinds == ["image"] and self._saw_video:
            name = type(self.anatomy.model).__name__
            raise UnknownPlacesError(
                f"places of visual tokens are not known for {name}: frames of its videos carry the image's token; give "
                "pictures alone, or choose what needs neither grid nor tower"
            )
        if not kinds:  # text alone
            return torch.empty(0, 4, dtype=torch.long)
        parts = {kind: per_beam(of(kind), self._counts(kind), type(self.anatomy.model).__name__) for kind in kinds}
        if len(kinds) == 1:
            return parts[kinds[0]].clone()
        image, video = parts.values()
        films = self._is_video.to(image.device)
        joined = image.new_empty(len(films), *image.shape[1:])
        joined[~films], joined[films] = image, video
        return joined

    @property
    def _is_video(self) -> Tensor:
        ids = self.ids[self.prompt.pictured]
        return ids == self.anatomy.visual_ids[1] if len(self.anatomy.visual_ids) > 1 else torch.zeros_like(ids).bool()

    @property
    def _there(self) -> tuple[bool, bool]:
        n = int(self.prompt.n_pictured.sum())
        if not self._mixed:
            return n > 0, False  # the device is not waited for
        n_films = int(self._is_video.sum())
        return n > n_films, n_films > 0

    @property
    def _mixed(self) -> bool:
        """May there be videos among the images, whose tokens are told apart?"""
        return len(self.anatomy.visual_ids) > 1 and self._saw_video

    @property
    def _saw_video(self) -> bool:
        return "video" in self.features or self._shown("video").output is not None

    def _counts(self, kind: str) -> Int[np.ndarray, "batch"]:
        """Tokens of the kind, by sample."""
        if not all(self._there):
            return self.prompt.n_pictured
        token = self.anatomy.visual_ids[KINDS.index(kind)]
        counts: np.ndarray = ((self.ids == token) & self.prompt.pictured).sum(1).cpu().numpy()
        return counts

    def _placed(self, kind: str) -> Places:
        if kind not in self._places:
            given = self._shown(kind).given or told(getattr(self._feature(kind), "told", {}))
            self._places[kind] = places(self.anatomy, kind, given, int(self._counts(kind).sum()))
        return self._places[kind]

    def _shown(self, kind: str) -> Shown:
        return self.shown.get(kind, Shown())

    def _calls(self, kind: str) -> dict[int, Call]:
        return self._shown(kind).calls

    def _feature(self, kind: str) -> Any:
        return self.features.get(kind)

    def _tower(self) -> Tower:
        if self.tower is None:
            name = type(self.anatomy.model).__name__
            raise ValueError(f"{name} has no vision tower of attention layers to read; choose another scorer")
        return self.tower

    def _number(self, layer: TowerLayer) -> int:
        return self._tower().number(layer)

    def _call(self, kind: str, layer: int) -> Call:
        """The layer's call: of this forward, of `generate` just before it, or its input kept with the features."""
        states = getattr(self._feature(kind), "hidden_states", None)
        call = self._calls(kind).get(layer)
        if call is not None and (states is None or states[layer + 1] is None or states[layer + 1] is call.output):
            return call
        if states is not None and states[layer] is not None and self._tower().has_cls:
            return self._tower().call_of(states[layer], layer)
        if call is not None:
            return call
        remedy = (
            "give pixel_values, or vision features made with output_hidden_states=True"
            if layer == self._tower().index
            else f"name it: let the scorer have `tower_layers = ({layer},)`, and give pixel_values"
        )
        raise ValueError(f"layer {layer} of the vision tower was not kept: {remedy}")


def per_beam(values: Tensor, n_vision: Int[np.ndarray, "batch"], model: str) -> Tensor:
    """One row a visual token: for beam search `generate` repeats the samples, not what the tower saw."""
    beams, rest = divmod(int(n_vision.sum()), max(len(values), 1))
    groups = n_vision.reshape(-1, max(beams, 1)) if rest == 0 and len(n_vision) % max(beams, 1) == 0 else None
    if groups is None or not beams or (groups != groups[:, :1]).any():
        raise ValueError(
            f"{model} has {n_vision.sum()} visual tokens for {len(values)} of the vision tower: choose another scorer"
        )
    if beams == 1:
        return values
    samples = torch.split(values, groups[:, 0].tolist())
    return torch.cat([sample for sample in samples for _ in range(beams)])
