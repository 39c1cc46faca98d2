"""The figure of the table of methods."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from search.methods import figure
from search.methods.figure import COLUMN, FULL, draw

ROWS = [
    ("none", np.nan, 1.0, 0.9, False),
    *(("fastv", tokens, cost, score, tokens == 192) for tokens, cost, score in ((192, 0.4, 0.8), (64, 0.2, 0.5))),
    *(("sparsevlm", tokens, cost, score, False) for tokens, cost, score in ((192, 0.4, 0.8), (64, 0.2, 0.7))),
    ("random", 192, 0.4, 0.6, False),
    ("mine", 192, 0.4, 0.85, False),
    ("pdrop", 20, np.nan, np.nan, None),
]
TABLE = pd.DataFrame(ROWS, columns=["method", "tokens", "flops_ratio", "score", "no_op"])
TABLE = TABLE.assign(**{"score:low": TABLE["score"] - 0.05, "score:high": TABLE["score"] + 0.05})


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws a table, and gives its figure by its width."""

    def at(width: float, table: pd.DataFrame = TABLE) -> Figure:
        kept = []
        monkeypatch.setattr(figure, "save", lambda picture, path: kept.append(picture))
        draw(table, tmp_path / "t.png", "title", width)
        return kept[0]

    return at


def test_it_is_written_for_paper_and_screen(tmp_path):
    assert [file.name for file in draw(TABLE, tmp_path / "t.png", "title")] == ["t.png", "t.pdf", "t.svg"]
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("width", "columns"), [(FULL, 3), (COLUMN, 1)])
def test_a_panel_a_family_of_what_ran_in_print_size(drawn, width, columns):
    picture = drawn(width)
    assert picture.get_size_inches()[0] == width
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["attention", "baselines", "other"]
    assert picture.axes[0].get_gridspec().ncols == columns


def test_lines_have_the_looks_of_their_names_behind_them_the_front_and_chance(drawn):
    axes = drawn(FULL).axes[0]
    (front,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert front.get_xydata().tolist() == [[0.2, 0.7], [0.4, 0.85]]
    looks = {line.get_color(): line.get_marker() for line in axes.lines if line.get_marker() not in ("None", "")}
    assert {"#0072B2": "o", "#D55E00": "o"}.items() <= looks.items()
    named = {text.get_text(): text for text in axes.texts}
    assert set(named) == {"fastv", "sparsevlm", "random", "unpruned"}
    assert named["fastv"].get_color() == "#0072B2"


def test_intervals_stand_aside_of_one_another_and_all_are_seen(drawn):
    axes = drawn(FULL).axes[0]
    dodged = {
        axes.transData.inverted().transform(bars.get_transform().transform((0.4, 0.8)))[0] for bars in axes.collections
    }
    assert len(dodged) == 2
    assert np.mean(list(dodged)) == pytest.approx(0.4)
    low, high = axes.get_ylim()
    assert low < 0.45
    assert high > 0.95


def test_labels_of_equal_scores_do_not_cover_one_another(drawn):
    axes = drawn(COLUMN).axes[0]
    places = {text.get_text(): axes.transData.transform((0, text.xyann[1]))[1] for text in axes.texts}
    points = 72 / axes.figure.dpi
    assert abs(places["fastv"] - places["sparsevlm"]) * points > axes.texts[0].get_fontsize()


def test_a_no_op_is_ringed_and_explained(drawn):
    picture = drawn(FULL)
    rings = [line for line in picture.axes[0].lines if line.get_markersize() == 6.5]
    assert [line.get_xydata().tolist() for line in rings if len(line.get_xdata())] == [[[0.4, 0.8]]]
    assert "ringed" in picture._supxlabel.get_text()
    assert "ringed" not in drawn(FULL, TABLE.drop(columns="no_op"))._supxlabel.get_text()


def test_a_table_of_which_nothing_ran_is_drawn_empty(drawn):
    assert drawn(FULL, TABLE[TABLE["method"] == "pdrop"]).axes[0].lines[:] == []
