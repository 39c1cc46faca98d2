"""Loading checkpoints: the ordinary way, and every way it can go wrong."""

import json
from pathlib import Path

import pytest
import torch

from autoprune_lab.models.checkpoint import CheckpointError, check_checkpoint, load_model, load_processor
from autoprune_lab.testbed.build import build_model, build_processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    build_model(3, n_layers=2).save_pretrained(path)
    build_processor().save_pretrained(path)
    return path


def test_a_saved_model_comes_back_unchanged(folder: Path):
    vlm = load_model(str(folder))
    expected = build_model(3, n_layers=2).state_dict()
    assert vlm.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in vlm.model.state_dict().items())
    assert not vlm.model.training
    assert load_processor(str(folder)).tokenizer.get_vocab() == build_processor().tokenizer.get_vocab()


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
        ("config.json", "[]", "no JSON object"),
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
