"""What evidence reads off the vision tower and the probed layer: against the stock modules' own, and what it costs."""

from functools import cache, partial

import pytest
import torch
from arms import CLOSE, mixed, model, seen_by
from families import FAMILIES, IMAGE
from videos import FILMED

from autoprune_lab.decoder.anatomy import Anatomy
from autoprune_lab.decoder.meter import flop_counter
from autoprune_lab.decoder.tap import calls_in
from autoprune_lab.decoder.tower import Tower, received
from autoprune_lab.evidence.evidence import NoAttentionError
from autoprune_lab.pruner import Pruner
from autoprune_lab.selection import scorers
from autoprune_lab.selection.contextual_merge import ContextualMerge
from autoprune_lab.selection.keep_distinct import KeepDistinct
from autoprune_lab.selection.official_opening import official_opening
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy

pytestmark = pytest.mark.filterwarnings("ignore::autoprune_lab.trace.trace.UnprunedWarning")
BLOCK = {"internvl": 2, "smolvlm": 2, "idefics3": 2, "qwen2_vl": 2, "qwen2_5_vl": 2, "qwen3_vl": 2}
SQUARE = ("llava", "internvl", "smolvlm", "idefics3", "gemma3", "paligemma")
every = pytest.mark.parametrize("name", FAMILIES)


@torch.no_grad()
def seen(net, inputs, *reads, layers=(), probe_layer=1):
    """The evidence of one cut, after `reads` of it; the trace's samples."""
    shown = []

    def spy(evidence):
        for read in reads:
            read(evidence)
        return scorers.uniform(evidence)

    spy.tower_layers = layers
    scorer = seen_by(spy, shown)
    scorer.tower_layers = layers
    with Pruner(
        FixedPolicy(layer=2 if probe_layer >= 0 else 0, keep=0.5), scorer=scorer, probe_layer=probe_layer
    ).attach(net) as trace:
        net(**inputs)
    return shown[0], trace.samples


@cache
def eager(name):
    return FAMILIES[name].build("eager")


def by_token(name, values):
    """Stock values of square pictures' patches, (pictures, patches, c), -> tokens: means over blocks."""
    block, side = BLOCK.get(name, 1), int(values.shape[1] ** 0.5)
    n = side // block
    return values.reshape(len(values), n, block, n, block, -1).mean((2, 4)).flatten(0, 2)


@pytest.mark.parametrize("layer", [None, 0])
@pytest.mark.parametrize("name", SQUARE)
def test_tower_attention_is_that_of_eager_attention(name, layer):
    net, family = eager(name), FAMILIES[name]
    inputs = family.batch([family.sample(2, n_images=2)])
    evidence, _ = seen(net, inputs, lambda e: e.tower_attention(layer), layers=() if layer is None else (layer,))
    anatomy = Anatomy.of(net)
    pixels = inputs["pixel_values"].flatten(0, -4)
    stock = anatomy.tower(pixels, output_attentions=True).attentions
    matrix = stock[Tower.of(anatomy).index if layer is None else layer].mean(1)
    patches = matrix[:, 0, 1:] if Tower.of(anatomy).has_cls else matrix.mean(1)
    got = evidence.tower_attention(layer)[0]
    torch.testing.assert_close(got, by_token(name, patches)[:, 0], atol=1e-6, rtol=0)
    assert got.std() > 1e-4


