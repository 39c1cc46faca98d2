"""Loading checkpoints: the ordinary way, and every way it can go wrong."""

import json
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from autoprune_lab.models.checkpoint import CheckpointError, check_checkpoint, load_model, load_processor
from autoprune_lab.models.folder import SETTINGS, read_config, read_json, weight_files
from autoprune_lab.models.headers import read_header
from autoprune_lab.testbed.build import build_processor, build_untrained
from autoprune_lab.testbed.shapes.layout import layout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    build_untrained(layout(n_layers=2), 3).save_pretrained(path)
    build_processor(layout()).save_pretrained(path)
    return path


def test_a_saved_model_comes_back_unchanged(folder: Path):
    vlm = load_model(str(folder))
    expected = build_untrained(layout(n_layers=2), 3).state_dict()
    assert vlm.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in vlm.model.state_dict().items())
    assert not vlm.model.training
    assert load_processor(str(folder)).tokenizer.get_vocab() == build_processor(layout()).tokenizer.get_vocab()


def test_dtype_is_obeyed_and_checked(folder: Path):
    assert load_model(str(folder), dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match="float33"):
        load_model(str(folder), dtype="float33")


def test_missing_folder(tmp_path: Path):
    with pytest.raises(CheckpointError, match="does not exist"):
        check_checkpoint(str(tmp_path / "nowhere"))


def test_unknown_hub_id_names_the_remedy():
    with pytest.raises(CheckpointError, match="hf download nobody/nothing"):
        check_checkpoint("nobody/nothing")


def test_unknown_embedded_model():
    with pytest.raises(CheckpointError, match="embedded:shapes-s0"):
        check_checkpoint("embedded:nothing")


def test_empty_folder(tmp_path: Path):
    with pytest.raises(CheckpointError, match="empty"):
        check_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("readme.txt", "hello", "no config.json"),
        ("config.json", json.dumps({"model_type": "llama"}), "'llama', which is not a vision-language model"),
        ("config.json", "{", "not valid JSON"),
        ("config.json", "[]", "no JSON object, but a list"),
        ("config.json", "[" * 100_000, "nested too deeply"),
        (
            "config.json",
            "\ufeff{}",
            "config.json is not valid JSON: it begins with a byte order mark; save it as UTF-8",
        ),
        ("config.json", json.dumps({"model_type": ["llava"]}), "not a vision-language model"),
        (
            "config.json",
            json.dumps({"model_type": "llava", "mm_vision_tower": "openai/clip-vit-large-patch14-336"}),
            "config.json is one of the original LLaVA code .mm_vision_tower.* take the converted checkpoint",
        ),
        ("config.json", json.dumps({"model_type": "llava"}), "no \\*.safetensors"),
    ],
)
def test_bad_folders(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        check_checkpoint(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights(folder: Path, tmp_path: Path, keep: int):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated"):
        check_checkpoint(str(tmp_path))


def test_a_shard_that_the_index_names_must_be_there(folder: Path, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part-1.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"part-1\.safetensors is missing"):
        check_checkpoint(str(tmp_path))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The checkpoint's folder, to be spoilt."""
    return shutil.copytree(folder, tmp_path / "copy")


def refused(folder: Path, message: str) -> None:
    """Loading it fails in one line, before weights are read."""
    with pytest.raises(CheckpointError, match=message) as told:
        check_checkpoint(str(folder))
    assert "\n" not in str(told.value)
    with pytest.raises(CheckpointError, match=message):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.fp16.safetensors", "rename model.fp16.safetensors to model.safetensors"),
        ("model-00001-of-00002.safetensors", "shards without their index: copy model.safetensors.index.json"),
        ("consolidated.safetensors", "another layout: take the checkpoint that holds transformers' own"),
        ("adapter_model.safetensors", "an adapter alone: merge it into its model"),
        ("pytorch_model.bin", "pickles, which are never opened"),
        ("ggml-model-q4.gguf", "take the safetensors checkpoint"),
        ("weights.safetensors", "it holds weights.safetensors, under another name"),
        ("weights", "no \\*.safetensors weights to read"),
    ],
)
def test_weights_in_another_form_are_named(copy: Path, name: str, told: str):
    (copy / "model.safetensors").rename(copy / name)
    refused(copy, told)


