"""Checkpoint folders of every family, laid out as real ones: loading, prompts, pruned answers, whole commands."""

import dataclasses
import io
import json
import shutil
import sys

import accelerate
import layouts
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from fake_evaluator import refused
from families import FAMILIES, IMAGE
from PIL import Image
from safetensors.torch import load_file, save_file
from toys import CLASSES, save_toy

from autoprune_lab.evaluation.evaluate import evaluate
from autoprune_lab.evaluation.prefixes import Prefixes
from autoprune_lab.evaluation.prompts import prepare, prompt_lengths
from autoprune_lab.models.checkpoint import check_checkpoint, load_model, load_processor
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.models.placement import Placement, best_device
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget
from autoprune_lab.tasks.base import Sample, Task
from policies.logistic_adaptive import LogisticAdaptivePolicy
from search.cli import main

PRUNER = Pruner(LogisticAdaptivePolicy(), Budget(flops_ratio=0.9))
families = pytest.mark.parametrize("name", FAMILIES)
filming = pytest.mark.parametrize(
    "name", ["llava_onevision", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each family's checkpoint folder, written once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = save_toy(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@dataclasses.dataclass(frozen=True)
class Gallery(Task):
    """Questions of unlike lengths about pictures of unlike sizes, one with two pictures, one with none."""

    counts: tuple[int, ...] = (1, 1, 2, 1, 0)

    name = "gallery"
    max_new_tokens = 3

    def samples(self):
        draw = np.random.default_rng(0)
        shots = [[self._draw(draw, 24 + 9 * i) for _ in range(n)] for i, n in enumerate(self.counts)]
        kinds = ["one" if n == 1 else "other" for n in self.counts]
        return tuple(
            Sample(str(i), tuple(images), "What is there" + " in the image?" * i, ("cat",), kinds[i])
            for i, images in enumerate(shots)
        )

    def _draw(self, draw, width):
        return Image.fromarray(draw.integers(0, 255, (20, width, 3), dtype=np.uint8))

    def score(self, prediction, sample):
        return float(prediction == "cat")


@families
def test_pruned_answers_depend_on_neither_batches_nor_kept_features(folder, name):
    vlm = load_model(str(folder(name)))
    gallery = Gallery((1, 1, 2, 1)) if name == "paligemma" else Gallery()  # its processor wants a picture
    runs = []
    for size, most, n_kept in ((3, None, 2), (1, None, len(gallery.counts)), (2, 1, 1)):
        prepared = prepare(vlm, gallery, batch_size=size, most_bytes=most)
        assert sum(batch.kept is not None for batch in prepared.batches) == n_kept
        assert [g.n_vision > 0 for g in prepared.geometries] == [n > 0 for n in gallery.counts]
        lengths = prompt_lengths(vlm.processor, [IMAGE], prepared.samples)
        assert lengths == [(g.n_vision, g.n_text) for g in prepared.geometries]
        runs.append(evaluate(vlm, prepared, PRUNER).rows)
    assert any(row.mean_tokens < row.n_vision for row in runs[0])
    for rows in runs[1:]:
        assert [row.prediction for row in rows] == [row.prediction for row in runs[0]]
        assert [row.decoder_flops for row in rows] == [row.decoder_flops for row in runs[0]]


@families
def test_kept_features_give_the_logits_of_the_pixels(folder, name):
    vlm = load_model(str(folder(name)))
    gallery = Gallery((1, 1, 2, 1)) if name == "paligemma" else Gallery()
    for batch in prepare(vlm, gallery, batch_size=2).batches:
        pixels = batch.make.tokenise()
        with torch.no_grad():
            assert torch.equal(vlm.model(**batch.arguments()).logits, vlm.model(**pixels).logits)


@families
def test_the_processor_is_the_stock_class_and_pads_on_the_left(folder, name):
    processor = load_processor(str(folder(name)))
    assert isinstance(processor, getattr(transformers, CLASSES[name]))
    assert processor.tokenizer.padding_side == "left"


@filming
def test_a_processor_that_wants_videos_needs_no_torchvision_for_pictures(folder, name):
    processor = load_processor(str(folder(name)))
    with pytest.raises(ImportError if name != "internvl" else ValueError, match=r"(?i)torchvision"):
        transformers.AutoProcessor.from_pretrained(folder(name))
    assert processor.video_processor is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("internvl", "GotOcr2ImageProcessorFast"),
        ("qwen3_vl", "Qwen2VLImageProcessorFast"),
        ("gemma3", "Gemma3ImageProcessorFast"),
    ],
)
def test_the_names_that_hub_checkpoints_give_their_image_processor(folder, tmp_path, name, kind):
    copied = shutil.copytree(folder(name), tmp_path / "c")
    file = copied / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_processor_type": kind}))
    assert load_processor(str(copied)).image_processor is not None