@pytest.mark.parametrize("layer", [None, 0])
@pytest.mark.parametrize("name", SQUARE)
def test_tower_received_is_the_mean_over_all_queries_of_eager_attention(name, layer):
    net, family = eager(name), FAMILIES[name]
    inputs = family.batch([family.sample(2, n_images=2)])
    part = None if layer is None else 0.3  # of three layers
    evidence, _ = seen(net, inputs, lambda e: e.tower_received(part), layers=() if layer is None else (part,))
    anatomy = Anatomy.of(net)
    tower = Tower.of(anatomy)
    stock = anatomy.tower(inputs["pixel_values"].flatten(0, -4), output_attentions=True).attentions
    matrix = stock[tower.index if layer is None else layer].mean(1)
    got = evidence.tower_received(part)[0]
    patches = matrix.mean(1)[:, int(tower.has_cls) :]
    torch.testing.assert_close(got, by_token(name, patches)[:, 0], atol=1e-6, rtol=0)
    assert torch.equal(got, evidence.tower_attention(part)[0]) != tower.has_cls


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_attention_received_in_pictures_of_their_own_sizes(name, layer):
    """Windows and pictures apart; Qwen2.5-VL's layers 0 and 2 look through windows."""
    net, family = eager(name), FAMILIES[name]
    inputs = family.batch([family.sample(2, n_images=2)])
    maps, whole = [], Anatomy.of(net).tower.blocks[layer].attn

    def spy(module, args, kwargs, output):
        lengths = kwargs["cu_seqlens"].diff().tolist()
        query, key, _ = (
            module.qkv(kwargs.get("hidden_states", args[0] if args else None)).unflatten(-1, (3, 4, 8)).unbind(1)
        )
        cos, sin = (part[:, None] for part in kwargs["position_embeddings"])
        turn = lambda x: x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin  # noqa: E731
        for q, k in zip(turn(query).split(lengths), turn(key).split(lengths), strict=True):
            maps.append((q.transpose(0, 1) @ k.permute(1, 2, 0) / 8**0.5).softmax(-1).mean((0, 1)))

    hook = whole.register_forward_hook(spy, with_kwargs=True)
    evidence, _ = seen(net, inputs, lambda e: e.tower_attention(layer), layers=(layer,))
    hook.remove()
    expected, got = torch.cat(maps).view(-1, 4).mean(1), evidence.tower_attention(layer)[0]
    if name == "qwen2_5_vl":  # the tower's order is by windows: compare values, places are tested in test_places
        torch.testing.assert_close(got.sort().values, expected.sort().values, atol=1e-6, rtol=0)
    else:
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_attention_through_windows_stands_at_its_token():
    """One patch whose key everybody likes: its token receives the most, wherever the window put it."""
    net, family = model("qwen2_5_vl"), FAMILIES["qwen2_5_vl"]
    inputs = family.batch([family.sample(2)])
    for token in (1, 6, 13):
        before, _ = seen(net, inputs, lambda e: e.tower_features())
        pixels = inputs["pixel_values"].clone()
        pixels[4 * token : 4 * token + 4] += 3
        after, _ = seen(net, inputs | {"pixel_values": pixels}, lambda e: e.tower_features())
        change = (after.tower_features() - before.tower_features())[0].norm(dim=-1)
        assert change.argmax() == token


@pytest.mark.parametrize("name", SQUARE)
def test_features_and_keys_are_the_stock_layer_s(name):
    net, family = model(name), FAMILIES[name]
    inputs = family.batch([family.sample(2, n_images=2)])
    evidence, _ = seen(net, inputs, lambda e: e.tower_features(), lambda e: e.tower_keys())
    tower, held = Tower.of(Anatomy.of(net)), {}
    attention = getattr(tower.layer, tower.attention)
    hooks = [
        tower.layer.register_forward_hook(lambda m, a, o: held.__setitem__("out", o)),
        attention.k_proj.register_forward_hook(lambda m, a, o: held.__setitem__("key", o)),
    ]
    with torch.no_grad():
        Anatomy.of(net).tower(inputs["pixel_values"].flatten(0, -4))
    for hook in hooks:
        hook.remove()
    out = held["out"][0] if isinstance(held["out"], tuple) else held["out"]
    skip = int(tower.has_cls)
    torch.testing.assert_close(evidence.tower_features()[0], by_token(name, out[:, skip:]), **CLOSE)
    torch.testing.assert_close(evidence.tower_keys()[0], by_token(name, held["key"][:, skip:]), **CLOSE)


