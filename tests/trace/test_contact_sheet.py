"""A contact sheet: which layers it shows, and that what has gone by then is dark."""

import numpy as np
import pytest

from autoprune_lab.trace.contact_sheet import DARK, GAP, LINE, PANEL, contact_sheet, telling_layers


@pytest.mark.parametrize(
    ("counts", "layers"),
    [
        ([9, 9, 9], [0]),
        ([9, 9, 4, 4, 1], [0, 2, 4]),
        ([4, 4, 1], [0, 2]),  # cut before layer 0
        (range(20, 0, -1), [0, 5, 10, 14, 19]),
    ],
)
def test_the_layers_shown_are_the_first_and_those_where_tokens_fall(counts, layers):
    assert telling_layers(np.array(counts)) == layers


def test_a_sheet_is_dark_where_patches_have_gone():
    picture = np.full((1, 8, 12, 3), 200, dtype=np.uint8)
    depths = np.array([[[4, 1, 4], [1, 4, 1]]])
    sheet = np.asarray(contact_sheet(picture, depths, 4, ["what?"]))
    height = PANEL * 8 // 12
    first, second = (sheet[GAP + 2 * LINE :][:height, left:][:, :PANEL] for left in (GAP, 2 * GAP + PANEL))
    assert (first == 200).all()
    light = [second[row, column, 0] for row in (10, height - 10) for column in (10, PANEL // 2, PANEL - 10)]
    assert light == [200, int(200 * DARK), 200, int(200 * DARK), 200, int(200 * DARK)]
