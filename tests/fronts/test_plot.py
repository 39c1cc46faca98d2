import pytest
from matplotlib.figure import Figure

from autoprune_lab.fronts.front import ParetoFront
from autoprune_lab.fronts.plot import COST_LABEL, SCORE_LABEL, plot_fronts

FRONT = ParetoFront((0.2, 0.4, 0.7), (0.5, 0.8, 0.9), ("a", "b", "c"))
SEEDS = [FRONT, ParetoFront((0.3, 0.5), (0.6, 0.7), ("a", "b")), ParetoFront((0.25,), (0.65,), ("a",))]


def test_a_drawn_front_is_the_score_attained_at_each_cost():
    (line,) = plot_fronts({"front": FRONT}, {"unpruned": [(1.0, 1.0)]}).axes[0].lines[:1]
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[0.2, 0.5], [0.4, 0.8], [0.7, 0.9], [1.0, 0.9]]
    assert len(line.get_markevery()) == 3


def test_it_overlays_labels_and_writes(tmp_path):
    fronts = {"ours": FRONT, "empty": ParetoFront()}
    figure = plot_fronts(fronts, {"FastV": [(0.3, 0.6), (0.8, 0.7)], "none": []}, path=tmp_path / "fronts.png")
    (axes,) = figure.axes
    assert names(axes) == ["ours", "FastV"]  # what has no points has no name
    assert (axes.get_xlabel(), axes.get_ylabel()) == (COST_LABEL, SCORE_LABEL)
    assert axes.lines[0].get_xdata()[-1] == 0.8
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 3
    assert (tmp_path / "fronts.png").stat().st_size > 1000


def test_it_draws_into_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_fronts({"ours": FRONT}, axes=right, ylabel="score") is figure
    assert (len(left.lines), len(right.lines), right.get_ylabel()) == (0, 1, "score")


def test_the_bound_is_a_line_and_no_front_is_drawn_beyond_it():
    axes = plot_fronts({"ours": FRONT}, {"unpruned": [(1.0, 1.0)]}, bounds=[0.8, 0.5, 0.8]).axes[0]
    assert axes.lines[0].get_xdata()[-1] == 0.8
    assert [text.get_text() for text in axes.texts] == ["ours", "unpruned", "bound 0.5", "bound 0.8"]
    assert [line.get_xdata()[0] for line in axes.lines if str(line.get_label()).startswith("bound")] == [0.5, 0.8]


def test_seeds_are_a_median_in_a_band_from_best_to_worst():
    axes = plot_fronts({"ours": SEEDS}, bounds=[0.7]).axes[0]
    middle, best, worst = (line.get_xydata().tolist() for line in axes.lines[:3])
    assert middle == [[0.25, 0.5], [0.3, 0.6], [0.4, 0.65], [0.5, 0.7], [0.7, 0.7]]
    assert best == [[0.2, 0.5], [0.25, 0.65], [0.4, 0.8], [0.7, 0.9], [0.7, 0.9]]
    assert worst == [[0.3, 0.5], [0.4, 0.6], [0.5, 0.65], [0.7, 0.65]]
    assert len(axes.collections) == 1
    assert names(axes) == ["ours: median of 3, best to worst"]


def test_measured_points_stand_alone_in_the_colour_of_their_front():
    axes = plot_fronts({"ours": FRONT}, measured={"ours": [(0.3, 0.6)], "theirs": [(0.5, 0.7)]}).axes[0]
    front, ours, theirs = axes.lines
    assert (ours.get_color(), ours.get_linestyle(), ours.get_markerfacecolor()) == (
        front.get_color(),
        "None",
        "#0072B2",
    )
    assert theirs.get_color() != front.get_color()
    assert names(axes) == ["ours", "theirs"]


def test_scores_are_told_in_percent_where_the_axis_says_so():
    percent, plain = (plot_fronts({"ours": FRONT}, ylabel=label).axes[0] for label in (SCORE_LABEL, "cosine"))
    assert percent.yaxis.get_major_formatter()(0.875) == "87.5"
    assert plain.yaxis.get_major_formatter()(0.875) != "87.5"


def names(axes):
    """The names beside the data."""
    return [text.get_text() for text in axes.texts if text.arrow_patch is not None]


@pytest.mark.parametrize("where", ["points", "measured"])
def test_intervals_are_bars_from_low_to_high(where):
    rows = [(0.3, 0.6, 0.5, 0.8), (0.5, 0.9, 0.9, 0.9)]
    axes = plot_fronts({"ours": FRONT}, **{where: {"ours": rows}}).axes[0]
    (bars,) = axes.collections
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [pytest.approx([0.5, 0.8]), [0.9, 0.9]]