@pytest.mark.parametrize("special", [os.mkfifo, lambda file: file.symlink_to("nowhere")])
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "chat_template.jinja"])
def test_a_pipe_is_not_waited_for_and_a_lost_link_is_named(copy: Path, name: str, special: Any):
    (copy / name).unlink()
    special(copy / name)
    refused(copy, f"{name} is no file, but a pipe, a device or a link that leads nowhere")


def test_an_adapter_beside_the_weights_is_refused(copy: Path):
    (copy / "adapter_config.json").write_text("{}")
    refused(copy, "holds an adapter .adapter_config.json.: merge it into its model")


@pytest.mark.parametrize("content", ["[]", "null", "{", "", "\ufeff{}", "[" * 100_000, '"a"', "1" * 5000, "\0"])
@pytest.mark.parametrize("name", [*SETTINGS, "tokenizer.json", "model.safetensors.index.json"])
def test_a_broken_json_file_is_named(copy: Path, name: str, content: str):
    (copy / name).write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=rf"{name} (is not valid JSON|holds no JSON object)"):
        load_processor(check_checkpoint(str(copy)))


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"metadata": {}}, "has no weight_map"),
        ({"weight_map": {}}, "has no weight_map"),
        ({"weight_map": ["a"]}, "has no weight_map"),
        ({"weight_map": {"a": 3}}, "names 3, which is no"),
        ({"weight_map": {"a": "../model.safetensors"}}, "names '../model.safetensors', which is no"),
        ({"weight_map": {"a": "model.bin"}}, "names 'model.bin', which is no"),
        ({"weight_map": {"a": "model-00001-of-00001.safetensors"}}, "00001.safetensors is missing"),
    ],
)
def test_an_index_must_name_files_that_are_there(copy: Path, index: dict[str, Any], told: str):
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copy, told)


def _shards(folder: Path, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    (folder / "model.safetensors").unlink()
    where = {}
    for i, part in enumerate((first, second), 1):
        save_file(part, folder / f"model-{i}.safetensors", {"format": "pt"})
        where |= dict.fromkeys(part, f"model-{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def test_shards_are_read_together_and_a_tensor_in_two_is_refused(folder: Path, copy: Path):
    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    first, second = ({name: weights[name] for name in part} for part in (names[:9], names[9:]))
    _shards(copy, first, second)
    state = load_model(str(copy)).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load_model(str(folder)).model.state_dict().items())
    save_file(second | {names[0]: weights[names[0]]}, copy / "model-2.safetensors", {"format": "pt"})
    refused(copy, f"model-2.safetensors holds {names[0]}, and so does model-1.safetensors")
    save_file(second, copy / "model-2.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(first, "model-1.safetensors")}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copy, f"{len(second)} tensors are missing")
    del index["metadata"]
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copy, "has no metadata")


def _rewrite(folder: Path, change: Any) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file({new: value for name, old in weights.items() for new, value in change(name, old)}, file, {"format": "pt"})


GAPS = {
    "missing": (
        lambda name, value: [] if "projector" in name else [(name, value)],
        r"4 tensors are missing \(model.multi_modal_projector.linear_1.bias, .*, \.\.\.\)\. What is missing",
    ),
    "unexpected": (
        lambda name, value: [(name, value)] + [("extra.weight", value.clone())] * ("lm_head" in name),
        r"1 are not of this model \(extra.weight\)\.",
    ),
    "shapes": (
        lambda name, value: [(name, value[:-4].clone() if "lm_head" in name else value)],
        r"1 have another shape than config.json says \(lm_head.weight is 102 x 96, not 106 x 96\)",
    ),
    "renamed": (
        lambda name, value: [("base_model.model." + name, value)],
        r"(\d+) tensors are missing \(.*; \1 are not of this model \(base_model.model.",
    ),
    "numbers": (
        lambda name, value: [(name, value.to(torch.int8) if "lm_head" in name else value)],
        r"1 tensors hold no floating-point numbers \(.*lm_head.weight\), but config.json has no quantization_config",
    ),
}


GAPS["truth values"] = (
    lambda name, value: [(name, value.bool() if name.endswith("linear_1.bias") else value)],
    r"1 tensors hold no floating-point numbers \(.*linear_1.bias\), but config.json has no quantization_config",
)


@pytest.mark.parametrize("gap", GAPS)
def test_weights_that_do_not_fill_the_model_are_counted_and_named(copy: Path, gap: str):
    change, told = GAPS[gap]
    _rewrite(copy, change)
    refused(copy, told)


def test_without_accelerate_gaps_are_found_when_the_weights_are_read(copy: Path, monkeypatch: pytest.MonkeyPatch):
    _rewrite(copy, GAPS["missing"][0])
    monkeypatch.setattr("autoprune_lab.models.fit.importlib.util.find_spec", lambda package: None)
    assert check_checkpoint(str(copy)) == copy
    with pytest.raises(CheckpointError, match="4 tensors are missing"):
        load_model(str(copy))


@pytest.mark.parametrize("gap", ["missing", "unexpected", "shapes"])
def test_who_means_it_loads_such_weights_and_is_told(copy: Path, gap: str):
    _rewrite(copy, GAPS[gap][0])
    with pytest.warns(UserWarning, match=GAPS[gap][1]):
        model = load_model(str(copy), strict=False).model
    embeddings = build_untrained(layout(n_layers=2), 3).get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, embeddings)