def test_a_package_that_a_processor_wants_is_named(folder, monkeypatch):
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(CheckpointError, match="pip install num2words"):
        load_processor(str(folder("smolvlm")))


@pytest.mark.parametrize("lost", ["preprocessor_config.json", "tokenizer.json"])
def test_a_folder_without_a_part_of_its_processor(folder, tmp_path, lost):
    shutil.copytree(folder("llava"), tmp_path / "c")
    for file in (tmp_path / "c").glob(f"{lost.split('.')[0]}*"):
        file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot make the processor of|has no"):
        load_processor(str(tmp_path / "c"))


def pope(tmp_path):
    return f"task.path={layouts.pope_parquet(tmp_path / 'pope')}"


def test_without_a_chat_template_nothing_is_loaded(tmp_path, here, capsys, no_model):
    bare = save_toy("llava", tmp_path / "bare", template=False)
    argv = ["evaluate", "model=path", f"model.path={bare}", "task=pope", pope(tmp_path)]
    assert main(argv) == 2
    assert "LlavaProcessor has no chat template: put the checkpoint's chat_template.jinja" in capsys.readouterr().err


def test_a_template_that_only_the_tokenizer_has_is_used(folder, tmp_path):
    copied = shutil.copytree(folder("llava"), tmp_path / "c")
    processor, template = load_processor(str(copied)), (copied / "chat_template.jinja").read_text()
    expected = prompt_lengths(processor, [IMAGE], Gallery().samples())
    processor.chat_template, processor.tokenizer.chat_template = None, template
    assert prompt_lengths(processor, [IMAGE], Gallery().samples()) == expected


def test_pickled_weights_are_never_opened(folder, tmp_path):
    copied = shutil.copytree(folder("llava"), tmp_path / "c")
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickles, which are never opened"):
        check_checkpoint(str(copied))


