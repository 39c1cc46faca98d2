import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune_lab.fronts.front import NotOnFront, ParetoFront, attained, pareto_mask

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
    with pytest.raises(ValueError, match="1 truth values of feasible for 2 points"):
        ParetoFront.of([0.1, 0.2], [0.5, 0.6], feasible=[True])


def test_what_is_left_out_is_counted_and_said():
    costs, scores = [0.2, 0.2, 0.3, 0.1, 0.4, 0.1], [0.5, 0.5, 0.4, math.nan, math.inf, 0.9]
    front = ParetoFront.of(costs, scores, feasible=[True, True, True, True, True, False])
    assert (front.costs, front.scores, front.labels) == ((0.2,), (0.5,), ("0",))
    assert front.left_out == NotOnFront(dominated=2, infeasible=1, no_result=2)
    assert str(front.left_out) == "2 dominated, 1 over a bound, 2 without a result"
    assert ParetoFront().left_out == NotOnFront() == NotOnFront(0, 0, 0)
    assert front == ParetoFront((0.2,), (0.5,), ("0",))


def test_csv_of_trials_by_the_names_of_its_columns(tmp_path):
    path = tmp_path / "trials.csv"
    path.write_text("trial,flops,acc,feasible\n4,0.3,0.6,True\n5,0.2,,True\n6,0.1,0.9,False\n")
    front = ParetoFront.from_csv(path, "flops", "acc", "trial")
    assert front.rows() == [{"cost": 0.3, "score": 0.6, "label": "4"}]
    assert front.left_out == NotOnFront(0, 1, 1)
    with pytest.raises(ValueError, match="no column 'cost'; columns: trial, flops, acc, feasible"):
        ParetoFront.from_csv(path)


def test_the_share_of_points_that_another_front_dominates():
    other = ParetoFront((0.2, 0.3, 0.6), (0.5, 0.7, 0.9), tuple("xyz"))
    assert FRONT.dominated_by(other) == pytest.approx(1 / 3)  # 0.7; its first point is equal, its second better
    assert other.dominated_by(FRONT) == 0.0
    assert FRONT.dominated_by(ParetoFront()) == 0.0
    assert math.isnan(ParetoFront().dominated_by(FRONT))


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4), min_size=1, max_size=5))
def test_attainment_is_the_score_that_so_many_runs_reach(runs):
    fronts = [ParetoFront.of(*columns(points)) for points in runs]
    for k in range(1, len(runs) + 1):
        surface = attained(fronts, k)
        for cost in map(float, range(7)):
            reached = sorted((s for s in (front.score_at(cost) for front in fronts) if s == s), reverse=True)
            expected = reached[k - 1] if len(reached) >= k else math.nan
            np.testing.assert_equal(surface.score_at(cost), expected)


def test_no_surface_for_more_runs_than_there_are():
    with pytest.raises(ValueError, match="runs=2 must be between 1 and the number of fronts, 1"):
        attained([FRONT], 2)


def test_the_knee_is_farthest_above_the_line_between_the_ends():
    assert FRONT.knee() == 1
    assert ParetoFront((0.1, 0.2, 0.9), (0.2, 0.3, 1.0), tuple("abc")).knee() == 0  # on the line: the cheapest
    assert ParetoFront((0.1, 0.5, 0.9), (0.2, 0.3, 1.0), tuple("abc")).knee() == 0  # below it
    assert ParetoFront((0.3,), (0.5,), ("a",)).knee() == 0
    with pytest.raises(ValueError, match="no knee"):
        ParetoFront().knee()


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9), st.floats(0.1, 50))
def test_the_knee_does_not_depend_on_units(points, unit):
    front = ParetoFront.of(*columns(points).round(3))
    scaled = ParetoFront.of(unit * np.array(front.costs), np.array(front.scores) / unit)
    assert scaled.knee() == front.knee()