def test_names_and_buffers_of_older_versions_are_no_gaps(copy: Path):
    """As llava-1.5-7b-hf was saved first: other prefixes, buffers that are made anew today."""

    def older(name: str, value: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        more = []
        if "position_embedding" in name:
            ids = torch.arange(len(value))[None]
            more = [("vision_tower.vision_model.embeddings.position_ids", ids)]
        if "layers.0.self_attn.q_proj" in name and "language" in name:
            more = [("language_model.model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(12))]
        return [(name.replace("vision_tower.", "vision_tower.vision_model."), value), *more]

    assert "language_model.model.embed_tokens.weight" in read_header(copy / "model.safetensors")
    _rewrite(copy, older)
    state = load_model(str(copy)).model.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in build_untrained(layout(n_layers=2), 3).state_dict().items()
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": 10**9}, "says num_hidden_layers=1000000000, but the weights hold .* tensors in all"),
        ({"hidden_size": 10**30}, "describes no model that can be made: "),
        ({"hidden_size": "wide"}, "describes no model that can be made: .*hidden_size"),
        ({"vocab_size": -5}, "describes no model that can be made: .*-5"),
        ({"model_type": "nope"}, "describes no model that can be made: .*nope"),
    ],
)
def test_numbers_of_a_config_that_make_no_model(copy: Path, change: dict[str, Any], told: str):
    config = read_json(copy / "config.json")
    config["text_config"] |= change
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy, told)


@pytest.mark.parametrize("layer", [4, -4])
def test_a_feature_layer_that_the_tower_does_not_have(copy: Path, layer: int):
    config = read_json(copy / "config.json")
    (copy / "config.json").write_text(json.dumps(config | {"vision_feature_layer": layer}))
    refused(copy, f"vision_feature_layer is {layer}, and the tower has 3 layers")


@pytest.mark.parametrize("depth", [400, 900])
def test_a_config_nested_as_deeply_as_json_goes_is_read_or_refused(copy: Path, depth: int):
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace("{", '{"nested": ' + '{"a":' * depth + "0" + "}" * depth + ",", 1))
    with suppress(CheckpointError):
        assert check_checkpoint(str(copy)) == copy


@pytest.mark.parametrize("value", ["</s>", 1.5, [2, "x"], {"a": 1}, True])
def test_token_ids_must_be_ids(copy: Path, value: object):
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    refused(copy, "generation_config.json says eos_token_id=.*; expected an id, a list of ids or null")