def test_code_of_a_checkpoint_runs_only_when_it_is_trusted(folder, tmp_path):
    copied = shutil.copytree(folder("llava"), tmp_path / "c")
    (copied / "modeling_own.py").write_text("raise RuntimeError('this code ran')\n")
    config = json.loads((copied / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForImageTextToText": "modeling_own.OwnModel",
    }
    (copied / "config.json").write_text(json.dumps(config))
    assert type(load_model(str(copied)).model).__name__ == "LlavaForConditionalGeneration"
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(CheckpointError, match="set trust_remote_code=true"):
        check_checkpoint(str(copied))
    with pytest.raises(RuntimeError, match="this code ran"):
        load_model(str(copied), trust_remote_code=True)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dtype", "float33", "dtype 'float33' is not a torch dtype; use float32"),
        ("device", "gpu", "device 'gpu' is no torch device; use auto"),
        ("device", "cuda:99", "torch sees . CUDA devices; use device=auto"),
        ("attention", "flash_attention_2", "needs the package flash_attn; install it, or use sdpa"),
        ("device_map", "auto", "device_map needs the package accelerate: pip install accelerate"),
    ],
)
def test_what_this_machine_cannot_do_is_told_before_anything_is_read(here, capsys, monkeypatch, field, value, message):
    find = "autoprune_lab.models.placement.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda package: None)
    with pytest.raises(CheckpointError, match=message):
        Placement(**{field: value}).check()
    refused(["evaluate", "model=path", "model.path=nowhere", f"model.{field}={value}"], [value], capsys, here)


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_layers_that_accelerate_fetches_from_elsewhere_are_pruned_alike(folder, tmp_path, name):
    whole, split = load_model(str(folder(name))), load_model(str(folder(name)))
    decoder, stay = split.model.get_decoder(), ("embed_tokens", "rotary_emb", "visual", "vision_tower", "projector")
    parts = dict(split.model.named_modules())
    near = [part for part in parts if part.endswith(stay)]
    far = [part for part, module in parts.items() if module in (*decoder.layers, decoder.norm)]
    places = dict.fromkeys(near, "cpu") | dict.fromkeys([*far, "lm_head"], "disk")
    accelerate.dispatch_model(split.model, places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    assert decoder.layers[1].self_attn.q_proj.weight.is_meta
    kept, fetched = (evaluate(vlm, prepare(vlm, Gallery(), batch_size=2), PRUNER).rows for vlm in (whole, split))
    assert any(row.mean_tokens < row.n_vision for row in kept)
    sure = [[row.confidence for row in rows] for rows in (fetched, kept)]
    assert sure[0] == pytest.approx(sure[1], rel=1e-5)  # of logits: weights read from disk lie otherwise in memory
    unsure = [[dataclasses.replace(row, confidence=None) for row in rows] for rows in (fetched, kept)]
    assert unsure[0] == unsure[1]


@pytest.mark.parametrize(("cuda", "mps", "best"), [(0, 0, "cpu"), (1, 0, "cuda"), (0, 1, "mps"), (1, 1, "cuda")])
def test_auto_is_the_first_device_that_there_is(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert best_device() == best


def test_auto_takes_the_best_device_and_the_checkpoints_own_numbers(folder, tmp_path, monkeypatch):
    copied = shutil.copytree(folder("llava"), tmp_path / "c")
    load_model(str(copied)).model.bfloat16().save_pretrained(copied)
    monkeypatch.setattr("autoprune_lab.models.placement.best_device", lambda: "cpu")
    model = load_model(str(copied), dtype="auto", device="auto").model
    assert model.dtype == torch.bfloat16
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    monkeypatch.setattr("autoprune_lab.models.placement.best_device", lambda: "meta")
    assert load_model(str(copied), dtype="auto", device="auto").model.device.type == "meta"


HOSTILE = {
    "num_beams": 3,
    "num_return_sequences": 2,
    "return_dict_in_generate": True,
    "output_scores": True,
    "use_cache": False,
    "do_sample": True,
    "temperature": 9.0,
    "repetition_penalty": 9.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 3,
    "min_length": 99,
    "max_length": 3,
    "suppress_tokens": [6, 7, 8, 9, 10],
    "bad_words_ids": [[6], [7]],
    "forced_eos_token_id": 9,
    "guidance_scale": 3.0,
    "exponential_decay_length_penalty": [1, 9.0],
    "stop_strings": ["yes"],
    "max_time": 1e-9,
    "prompt_lookup_num_tokens": 2,
    "prefill_chunk_size": 4,
    "cache_implementation": "static",
}


def test_a_checkpoints_generation_config_never_changes_an_evaluation(folder):
    """Each setting alone, then all of them together."""
    vlm = load_model(str(folder("llava")))
    prepared = prepare(vlm, Gallery((1, 1)), batch_size=2)
    own = vlm.model.generation_config

    def answers():
        shared = Prefixes(vlm, prepared, 1 << 20)
        return [evaluate(vlm, prepared, arm, prefixes=shared).rows for arm in (None, PRUNER)]

    expected = answers()
    assert any(row.mean_tokens < row.n_vision for row in expected[1])
    for setting, value in HOSTILE.items():
        before = getattr(own, setting)
        setattr(own, setting, value)
        assert answers() == expected, setting
        setattr(own, setting, before)
    for setting, value in HOSTILE.items():
        setattr(own, setting, value)
    assert answers() == expected
    assert vlm.model.generation_config is own


def test_the_token_ids_of_a_generation_config_end_an_answer(folder):
    vlm = load_model(str(folder("llava")))
    prepared = prepare(vlm, Gallery((1,)))
    tokens = vlm.model.generate(**prepared.batches[0].arguments(), max_new_tokens=3, do_sample=False)[0, -3:].tolist()
    assert len(set(tokens)) == 3
    whole = evaluate(vlm, prepared).rows[0].prediction
    vlm.model.generation_config.eos_token_id = tokens[1]
    assert evaluate(vlm, prepared).rows[0].prediction == " ".join(whole.split()[:2])


LEGACY = {
    "llava": ["patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"],
    "llava_next": ["patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"],
    "llava_onevision": ["num_image_tokens", "vision_feature_select_strategy"],
}


@pytest.mark.parametrize("name", LEGACY)
@pytest.mark.parametrize("how", ["no file", "none of them", "null"])
def test_a_processor_of_older_versions_gets_what_the_config_knows(folder, tmp_path, name, how):
    copied = shutil.copytree(folder(name), tmp_path / "c")
    file, samples = copied / "processor_config.json", Gallery().samples()
    expected = prompt_lengths(load_processor(str(copied)), [IMAGE], samples)
    said = json.loads(file.read_text())
    changed = {key: value for key, value in said.items() if key not in LEGACY[name]}
    file.write_text(json.dumps(changed | (dict.fromkeys(LEGACY[name]) if how == "null" else {})))
    if how == "no file":
        file.unlink()
        preprocessor = copied / "preprocessor_config.json"
        wanted = {"processor_class": said["processor_class"]}
        preprocessor.write_text(json.dumps(json.loads(preprocessor.read_text()) | wanted))
    assert prompt_lengths(load_processor(str(copied)), [IMAGE], samples) == expected


@pytest.mark.parametrize(
    ("name", "field", "value", "right"),
    [
        ("llava", "patch_size", 2, 4),
        ("llava", "patch_size", "x", 4),
        ("llava", "num_additional_image_tokens", 0, 1),
        ("llava_next", "vision_feature_select_strategy", "full", "'default'"),
        ("llava_onevision", "num_image_tokens", 3, 9),
    ],
)
def test_a_processor_that_contradicts_the_config_is_refused(folder, tmp_path, name, field, value, right):
    copied = shutil.copytree(folder(name), tmp_path / "c")
    file = copied / "processor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    with pytest.raises(CheckpointError, match=f"{file} says {field}={value!r}, where config.json means {right}"):
        load_processor(str(copied))


def test_a_legacy_processor_with_a_tower_that_is_not_known_is_told_which_field_to_add(folder, monkeypatch):
    monkeypatch.setattr("autoprune_lab.models.processor.CLASS_TOKENS", {})
    assert load_processor(str(folder("llava"))).num_additional_image_tokens == 1
    monkeypatch.setattr("autoprune_lab.models.processor.read_json", lambda file: {})
    with pytest.raises(CheckpointError, match=r"lacks num_additional_image_tokens, and config\.json does not tell"):
        load_processor(str(folder("llava")))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ raise_exception('roles must alternate') }}", "fails: roles must alternate; mend chat_template.jinja"),
        ("{% for %}", "fails: Expected an expression"),
        ("{{ nothing.at.all }}", "fails: 'nothing' is undefined"),
        ("{{ 1 / 0 }}", "fails: division by zero"),
        ("{{ messages.__class__.x }}", "fails: access to attribute '__class__' of 'list' object is unsafe"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "fails: maximum recursion depth"),
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "fails: it is not done after 100000 steps",
        ),
        ("{% for a in range(9999) %}{{ 'x' * 999 }}{% endfor %}", "makes a prompt of 9989001 letters"),
        (" ", "makes a prompt of 1 letters"),
    ],
)
def test_a_chat_template_that_fails_or_floods_is_one_line(folder, template, told):
    processor = load_processor(str(folder("llava")))
    processor.chat_template = template
    before = sys.gettrace()
    with pytest.raises(CheckpointError, match=f"the chat template of {folder('llava')} {told}"):
        prompt_lengths(processor, [IMAGE], Gallery().samples())
    assert sys.gettrace() is before