@torch.no_grad()
def test_one_wide_head_and_mean_keys_are_the_stock_projections():
    net, family = model("llava"), FAMILIES["llava"]
    inputs = family.batch([family.sample(2, n_images=2)])
    reads = (lambda e: e.wide_attention(-1), lambda e: e.mean_keys(-1))
    evidence, _ = seen(net, inputs, *reads, layers=(-1,))
    tower, held = Tower.of(Anatomy.of(net)), {}
    attention = getattr(tower.layers[-1], tower.attention)
    hooks = [
        getattr(attention, f"{part}_proj").register_forward_hook(lambda m, a, o, part=part: held.__setitem__(part, o))
        for part in "qk"
    ]
    Anatomy.of(net).tower(inputs["pixel_values"].flatten(0, -4))
    for hook in hooks:
        hook.remove()
    query, key = held["q"], held["k"]
    wide = (query[:, :1] @ key.mT / key.shape[-1] ** 0.5).softmax(-1)[:, 0, 1:]
    torch.testing.assert_close(evidence.wide_attention(-1)[0], wide.flatten(), atol=1e-6, rtol=0)
    heads = key[:, 1:].unflatten(-1, (attention.num_heads, -1)).mean(2)
    torch.testing.assert_close(evidence.mean_keys(-1)[0], heads.flatten(0, 1), **CLOSE)
    assert evidence.wide_attention(-1).std() > 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_vl"])
def test_what_visual_tokens_pay_is_eager_attention_also_in_a_padded_batch_and_part_by_part(name, monkeypatch):
    net, family = eager(name), FAMILIES[name]
    monkeypatch.setattr("autoprune_lab.decoder.source.rows_at_once", lambda tapped: 3)
    together, _ = seen(net, family.batch(mixed(name)), READS["visual_rows"])
    width = together.vision_mask.shape[1]
    for i, one in enumerate(mixed(name)):
        visual = one.ids == IMAGE
        if not visual.any():
            assert not together.visual_rows[i].any()
            continue
        stock = net(**family.batch([one]), output_attentions=True).attentions[1][0].mean(0)
        text = ~visual & (visual.cumsum(0) > 0)
        n, rows = int(visual.sum()), int(text.sum())
        got = together.visual_rows[i]
        torch.testing.assert_close(got[:n, :n], stock[visual][:, visual], **CLOSE)
        torch.testing.assert_close(got[:n, width : width + rows], stock[visual][:, text], **CLOSE)
        assert not any(part.any() for part in (got[n:], got[:, n:width], got[:, width + rows :]))


def test_features_are_computed_again_where_only_the_layer_s_input_was_kept():
    net, family = model("llava"), FAMILIES["llava"]
    inputs = family.batch([family.sample(2, n_images=2)])
    expected, (free,) = seen(net, inputs, lambda e: e.tower_features())
    with torch.no_grad():
        features = net.get_image_features(
            pixel_values=inputs["pixel_values"], output_hidden_states=True, return_dict=True
        )
    rest = {key: value for key, value in inputs.items() if key != "pixel_values"} | {
        "mm_encoder_outputs": {"image": features}
    }
    evidence, (charged,) = seen(net, rest, lambda e: e.tower_features())
    torch.testing.assert_close(evidence.tower_features(), expected.tower_features(), **CLOSE)
    layer = Tower.of(Anatomy.of(net)).layer
    with torch.no_grad(), flop_counter() as counter:
        layer(features.hidden_states[1], attention_mask=None)
    assert (free.scoring_flops, charged.scoring_flops) == (0, counter.get_total_flops())


READS = {
    "attention": lambda e: e.tower_attention(0),
    "received": lambda e: e.tower_received(0),
    "features": lambda e: e.tower_features(),
    "keys": lambda e: e.tower_keys(),
    "wide": lambda e: e.wide_attention(0),
    "mean_keys": lambda e: e.mean_keys(),
    "visual_rows": lambda e: e.visual_rows,
    "turned": lambda e: (e.keys(), e.queries("text")),
    "unturned": lambda e: (e.keys(rotary=False), e.queries("text", rotary=False)),
}