def test_a_generation_config_that_transformers_refuses_gives_its_token_ids(copy: Path):
    own = read_json(copy / "generation_config.json")
    (copy / "generation_config.json").write_text(json.dumps(own | {"max_new_tokens": -3, "eos_token_id": [3, 7]}))
    with pytest.warns(UserWarning, match="its token ids alone are used: .*max_new_tokens"):
        loaded = load_model(str(copy)).model.generation_config
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.max_new_tokens) == ([3, 7], 0, None)


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _safetensors(file: Path, header: object, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    file.write_bytes(struct.pack("<Q", size % 2**64) + text + data)
    return file


def test_a_header_says_what_the_tensors_are(tmp_path: Path):
    header = {"__metadata__": {"format": "pt"}, "a": TENSOR, "b": {**TENSOR, "data_offsets": [8, 16]}}
    assert read_header(_safetensors(tmp_path / "f", header, b"\0" * 16)) == {"a": header["a"], "b": header["b"]}


@pytest.mark.parametrize(
    ("header", "more"),
    [
        (b"{xx", {}),
        (b"\xef\xbb\xbf{}", {"data": b""}),
        (b'{"\xff": 1}', {}),
        (b'{"a":' + b"[" * 100_000, {}),
        ([TENSOR], {}),
        (None, {}),
        ({"a": 5}, {}),
        ({"a": None}, {}),
        ({"a": {"dtype": "F32"}}, {}),
        ({"a": TENSOR}, {"length": -1}),
        ({"a": TENSOR}, {"length": 10**12}),
        ({"a": TENSOR}, {"length": 0}),
        ({"a": TENSOR}, {"data": b"\0" * 16}),
        ({"a": TENSOR, "b": TENSOR}, {}),
        ({"a": {**TENSOR, "data_offsets": [0, 80]}}, {}),
        ({"a": {**TENSOR, "data_offsets": [8, 0]}}, {}),
        ({"a": {**TENSOR, "data_offsets": [-8, 0]}}, {}),
        ({"a": {**TENSOR, "data_offsets": [0, 8.5]}}, {}),
        ({"a": {**TENSOR, "dtype": "Q7"}}, {}),
        ({"a": {**TENSOR, "shape": [3]}}, {}),
        ({"a": {**TENSOR, "shape": [2**63, 2**63]}}, {}),
        ({"a": TENSOR, "__metadata__": {"a": 3}}, {}),
    ],
)
def test_a_header_that_is_none_is_one_line(tmp_path: Path, header: object, more: dict[str, Any]):
    file = _safetensors(tmp_path / "model.safetensors", header, **more)
    with pytest.raises(CheckpointError, match=rf"{file} .* is truncated or not a safetensors file: .*; copy it again"):
        read_header(file)


def test_a_header_names_a_tensor_once(tmp_path: Path):
    one = json.dumps({"a": TENSOR})[1:-1]
    with pytest.raises(CheckpointError, match="names a twice in its header"):
        read_header(_safetensors(tmp_path / "f", f"{{{one}, {one}}}".encode()))


def test_what_is_no_file_is_no_safetensors_file(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no file"):
        read_header(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("model.safetensors"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers(-1, 16) | st.integers() | JSON
TENSORS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F4", "X"]) | JSON,
        "shape": st.lists(NUMBERS, max_size=3) | JSON,
        "data_offsets": st.lists(NUMBERS, max_size=3) | JSON,
    }
)
NAMES = st.sampled_from(["a", "b", "__metadata__", "config.json"])
HEADERS = st.dictionaries(NAMES, TENSORS | JSON, max_size=3).map(lambda value: json.dumps(value).encode())
BYTES = HEADERS | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40)


def _reads(folder: Path, text: bytes, data: bytes, length: int | None) -> None:
    """Every reader of a folder's files gives a value or our error."""
    file = _safetensors(folder / "model.safetensors", text, data, length)
    for name in ("config.json", "model.safetensors.index.json"):
        (folder / name).write_bytes(text)
    for read in (
        lambda: read_header(file),
        lambda: read_json(folder / "config.json"),
        lambda: read_config(folder),
        lambda: weight_files(folder),
    ):
        with suppress(CheckpointError):
            assert isinstance(read(), dict | list)


LENGTHS = st.none() | st.integers(-1, 100)


@given(text=BYTES, data=st.binary(max_size=16), length=LENGTHS)
def test_whatever_stands_in_the_files_is_read_or_refused(tmp_path_factory, text, data, length):
    _reads(tmp_path_factory.getbasetemp(), text, data, length)


@pytest.mark.slow
@settings(max_examples=20_000)
@given(text=BYTES, data=st.binary(max_size=64), length=LENGTHS)
def test_whatever_stands_in_the_files_is_read_or_refused_again_and_again(tmp_path_factory, text, data, length):
    _reads(tmp_path_factory.getbasetemp(), text, data, length)