@families
def test_strict_finds_no_gap_in_a_whole_checkpoint_of_any_family(folder, tmp_path, name):
    """Neither as saved, nor with the names that the model itself has."""
    copied = shutil.copytree(folder(name), tmp_path / "c")
    state = load_model(str(copied)).model.state_dict()
    kept = {}
    for key, value in state.items():  # tied weights are kept once
        if not any(value.data_ptr() == other.data_ptr() for other in kept.values()):
            kept[key] = value
    save_file(kept, copied / "model.safetensors", {"format": "pt"})
    again = load_model(str(copied)).model.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in state.items())
    save_file(dict(list(kept.items())[:-1]), copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="1 tensors are missing"):
        check_checkpoint(str(copied))


def test_model_strict_false_evaluates_what_it_was_told_to(folder, tmp_path, here, capsys):
    copied = shutil.copytree(folder("llava"), tmp_path / "c")
    weights = load_file(copied / "model.safetensors")
    left = {key: value for key, value in weights.items() if "projector" not in key}
    save_file(left, copied / "model.safetensors", {"format": "pt"})
    words = ["evaluate", "model=path", f"model.path={copied}", "task=pope", pope(tmp_path), "budget.flops_ratio=0.9"]
    words += ["policy=fixed", "task.per_kind=2"]
    assert main(words) == 2
    assert "4 tensors are missing" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="4 tensors are missing"):
        assert main([*words, "model.strict=false"]) == 0


