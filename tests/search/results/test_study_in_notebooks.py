"""A study in a notebook: three lines."""

import pytest
from fake_evaluator import finished

import search
from search.config.errors import ConfigError
from search.results.pictures import plot_layers
from search.results.report import trials_table
from search.results.study import Comparison, Study, load_study

FEW = ("report.ratios=[0.5]", "~report.arms.random", "~report.arms.uniform", "~report.arms.layerwise")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook") / "runs"
    finished(folder, "wide", "policy=fixed", *FEW)
    finished(folder, "other", *FEW)
    finished(folder, "policies", "space=policies", "space.policy.choices=[fixed,layerwise]", *FEW)
    return folder


def test_it_is_loaded_by_its_folder_or_its_name(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    study = search.load_study("wide")
    assert isinstance(study, Study)
    assert study.name == load_study(runs / "wide").name == "wide"
    assert [one.name for one in Study.find(runs)] == ["other", "policies", "wide"]
    with pytest.raises(ConfigError, match="did you mean wide"):
        load_study("wid")


def test_it_is_shown_short_with_what_the_report_split_says(runs):
    study = load_study(runs / "wide")
    shown = study._repr_html_()
    assert repr(study) == f"Study(wide: 8 trials, {len(study.front.costs)} on the front)"
    assert repr(study) in shown
    assert len(shown) < 8_000
    _, score, low, high = study.report_points[0]
    assert f"<td>{score:.3f}</td><td>{low:.3f}</td><td>{high:.3f}</td>" in shown


def test_it_is_drawn_on_both_splits(runs):
    figure = load_study(runs / "wide").plot()
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes]
    named = "wide, embedded:shapes-s0, shapes"
    assert titles == [f"{named}, tune split", f"{named}, report split, 95 % intervals"]
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_what_the_front_keeps_is_drawn_layer_by_layer(runs):
    study = load_study(runs / "wide")
    axes = plot_layers(study).axes[0]
    drawn = {patch.get_label(): patch.get_data().values.tolist() for patch in axes.patches}
    kept = study.layers.set_index("trial")["mean"]
    assert drawn == {f"trial {number}": kept[int(number)].tolist() for number in study.front.labels}


def test_a_study_over_policies_says_which_policy_each_point_is(runs):
    study = load_study(runs / "policies")
    assert "<th>policy</th>" in study._repr_html_()
    chosen = study.trials[study.trials["feasible"]]
    assert {name: len(points) for name, points in study.tried.items()} == chosen["policy"].value_counts().to_dict()
    assert {"front", *study.tried} <= {text.get_text() for text in study.plot().axes[0].texts}
    assert trials_table(study.trials).splitlines()[0].split()[-1] == "policy"
    assert "policy" not in trials_table(load_study(runs / "wide").trials).splitlines()[0]


def test_it_is_compared_with_others(runs):
    study = load_study(runs / "wide")
    compared = study.compare(load_study(runs / "other"), str(runs / "policies"), at=(0.5,))
    assert isinstance(compared, Comparison)
    assert repr(compared) == "Comparison(wide, other, policies)"
    assert compared.summary["study"].tolist() == ["wide", "other", "policies"]
    assert "measured" in compared.summary  # the report split
    assert "<caption>report split</caption>" in compared._repr_html_()
    assert len(compared._repr_html_()) < 8_000
    assert "score of left minus right at equal FLOPs ratio" in str(compared)
    assert len(compared.figure.axes) == 2


def test_a_notebook_shows_table_and_picture(runs, monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    load_study(runs / "wide").compare(runs / "other")._ipython_display_()
    table, picture = shown
    assert "hypervolume" in table.data
    assert picture.data[:4] == b"\x89PNG"