@pytest.mark.parametrize("what", READS)
@every
def test_what_reading_costs_is_what_torch_counts(name, what):
    net, family = model(name), FAMILIES[name]
    inputs = family.batch([family.sample(2, n_images=2)])
    anatomy = Anatomy.of(net)
    with flop_counter() as counter:
        _, (record,) = seen(net, inputs | {"logits_to_keep": 1}, READS[what], layers=(0,))
    names = {module: f"{type(net).__name__}.{name}" for name, module in net.named_modules()}
    assert record.decoder_flops + record.scoring_flops == sum(
        counter.get_flop_counts()[names[anatomy.decoder]].values()
    )
    assert (record.scoring_flops > 0) == (what not in ("features", "turned"))


@pytest.mark.parametrize("what", ["attention", "unturned"])
def test_a_padded_batch_costs_and_sees_what_its_samples_do_alone(what):
    net, family = model("gemma3"), FAMILIES["gemma3"]
    together, records = seen(net, family.batch(mixed("gemma3")), READS[what], layers=(0,))
    for i, one in enumerate(mixed("gemma3")):
        if not (one.ids == IMAGE).any():
            assert records[i].scoring_flops == 0
            continue
        alone, (record,) = seen(net, family.batch([one]), READS[what], layers=(0,))
        n = int(alone.counts[0])
        assert records[i].scoring_flops == record.scoring_flops
        torch.testing.assert_close(together.cls_attention[i, :n], alone.cls_attention[0], **CLOSE)
        # before the rotary: a padded `forward` counts positions from the padding on
        torch.testing.assert_close(together.keys(rotary=False)[i, :, :n], alone.keys(rotary=False)[0], **CLOSE)
        assert not together.keys()[i, :, n:].any()


@torch.no_grad()
@every
def test_keys_and_queries_are_those_of_the_layer(name):
    net, family, one = model(name), FAMILIES[name], mixed(name)[1]
    evidence, _ = seen(net, family.batch([one]), *READS.values(), layers=(0,))
    layer, held = net.get_decoder().layers[1], {}
    visual = one.ids == IMAGE
    rows = ~visual & (visual.cumsum(0) > 0)
    attention = layer.self_attn
    for part in ("q", "k"):
        last = getattr(attention, f"{part}_norm", None) or getattr(attention, f"{part}_proj")
        last.register_forward_hook(lambda m, a, o, part=part: held.__setitem__(part, o))
    config = attention.config
    calls = []
    hook = layer.register_forward_pre_hook(lambda m, a, k: calls.append((a, k)), with_kwargs=True)
    net(**family.batch([one]))
    hook.remove()
    (args, kwargs), unturned = calls[0], {}
    for part, value in held.items():
        heads = value if value.ndim == 4 else value.unflatten(-1, (-1, 12))
        unturned[part] = heads if heads.shape[1] != len(one.ids) else heads.transpose(1, 2)
    (turned,) = calls_in(attention, lambda: layer.forward(*args, **kwargs | {"past_key_values": None}))
    assert attention.config is config
    for getter, after, before in (
        (evidence.keys, turned.key, unturned["k"]),
        (evidence.queries, turned.query, unturned["q"]),
    ):
        for of, slots in (("vision", visual), ("text", rows)):
            torch.testing.assert_close(getter(of), after[:, :, slots], **CLOSE)
            torch.testing.assert_close(getter(of, rotary=False), before[:, :, slots], **CLOSE)
    assert not torch.allclose(evidence.keys(), evidence.keys(rotary=False), atol=1e-3)
    for part in ("q_norm", "k_norm", "q_proj", "k_proj"):
        if hasattr(attention, part):
            getattr(attention, part)._forward_hooks.clear()