QUICK = [
    "search.n_trials=3",
    "task.per_kind=2",
    "report.task.per_kind=2",
    "report.ratios=[0.9]",
    "report.points=1",
    "~report.arms.layerwise",
    "~report.arms.random",
    "~report.arms.uniform",
    "budget.flops_ratio=0.95",
    "space.pruner.budget.flops_ratio.low=0.85",
    "tracking=none",
    "batch_size=4",
]


@families
@pytest.mark.usefixtures("undrawn")
def test_evaluate_and_study_from_a_folder(folder, name, tmp_path, here, capsys):
    words = ["model=path", f"model.path={folder(name)}", "task=pope", pope(tmp_path)]
    assert main(["evaluate", *words, "policy=fixed", "budget.flops_ratio=0.9", "task.per_kind=4"]) == 0
    shown = capsys.readouterr().out
    for line in ("adversarial", "popular", "random", "mean of kinds", "pope, official", "random: F1", "mean F1"):
        assert line in shown
    assert main(["study", *words, *QUICK]) == 0
    assert "report split" in capsys.readouterr().out
    assert len((here / "runs" / "logistic_adaptive" / "trials.csv").read_text().splitlines()) == 1 + 3


def _change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _apart(kind, copied):
    """Let the processor's settings and config.json tell of unlike pictures."""
    settings, config = copied / "preprocessor_config.json", copied / "config.json"
    if kind == "no settings of its own":
        (copied / "processor_config.json").unlink()
    elif kind == "another size":
        _change(settings, size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    elif kind == "another merge":
        _change(settings, merge_size=1)
    else:
        _change(config, image_token_id=5, image_token_index=5)


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        (
            "internvl",
            "no settings of its own",
            r"the processor of \S+ puts \d+ image tokens where the model makes",
        ),
        ("llava", "another token", r"the processor of \S+ puts 0 image tokens where the model makes"),
        ("llava", "another size", r"the vision tower of \S+ cannot read the pictures of its processor: .*24\*24"),
        ("qwen2_5_vl", "another merge", r"the vision tower of \S+ cannot read the pictures of its processor: "),
    ],
)
def test_a_processor_of_another_checkpoint_is_one_line(folder, tmp_path, name, kind, why):
    copied = shutil.copytree(folder(name), tmp_path / "c")
    _apart(kind, copied)
    with pytest.raises(CheckpointError, match=why + ".*; do preprocessor_config.json, .* belong together"):
        prepare(load_model(str(copied)), Gallery((1, 1)), batch_size=2)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_pictures_that_become_nan_are_one_line(folder, tmp_path, here, capsys):
    copied, own = shutil.copytree(folder("llava"), tmp_path / "c"), layouts.own_files(tmp_path / "own")
    _change(copied / "preprocessor_config.json", image_std=[0, 0, 0])
    words = ["model=path", f"model.path={copied}", "task=files", f"task.path={own}", "task.split=all"]
    assert main(["evaluate", *words, "policy=fixed", "budget.flops_ratio=0.9"]) == 2
    assert "holds NaN: check the inputs" in capsys.readouterr().err.splitlines()[-1]


def wide_png() -> bytes:
    """A picture that Qwen's processor refuses: its sides differ by more than 200 times."""
    stream = io.BytesIO()
    Image.new("RGB", (3000, 10)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("llava", layouts.damaged_png(), "{place} cannot be decoded"),
        ("qwen2_5_vl", wide_png(), "Qwen2_5_VLProcessor cannot read {id}: absolute aspect ratio"),
    ],
)
def test_a_picture_that_fails_late_is_named_and_left_out(folder, tmp_path, here, capsys, name, content, why):
    file, bad = with_two_bad(tmp_path, content)
    words = ["model=path", f"model.path={folder(name)}", "task=files", f"task.path={file}", "batch_size=4"]
    every = ["task.split=all", "task.per_kind=null", "policy=fixed", "budget.flops_ratio=0.9"]
    command = ["evaluate", *words, *every, "--out", str(here / "out")]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "2 samples left out" in shown
    for i, place in bad.items():
        assert f"  {i}: {why.format(place=place, id=i)}" in shown
    for run in ("pruned", "unpruned"):
        ids = pd.read_parquet(here / "out" / f"{run}.parquet")["id"]
        assert sorted(ids, key=int) == [str(i) for i in range(1, 13)]
        assert [left["id"] for left in json.loads((here / "out" / f"{run}.left_out.json").read_text())] == [*bad]
    assert main(command) == 0  # and nothing is missing now
    assert capsys.readouterr().out == shown


