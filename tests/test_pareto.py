import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from autoprune_lab.pareto import COST_LABEL, ParetoFront, pareto_mask, plot_fronts

FRONT = ParetoFront((0.2, 0.4, 0.7), (0.5, 0.8, 0.9), ("a", "b", "c"))

# Few distinct values, so that ties and duplicates are common.
VALUES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(-1, 2) | st.just(math.nan) | st.just(math.inf)
POINTS = st.lists(st.tuples(VALUES, VALUES), max_size=25)


def columns(points):
    return np.array(points, dtype=float).reshape(-1, 2).T


def dominates(left, right):
    return left[0] <= right[0] and left[1] >= right[1] and left != right


@given(POINTS)
def test_mask_is_the_definition_of_dominance(points):
    finite = [point for point in points if all(map(math.isfinite, point))]
    expected = [p in finite and not any(dominates(other, p) for other in finite) for p in points]
    assert pareto_mask(*columns(points)).tolist() == expected


@given(POINTS)
def test_front_holds_each_surviving_point_once_and_names_it(points):
    costs, scores = columns(points)
    front = ParetoFront.of(costs, scores)
    assert set(zip(front.costs, front.scores, strict=True)) == {
        points[i] for i in np.flatnonzero(pareto_mask(costs, scores))
    }
    assert [points[int(label)] for label in front.labels] == list(zip(front.costs, front.scores, strict=True))


def test_of_equal_points_the_first_gives_its_label():
    assert ParetoFront.of([0.3, 0.3], [0.5, 0.5], ["first", "second"]).labels == ("first",)


def test_hypervolume_by_hand():
    assert FRONT.hypervolume() == pytest.approx(0.2 * 0.5 + 0.3 * 0.8 + 0.3 * 0.9)
    assert FRONT.hypervolume(reference_cost=0.5, reference_score=0.6) == pytest.approx(0.1 * 0.2)
    assert ParetoFront((), (), ()).hypervolume() == 0.0


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(-2, 12), st.integers(-2, 12)), max_size=12))
def test_hypervolume_is_the_number_of_dominated_cells(points):
    """Brute force on unit cells: a cell counts when some point is cheaper and better than all of it."""
    cells = [(x, y) for x in range(-2, 10) for y in range(1, 13)]
    dominated = sum(any(cost <= x and score >= y + 1 for cost, score in points) for x, y in cells)
    assert ParetoFront.of(*columns(points)).hypervolume(10.0, 1.0) == dominated


@given(POINTS, st.floats(-1, 2))
def test_score_at_is_the_best_affordable_score(points, cost):
    affordable = [p[1] for p in points if all(map(math.isfinite, p)) and p[0] <= cost]
    np.testing.assert_equal(ParetoFront.of(*columns(points)).score_at(cost), max(affordable, default=math.nan))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_csv_gives_the_same_front_back(tmp_path_factory, points):
    path = tmp_path_factory.mktemp("front") / "front.csv"
    front = ParetoFront.of(*columns(points), labels=[f'trial {i}, "x"' for i in range(len(points))])
    front.to_csv(path)
    assert ParetoFront.from_csv(path) == front


def test_json_is_a_list_of_points(tmp_path):
    FRONT.to_json(tmp_path / "front.json")
    assert '"label": "b"' in (tmp_path / "front.json").read_text()
    assert FRONT.rows()[1] == {"cost": 0.4, "score": 0.8, "label": "b"}


@pytest.mark.parametrize(
    ("costs", "scores", "labels"),
    [((0.2, 0.1), (0.5, 0.6), ("a", "b")), ((0.1, 0.2), (0.6, 0.5), ("a", "b")), ((0.1,), (0.5,), ())],
)
def test_what_is_no_front_is_refused(costs, scores, labels):
    with pytest.raises(ValueError, match=r"use ParetoFront.of"):
        ParetoFront(costs, scores, labels)


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        pareto_mask([0.1, 0.2], [0.5])
    with pytest.raises(ValueError, match="1 labels for 2 points"):
        ParetoFront.of([0.1, 0.2], [0.5, 0.6], ["a"])


def test_a_drawn_front_is_the_score_attained_at_each_cost():
    axes = Figure().subplots()
    FRONT.plot(axes, "front", until=1.0)
    (line,) = axes.lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[0.2, 0.5], [0.4, 0.8], [0.7, 0.9], [1.0, 0.9]]
    assert len(line.get_markevery()) == 3


def test_plot_fronts_overlays_labels_and_writes(tmp_path):
    fronts = {"ours": FRONT, "empty": ParetoFront((), (), ())}
    figure = plot_fronts(fronts, {"FastV": [(0.3, 0.6), (0.8, 0.7)], "none": []}, path=tmp_path / "fronts.png")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours", "empty", "FastV", "none"]
    assert axes.get_xlabel() == COST_LABEL
    assert axes.lines[0].get_xdata()[-1] == 0.8
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 4
    assert (tmp_path / "fronts.png").stat().st_size > 1000


def test_plot_fronts_draws_into_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_fronts({"ours": FRONT}, axes=right, ylabel="score") is figure
    assert (len(left.lines), len(right.lines), right.get_ylabel()) == (0, 1, "score")