def test_before_layer_0_there_are_no_keys():
    inputs = FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)])
    for read in (READS["turned"], READS["unturned"]):
        with pytest.raises(NoAttentionError, match="before layer 0"):
            seen(model("llava"), inputs, read, probe_layer=-1)


def test_a_layer_that_nobody_named_was_not_kept():
    inputs = FAMILIES["llava"].batch([FAMILIES["llava"].sample(1)])
    with pytest.raises(ValueError, match=r"layer 0 of the vision tower was not kept: .*tower_layers = \(0,\)"):
        seen(model("llava"), inputs, READS["attention"])
    with pytest.raises(IndexError, match="has 3 layers: 7 is none"):
        seen(model("llava"), inputs, layers=(7,))
    with pytest.raises(IndexError, match=r"layer=1.5 .* outside \[0, 1\)"):
        seen(model("llava"), inputs, layers=(1.5,))


def test_attention_received_is_computed_part_by_part(monkeypatch):
    net, family = model("smolvlm"), FAMILIES["smolvlm"]
    tower = Tower.of(Anatomy.of(net))
    hidden = torch.randn(2, 64, 32)
    (tapped,) = calls_in(tower.layer.self_attn, lambda: tower.layer.forward(hidden, attention_mask=None))
    whole = received(tapped)
    monkeypatch.setattr("autoprune_lab.decoder.tower.rows_at_once", lambda tapped: 5)
    torch.testing.assert_close(received(tapped), whole)
    torch.testing.assert_close(whole.sum(1), torch.ones(2))
    assert family.nested


def test_patches_that_are_padding_neither_ask_nor_receive():
    tower = Tower.of(Anatomy.of(model("smolvlm")))
    hidden, n = torch.randn(1, 64, 32), 40
    mask = (torch.arange(64) < n)[None, None, None].expand(1, 1, 64, 64)
    (tapped,) = calls_in(tower.layer.self_attn, lambda: tower.layer.forward(hidden, attention_mask=mask))
    (alone,) = calls_in(tower.layer.self_attn, lambda: tower.layer.forward(hidden[:, :n], attention_mask=None))
    torch.testing.assert_close(received(tapped)[:, :n], received(alone), **CLOSE)
    assert not received(tapped)[:, n:].any()


METHODS = {
    "fastervlm": {"scorer": scorers.cls_attention},
    "vispruner": {"scorer": scorers.cls_attention, "recovery": KeepDistinct(step=2)},
    "visionzip": {"scorer": scorers.cls_attention, "recovery": ContextualMerge(in_place=True)},
}


@pytest.mark.parametrize("method", METHODS)
@every
def test_methods_of_cls_attention_run(name, method):
    net, family = model(name), FAMILIES[name]
    with (
        torch.no_grad(),
        Pruner(FixedPolicy(layer=0, keep=0.5), probe_layer=-1, **METHODS[method]).attach(
            net, keep_indices=True
        ) as trace,
    ):
        net.generate(**family.batch(mixed(name)), max_new_tokens=2)
    for record in trace.samples:
        assert record.counts[0] == record.geometry.n_vision // 2


@every
def test_autoprune_s_opening_runs(name):
    opening = Pruner(LayerwisePolicy((0.5,), (0.5,)), scorer=partial(official_opening, weight=0.3))
    with torch.no_grad(), opening.attach(model(name)) as trace:
        model(name)(**FAMILIES[name].batch(mixed(name)))
    assert [bool(record.counts[-1] < record.geometry.n_vision) for record in trace.samples] == [True, True, False, True]


@pytest.mark.parametrize("name", FILMED)
def test_videos_among_pictures(name):
    net = FILMED[name].build()
    evidence, _ = seen(
        net, FILMED[name].batch([FILMED[name].told(1, "titvt"), FILMED[name].told(2, "tvt")]), lambda e: e.cls_attention
    )
    scores, grid = evidence.cls_attention, evidence.grid
    real = grid[..., 2] >= 0
    assert (scores[real] > 0).all()
    assert not scores[~real].any()