@pytest.mark.usefixtures("undrawn")
def test_a_study_goes_on_without_pictures_that_fail_late(folder, tmp_path, here, capsys):
    file, bad = with_two_bad(tmp_path, layouts.damaged_png())
    words = ["model=path", f"model.path={folder('llava')}", "task=files", f"task.path={file}", *QUICK]
    assert main(["study", *words, "task.per_kind=null", "report.task.per_kind=null"]) == 0
    told = capsys.readouterr().err
    assert [told.count(f"autoprune: task files: left out {i}: ") for i in bad] == [1, 1]
    assert set(pd.read_csv(here / "runs" / "logistic_adaptive" / "report.csv")["left_out"]) == {1}


def with_two_bad(folder, content):
    """Questions of one's own, and the pictures of two more by their ids: in the tune half, and in the report half."""
    file = layouts.own_files(folder)
    bad = {"13": folder / "wide.png", "14": folder / "it.png"}
    with file.open("a") as stream:
        for place in bad.values():
            place.write_bytes(content)
            row = {"image": place.name, "question": "What is it?", "answers": "a cat", "kind": "a"}
            stream.write(json.dumps(row) + "\n")
    return file, bad


def test_a_study_of_a_model_and_a_benchmark_in_the_hub_cache(folder, tmp_path, here, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for repository, write in (
        ("models--llava-hf--llava-1.5-7b-hf", lambda place: shutil.copytree(folder("llava"), place)),
        ("datasets--lmms-lab--POPE", layouts.pope_parquet),
    ):
        write(tmp_path / repository / "snapshots" / ("b" * 40))
        (tmp_path / repository / "refs").mkdir()
        (tmp_path / repository / "refs" / "main").write_text("b" * 40)
    assert main(["study", "model=llava_1_5_7b", "task=pope", *QUICK]) == 0
    assert "unpruned" in capsys.readouterr().out
    argv = ["evaluate", "model=llava_1_5_7b", "model.revision=cccc", "task=pope"]
    assert main(argv) == 2
    assert "hf download llava-hf/llava-1.5-7b-hf --revision cccc" in capsys.readouterr().err


def test_what_is_left_out_of_a_benchmark_is_said_once_and_a_bad_one_loads_no_model(
    folder, tmp_path, here, capsys, request
):
    words = ["model=path", f"model.path={folder('llava')}", "task=pope", "budget.flops_ratio=0.9"]
    place = layouts.pope_llava(tmp_path / "pope")
    sorted((place / "val2014").iterdir())[0].unlink()
    here_only = ["task.split=all", "task.per_kind=null", f"task.path={place}", "--no-baseline"]
    assert main(["evaluate", *words, "policy=fixed", *here_only]) == 0
    assert capsys.readouterr().err.count("left out 3 with a missing picture") == 1
    request.getfixturevalue("no_model")
    shutil.rmtree(place / "coco")
    assert main(["evaluate", *words, f"task.path={place}"]) == 2
    assert "say where it is with task.annotations=PATH" in capsys.readouterr().err


def test_few_pictures_of_a_big_benchmark_are_decoded_before_the_model_is_loaded(folder, tmp_path, monkeypatch):
    from autoprune_lab.evaluation.prompts import extremes
    from autoprune_lab.tasks.pictures import Picture
    from autoprune_lab.tasks.pope import PopeTask

    opened = []
    plain = Picture.open
    monkeypatch.setattr(Picture, "open", lambda self: opened.append(self) or plain(self))
    samples = PopeTask(str(layouts.pope_parquet(tmp_path)), split="all", per_kind=None).samples()
    many = [dataclasses.replace(s, id=f"{s.id} {i}", question="x" * i) for i in range(9) for s in samples]
    few = extremes(many)
    assert not opened
    assert 32 <= len(few) <= 64
    assert max(len(s.question) for s in few) == 8
    assert extremes(samples[:20]) == list(samples[:20])
    assert extremes(Gallery().samples() * 99) == list(Gallery().samples() * 99)
