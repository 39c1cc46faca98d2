"""What parts of a pruner want to know of earlier decisions is found wherever it stands."""

from functools import partial

import pytest

from autoprune_lab.evidence.history import Recall, recall_of
from autoprune_lab.selection.mmr import Mmr
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.selection.recovery import drop
from autoprune_lab.selection.scorers import text_attention
from autoprune_lab.selection.vla_pruner import ActionHistory, CombineThenFilter


def test_it_is_found_in_whatever_wraps_it_with_the_longest_window():
    history = ActionHistory(window=2, layer=5)
    for part in (history, partial(per_view, scorer=history), Mmr(history), CombineThenFilter(history)):
        assert recall_of([text_attention, part, None]) == Recall(5, 2)
    assert recall_of([history, Mmr(ActionHistory(window=4, layer=5))]) == Recall(5, 4)
    assert recall_of([text_attention, drop, partial(per_view, scorer=text_attention), None]) is None


def test_two_layers_are_refused():
    with pytest.raises(ValueError, match="histories of layers"):
        recall_of([ActionHistory(layer=5), CombineThenFilter()])


@pytest.mark.parametrize(("layer", "n_layers", "number"), [(0.47, 32, 15), (0.47, 12, 5), (3, 4, 3), (0.0, 4, 0)])
def test_a_part_of_the_depth_is_rounded_down(layer, n_layers, number):
    assert Recall(layer).number(n_layers) == number


def test_a_layer_behind_the_last_is_refused():
    with pytest.raises(ValueError, match="none of the decoder's 4"):
        Recall(4).number(4)
