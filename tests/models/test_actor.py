"""pi0's processor, without torchvision: prompts as they are, and statistics that must be there."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from acting import CHUNK, MEAN, N_PATCHES, STATE, STD, checkpoint
from expected_sorting import OLDER
from PIL import Image

from autoprune_lab.models.actor import action_shape, answers_in_actions, check_statistics, in_units
from autoprune_lab.models.checkpoint import check_checkpoint, load_model, load_processor, model_config
from autoprune_lab.models.errors import CheckpointError
from autoprune_lab.models.pi0_pictures import PI0ImageProcessor
from autoprune_lab.models.template import apply_template

current = pytest.mark.skipif(OLDER, reason="of transformers 5.23")


@current
def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path):
    vlm = load_model(checkpoint(tmp_path))
    assert type(vlm.model).__name__ == "PI0ForConditionalGeneration"
    assert model_config(check_checkpoint(str(tmp_path)))[1] == (63,)
    assert answers_in_actions(vlm.processor)
    assert action_shape(vlm.processor) == (CHUNK, 2)
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "pick it up"}]}]
    assert apply_template(vlm.processor, message) == "pick it up"
    picture = Image.new("RGB", (40, 30), (255, 0, 0))
    given = vlm.processor(
        images=[[picture], [picture] * 2], text=["red", "a b c"], state=[MEAN, [0.75, 1.0]], padding=True,
        max_length=None, return_tensors="pt",
    )  # fmt: skip
    assert (given["input_ids"] == 63).sum(1).tolist() == [N_PATCHES, 2 * N_PATCHES]
    assert given["pixel_values"].shape == (2, 2, 3, 28, 28)
    np.testing.assert_allclose(given["state"], [[0, 0, 0, 0], [1, 1, 0, 0]], atol=1e-6)
    assert given["state"].shape[1] == STATE


def test_pictures_keep_their_shape_and_fill_up_at_the_right_and_below():
    pixels = PI0ImageProcessor()([Image.new("RGB", (64, 32), (255, 255, 255))], return_tensors="pt")["pixel_values"][0]
    assert pixels.shape == (3, 224, 224)
    assert (pixels[:, :112] == 1).all()
    assert (pixels[:, 112:] == 0).all()


@current
def test_actions_are_unnormalised_as_the_processor_normalised_them(tmp_path):
    processor = load_processor(checkpoint(tmp_path))
    actions = np.random.default_rng(0).normal(size=(1, CHUNK, 2))
    padded = torch.cat([processor.normalize(torch.tensor(actions), "actions"), torch.ones(1, CHUNK, 1)], dim=2)
    np.testing.assert_allclose(in_units(processor, padded), actions, atol=1e-7)


@current
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"state_mean": None}, "has no state_mean and state_std: put those of the data set there"),
        ({"actions_std": STD[:1]}, "actions_mean and actions_std must be equally many finite numbers, 3 at most"),
        ({"state_mean": [0.0] * 5, "state_std": [1.0] * 5}, "state_mean and state_std must be equally many"),
        ({"max_state_dim": 8}, "says max_state_dim=8, where config.json means 4"),
        ({"chunk_size": 50}, "says chunk_size=50, where config.json means 5"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_in_one_line(tmp_path, given, said):
    path = checkpoint(tmp_path, **given)
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_processor(path)


def test_a_processor_that_makes_statistics_up_is_refused(tmp_path):
    older = SimpleNamespace(state_mean=torch.zeros(8))
    with pytest.raises(CheckpointError, match=r"makes statistics up; pip install 'transformers>=5.23'"):
        check_statistics(tmp_path, older, None)
