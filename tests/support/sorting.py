"""What pruning does to any model type of the mapping, found by running it: exact, refused, not applicable or broken."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from unittest.mock import patch

import torch
from acting import Acting, ActingOracle
from arms import ARMS
from families import Sample
from mapping import AUDIO, HIDDEN, IMAGE, N_PATCHES, N_QUERIES, OTHER, PIXELS, VIDEO, base, tiny_model
from oracle import Oracle
from short_oracle import Shortened
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from autoprune_lab.decoder import prefill
from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.decoder.mixers import attention_of
from autoprune_lab.models.visual_tokens import MARKS, visual_token_ids
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.trace.trace import UnprunedWarning
from policies.fixed import FixedPolicy

NOT_APPLICABLE = {
    "blip": "the text decoder reads the picture by cross-attention",
    "evolla": "reads proteins, no pictures, by cross-attention; its auto class does not even take its config",
    "florence2": "encoder-decoder: pictures are read by the encoder",
    "git": "pictures are a prefix of the model's own making: no token of the prompt stands for them",
    "idefics": "the decoder reads the picture by cross-attention",
    "mllama": "the decoder reads the picture by cross-attention",
    "mistral4": "a language model without pictures; Mistral 3 models with this decoder are `mistral3`",
    "pix2struct": "encoder-decoder: pictures are read by the encoder",
    "pp_formulanet": "encoder-decoder: pictures are read by the encoder",
    "t5gemma2": "encoder-decoder: pictures are read by the encoder",
    "udop": "encoder-decoder: pictures are read by the encoder",
    "vision-encoder-decoder": "encoder-decoder: pictures are read by the encoder",
}
"""Types in which no decoder reads visual tokens in its own sequence."""

STOCK = "stock model"  # keeping all is exact; the stock model's padded batch differs from its single prompts
CELLS = ("image", "batch", "video", "mixed", "positions", "flops")
FINE = ("exact", "-", "both", "original", STOCK)
KEPT, CLOSE, STEPS = 1e-6, 1e-4, 4
OTHERWISE = 1e-3  # beyond rounding: below it a batch is compared, and must be close
GRIDS = {"long": (5, 8), "short": (4, 4)}  # rows and columns of visual tokens
TEXTS = {"long": 16, "short": 8}  # text tokens behind them; 3 and a start before
NEWLINES = ("hunyuan_vl",)  # every row of a picture ends in a token of its own
FRAMES = (
    "glm46v",
    "glm4v",
    "glm4v_moe",
    "glm_ocr",
    "glmga",
    "nemotron_h_omni",
)  # a video's frames carry the image token: pruned as such
MERGE = 2  # patches a token, each way
KIND = {IMAGE: "image", VIDEO: "video"}
INNER = ("model", "decoder", "language_model", "text_model")


@dataclass(frozen=True)
class Finding:
    """One row of the table. `sorting`: exact, refused, not applicable or broken; cells: exact, -, or what is wrong."""

    model_type: str
    sorting: str
    why: str = ""
    image: str = "-"
    batch: str = "-"
    video: str = "-"
    mixed: str = "-"
    positions: str = "-"
    flops: str = "-"

    @property
    def faults(self) -> list[str]:
        """Names of the cells in which something is wrong."""
        return [name for name in CELLS if getattr(self, name) not in FINE]


class Fault(Exception):  # noqa: N818 - a finding
    """What is wrong, in a few words."""


class Tiny:
    """A model type as the oracle wants it: a family that builds its model, samples and batches."""

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type
        self._listed = dict[str, bool]()

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model; the same weights whatever the attention."""
        return tiny_model(self.model_type, attention)

    @cached_property
    def model(self) -> PreTrainedModel:
        """Built once."""
        return self.build()

    @cached_property
    def token(self) -> int:
        """What stands for its pictures: images', or videos' where it takes nothing else; any token that is marked."""
        ids = visual_token_ids(self.model.config)
        return IMAGE if not ids or IMAGE in ids else VIDEO

    def sample(self, size: str, tokens: Sequence[int] = (), seed: int = 0) -> Sample:
        """3 text tokens, then for each of `tokens` the start of a picture, a picture made of it, and text behind."""
        generator = torch.Generator().manual_seed(seed)
        rows, columns = GRIDS[size]
        text = lambda n: torch.randint(3, AUDIO, (n,), generator=generator)  # noqa: E731
        parts, given = [text(3)], {}
        for token in tokens or (self.token,):
            n = rows * (columns + (self.model_type in NEWLINES))
            parts += [torch.tensor([OTHER]), torch.full((n,), token), text(TEXTS[size])]
            if self.sees:
                frames = (1,) * (token == VIDEO)
                pixels = torch.randn(n // N_QUERIES, *frames, 3, PIXELS, PIXELS, generator=generator)
                asked = torch.randint(3, AUDIO, (n // N_QUERIES, 4), generator=generator)
                given |= {"pixel_values": pixels, "qformer_input_ids": asked, "flattened_patches": patches(pixels)}
                continue
            given[KIND[token]] = torch.randn(n, HIDDEN, generator=generator)
            frames = self.frames if token == VIDEO else 1
            given[f"{KIND[token]}_grid_thw"] = torch.tensor([[frames, MERGE * rows, MERGE * columns]])
        return Sample(torch.cat(parts), given)

    def batch(self, samples: list[Sample]) -> dict[str, Any]:
        """Inputs of the model, padded at the left."""
        width = max(len(sample.ids) for sample in samples)
        rows = [(sample.ids, torch.ones_like(sample.ids)) for sample in samples]
        ids, mask = (torch.stack([pad(row[i], (width - len(row[i]), 0)) for row in rows]) for i in (0, 1))
        if self.sees:
            seen = {n: torch.cat([s.images[n] for s in samples]) for n in samples[0].images if n in self.takes}
            if MARKS in self.takes:  # Kosmos-2.5 has another mark for a picture's start
                seen[MARKS] = (ids == IMAGE).long() - (ids == OTHER).long() * ("flattened_patches" in self.takes)
            return {"input_ids": ids, "attention_mask": mask} | seen
        inputs: dict[str, Any] = dict.fromkeys(self.required)
        inputs |= {"input_ids": ids, "attention_mask": mask, "mm_encoder_outputs": {}}
        if "mm_token_type_ids" in self.takes:
            inputs["mm_token_type_ids"] = (ids == IMAGE).long() + 2 * (ids == VIDEO).long()
        if "moe_mm_token_type_ids" in self.takes:  # a picture's start is marked, too
            inputs["moe_mm_token_type_ids"] = (ids >= OTHER).int()
        if "token_type_ids" in self.takes:
            inputs["token_type_ids"] = (ids == IMAGE).long() * (base(self.model_type) != "paligemma")
        for kind in KIND.values():
            features = [sample.images[kind] for sample in samples if kind in sample.images]
            if features:
                inputs["mm_encoder_outputs"][kind] = self.features(kind, features)
                name = f"{kind}_grid_thw"
                if kind == "video" and "video_second_per_grid" in self.takes:
                    inputs["video_second_per_grid"] = torch.ones(len(features))
                if name in self.takes:
                    inputs[name] = torch.cat([s.images[name] for s in samples if name in s.images])
        return inputs

    def features(self, kind: str, features: list[Tensor]) -> BaseModelOutputWithPooling:
        """What the tower would have given: one tensor a picture, or one for all where the type's forward wants that."""
        joined = torch.cat(features)
        made = BaseModelOutputWithPooling(pooler_output=features if self.listed(kind) else joined[None])
        made.last_hidden_state = joined[None]
        made.router_logits = made.visual_indicator_features = made.qformer_outputs = made.vision_outputs = None
        made.deepstack_features = None
        if self.model_type == "granite4_vision":
            made.deepstack_features = [(layer, features) for layer in range(4)]
        elif self.n_deep:
            made.deepstack_features = [[one * 0.5**i for one in features] for i in range(self.n_deep)]
        return made

    @cached_property
    def n_deep(self) -> int:
        """How many times features are added between layers."""
        vision = getattr(self.model.config, "vision_config", None)
        return len(getattr(vision, "deepstack_visual_indexes", None) or ())

    @cached_property
    def frames(self) -> int:
        """How many frames one row of a video's grid of tokens takes."""
        return getattr(getattr(self.model.config, "vision_config", None), "temporal_merge_size", 1)

    @cached_property
    def first_attentive(self) -> int:
        """The first layer with attention: none before it can be probed for any."""
        return next(i for i, layer in enumerate(owner(self.model).layers) if attention_of(layer) is not None)

    @property
    def n_unattended(self) -> int:
        """How many layers have no attention."""
        return sum(attention_of(layer) is None for layer in owner(self.model).layers)

    @cached_property
    def sees(self) -> bool:
        """Does it make features of its own pixels, since it, or its `generate`, takes no others?"""
        own = inspect.signature(self.model.generate).parameters
        hands_on = "pixel_values" in own and type(self.model).generate is not GenerationMixin.generate
        return hands_on or MARKS in self.takes

    @cached_property
    def takes(self) -> set[str]:
        """Names that the model's forward, or the one inside it, takes."""
        inner = self.model, getattr(self.model, "model", self.model)
        return {name for module in inner for name in inspect.signature(module.forward).parameters}

    @property
    def required(self) -> list[str]:
        """What the model's forward must be given, be it None."""
        parameters = inspect.signature(self.model.forward).parameters.values()
        return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]

    def listed(self, kind: str) -> bool:
        """Does the type's forward want features of this kind as a list, one tensor a picture?"""
        if kind not in self._listed:
            self._listed[kind] = True
            token = next(token for token, name in KIND.items() if name == kind)
            try:
                with torch.no_grad():
                    self.model(**self.batch([self.sample("short", (token,))]))
            except (TypeError, AttributeError) as error:
                self._listed[kind] = "'list' object has no attribute" not in str(error)
            except Exception:  # the check that meets it tells
                pass
        return self._listed[kind]


class TinyOracle(Oracle):
    """The oracle, for decoders that may lie one module deeper, and for videos."""

    def __init__(self, family: Tiny, sample: Sample, rank_by: str, positions: str = "original") -> None:
        super().__init__(family, sample, rank_by, positions)
        self.visual = is_visual(sample.ids[:-1]).nonzero().flatten()

    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """See `Oracle`."""
        return owner(model).layers

    def _visible(self, layer: nn.Module, given: Tensor) -> Tensor:
        """What transformers shows the whole sequence; a prompt does not see what was decoded, nor that what follows.

        A decoded token keeps to the layer's window, also where the mask of a whole prompt looks beyond it.
        """
        row, n = torch.arange(given.shape[-1]), self.n_prompt
        decoded, distance = row >= n, row[:, None] - row
        own, place = layer.self_attn.config, layer.self_attn.layer_idx
        kind = (getattr(own, "layer_types", None) or {place: ""})[place]
        window = own.sliding_window if "sliding" in kind else len(row)
        near = (distance < window) | (~decoded & ("reference" in kind))  # these never lose the prompt
        prompt = ~decoded[:, None] & ~decoded
        return (given[0, 0] == 0) & (prompt | (distance >= 0) & near)


class ShortOracle(Shortened, TinyOracle):
    """The same, for decoders with layers that have no attention."""


def oracle_of(tiny: Tiny, *args: Any) -> TinyOracle:
    """The oracle that fits the type's layers."""
    return (TinyOracle if tiny.first_attentive == 0 == tiny.n_unattended else ShortOracle)(tiny, *args)


def owner(model: PreTrainedModel) -> nn.Module:
    """The module that owns the decoder's layers."""
    module = model.get_decoder()
    module = getattr(module, "vlm", module)
    while not hasattr(module, "layers"):
        module = next(getattr(module, name) for name in INNER if hasattr(module, name))
    return module


def patches(pixels: Tensor) -> Tensor:
    """Row and column of a square of patches, and what is in it: (pictures, patches, 2 + values)."""
    n, side = len(pixels), round(N_PATCHES**0.5)
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    return torch.cat([places.expand(n, -1, -1), pixels.reshape(n, N_PATCHES, -1)], dim=2)


def is_visual(ids: Tensor) -> Tensor:
    """Where pictures and videos are."""
    return (ids == IMAGE) | (ids == VIDEO)


def sort(model_type: str) -> Finding:
    """Run everything on the type."""
    if model_type in NOT_APPLICABLE:
        attaches = _attaches(model_type)
        return Finding(model_type, "broken" if attaches else "not applicable", attaches or NOT_APPLICABLE[model_type])
    try:
        tiny = Acting() if model_type == Acting.model_type else Tiny(model_type)
        tiny.model  # noqa: B018 - built here
    except Exception as error:
        return Finding(model_type, "broken", f"not built: {_line(error)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pruner("stairs").attach(tiny.model):
                pass
    except ValueError as error:
        return Finding(model_type, "refused", _line(error))
    except Exception as error:
        return Finding(model_type, "broken", f"attach: {_line(error)}")
    cells = _acting_cells(tiny) if isinstance(tiny, Acting) else _cells(tiny)
    faults = Finding(model_type, "exact", **cells).faults
    why = "; ".join(f"{name}: {cells[name]}" for name in faults)
    return Finding(model_type, "broken" if faults else "exact", why, **cells)


def _attaches(model_type: str) -> str:
    """Empty where attaching to a type without visual tokens is refused, as it must be; else what happened."""
    try:
        model = tiny_model(model_type, empty=True)
    except Exception:  # Evolla's auto class refuses its own config, T5Gemma 2 a small decoder: nothing to attach to
        return ""
    try:
        with pruner("stairs").attach(model):
            return "attaches, though no decoder reads visual tokens"
    except ValueError:
        return ""
    except Exception as error:
        return f"attach: {_line(error)}"


def takes_videos(tiny: Tiny) -> bool:
    """Does the type take videos, by a token of their own?"""
    own = tiny.token == IMAGE and getattr(tiny.model.config, "video_token_id", None) == VIDEO
    own = own and "pixel_values_videos" in tiny.takes
    return own and tiny.model_type not in FRAMES


def _cells(tiny: Tiny) -> dict[str, str]:
    long, short = tiny.sample("long", seed=1), tiny.sample("short", seed=2)
    first = KIND[tiny.token]
    cells = {first: tried(check, tiny, [long])}
    if cells[first].startswith("stock model:"):
        return cells
    cells["batch"] = tried(check, tiny, [long, short])
    if takes_videos(tiny):
        film = tiny.sample("long", (VIDEO,), seed=3)
        cells["video"] = tried(check, tiny, [film, tiny.sample("short", (VIDEO,), seed=4)])
        cells["mixed"] = tried(check, tiny, [tiny.sample("short", (IMAGE, VIDEO), seed=5), film])
    cells["positions"] = tried(check_compact, tiny, long)
    cells["flops"] = tried(check_flops, tiny, long)
    return cells


def _acting_cells(tiny: Acting) -> dict[str, str]:
    long, short = tiny.sample("long", seed=1), tiny.sample("short", seed=2)
    return {
        "image": tried(check_actions, tiny, [long]),
        "batch": tried(check_actions, tiny, [long, short]),
        "positions": tried(check_compact, tiny, long),
        "flops": tried(check_flops, tiny, long),
    }


def check_actions(tiny: Acting, samples: list[Sample]) -> str:
    """Keep-all equals the stock model's actions; arms equal the oracle's."""
    inputs = tiny.batch(samples)
    stock = tiny.model.sample_actions(**inputs)
    with patch.object(prefill, "must_cut", lambda falls: True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnprunedWarning)
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(tiny.model):
            kept = tiny.model.sample_actions(**inputs)
    _within(kept, stock, KEPT, "keep-all")
    for arm in ("stairs", "adaptive", "entrance"):
        with pruner(arm).attach(tiny.model) as trace:
            actions = tiny.model.sample_actions(**inputs)
        for i, (sample, record) in enumerate(zip(samples, trace.samples, strict=True)):
            expected = ActingOracle(tiny, sample, ARMS[arm][1]).actions(record.planned)
            _within(actions[i], expected, CLOSE, arm)
        if (actions - stock).abs().max() < 1e-3:
            raise Fault(f"{arm}: actions do not change")
    return "exact"


def tried(check: Callable[..., str], *args: Any) -> str:
    """What `check` says, or what went wrong in it."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", UnprunedWarning)
            return check(*args)
    except Fault as fault:
        return str(fault)
    except UnprunedWarning as warning:
        return f"silent: {_line(warning)}"
    except Exception as error:
        return f"crash: {_line(error)}"


def check(tiny: Tiny, samples: list[Sample]) -> str:
    """Keep-all equals the stock model; arms and a few decoded tokens equal the oracle."""
    inputs = lambda: tiny.batch(samples)  # noqa: E731 - transformers changes what it is given
    try:
        stock = tiny.model(**inputs()).logits
    except Exception as error:
        raise Fault(f"stock model: {_line(error)}") from error
    real = inputs()["attention_mask"].bool()
    text = real & ~is_visual(inputs()["input_ids"])
    with patch.object(prefill, "must_cut", lambda falls: True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnprunedWarning)
        with Pruner(FixedPolicy(layer=2, keep=1.0)).attach(tiny.model):
            kept = tiny.model(**inputs()).logits
    _within(kept[real], stock[real], KEPT, "keep-all")
    if len(samples) > 1 and _stock_differs(tiny, samples, stock):
        return STOCK
    for arm in ("stairs", "adaptive", "entrance"):
        with pruner_for(tiny, arm).attach(tiny.model, keep_indices=True) as trace:
            logits = tiny.model(**inputs()).logits
        if len(trace.samples) != len(samples):
            raise Fault(f"{arm}: {len(trace.samples)} samples traced")
        for i, (sample, record) in enumerate(zip(samples, trace.samples, strict=True)):
            oracle = oracle_of(tiny, sample, ARMS[arm][1])
            if record.geometry.n_vision != len(oracle.visual):
                raise Fault(f"silent: {record.geometry.n_vision} of {len(oracle.visual)} visual tokens seen")
            expected = oracle.logits(sample.ids, record.planned)
            _within(logits[i, text[i]], expected[~is_visual(sample.ids)], CLOSE, arm)
        if (logits[text] - stock[text]).abs().max() < 1e-3:
            raise Fault(f"{arm}: logits do not change")
    try:
        _check_steps(tiny, samples, inputs())
    except Fault:
        if len(samples) > 1 and _stock_steps_differ(tiny, samples):
            return STOCK
        raise
    return "exact"


def _stock_differs(tiny: Tiny, samples: list[Sample], stock: Tensor) -> bool:
    """Does the unpruned model itself answer a padded prompt otherwise than the prompt alone?"""
    alone = [tiny.model(**tiny.batch([sample])).logits[0] for sample in samples]
    return any((stock[i, -len(one) :] - one).abs().max() > OTHERWISE for i, one in enumerate(alone))


def _stock_steps_differ(tiny: Tiny, samples: list[Sample]) -> bool:
    """The same of the tokens that it decodes."""
    _, together = decoded(tiny, tiny.batch(samples))
    alone = [decoded(tiny, tiny.batch([sample]))[1][0] for sample in samples]
    return any((together[i] - one).abs().max() > OTHERWISE for i, one in enumerate(alone))


def decoded(tiny: Tiny, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """`STEPS` decoded tokens but for the last, which nothing is computed of, and the logits of all."""
    out = tiny.model.generate(
        **inputs, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True,
        output_logits=True, suppress_tokens=[0, AUDIO, OTHER, VIDEO, IMAGE],
    )  # fmt: skip
    return out.sequences[:, -STEPS:-1], torch.stack(out.logits, 1)


def _check_steps(tiny: Tiny, samples: list[Sample], inputs: dict[str, Any]) -> None:
    with pruner_for(tiny, "stairs").attach(tiny.model) as trace:
        answers, logits = decoded(tiny, inputs)
    for i, (sample, record) in enumerate(zip(samples, trace.samples, strict=True)):
        oracle = oracle_of(tiny, sample, ARMS["stairs"][1])
        expected = oracle.logits(torch.cat([sample.ids, answers[i]]), record.planned)[-STEPS:]
        _within(logits[i], expected, CLOSE, "decoding")


def check_compact(tiny: Tiny, sample: Sample) -> str:
    """`both`, or `original` where compact positions are refused."""
    try:
        with pruner_for(tiny, "stairs", "compact").attach(tiny.model) as trace:
            logits = tiny.model(**tiny.batch([sample])).logits[0]
    except ValueError as error:
        if "compact" in str(error):
            return "original"
        raise
    oracle = oracle_of(tiny, sample, ARMS["stairs"][1], "compact")
    text = ~is_visual(sample.ids)
    _within(logits[text], oracle.logits(sample.ids, trace.samples[0].planned)[text], CLOSE, "compact")
    return "both"


def check_flops(tiny: Tiny, sample: Sample) -> str:
    """FLOPs of the trace are what torch counts in the decoder."""
    tiny.model.requires_grad_(False)  # torch's counter would ask BLIP-2's query tokens for their gradient
    names = {module: name for name, module in tiny.model.named_modules()}
    with pruner_for(tiny, "stairs").attach(tiny.model) as trace, flop_counter() as counter:
        tiny.model(**tiny.batch([sample]))
    record, counts = trace.samples[0], counter.get_flop_counts()
    counted = sum(counts[f"{type(tiny.model).__name__}.{names[owner(tiny.model)]}"].values())
    claimed = record.decoder_flops + record.scoring_flops
    if claimed != counted:
        raise Fault(f"{claimed / counted:.3f} of what torch counts")
    return "exact"


def pruner(arm: str, positions: str = "original") -> Pruner:
    """An arm of `arms`."""
    return Pruner(**ARMS[arm][0], positions=positions)


def pruner_for(tiny: Tiny, arm: str, positions: str = "original") -> Pruner:
    """The same, probing no layer before the first one with attention; chunks that are begun make short prompts dear."""
    one = pruner(arm, positions)
    if tiny.n_unattended and one.budget is not None:
        one = replace(one, budget=Budget(flops_ratio=0.93))
    return one if one.probe_layer < 0 else replace(one, probe_layer=max(one.probe_layer, tiny.first_attentive))


def _within(a: Tensor, b: Tensor, bound: float, what: str) -> None:
    difference = float((a - b).abs().max())
    if not difference <= bound:
        raise Fault(f"{what} off by {difference:.1e}")


def _line(error: BaseException) -> str:
    """The exception in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, Warning)) else f"{type(error).__name__}: {text}"
