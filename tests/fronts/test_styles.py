"""Every method has its own look, and a figure is written three times."""

from matplotlib.figure import Figure

from autoprune_lab.fronts.styles import BASELINES, FAMILIES, OTHER, save, style_of
from search.config.catalogue import options_of
from search.methods.arms import DOWNSAMPLE, UNPRUNED


def test_no_two_methods_look_alike():
    names = [name for names in FAMILIES.values() for name in names]
    assert len(names) == len(set(names))
    assert len({style_of(name) for name in names}) == len(names)


def test_every_shipped_method_has_a_look_of_its_own():
    assert {name for names in FAMILIES.values() for name in names} == {*options_of("method"), DOWNSAMPLE} - {UNPRUNED}


def test_a_look_goes_with_the_name_alone():
    assert style_of("fastv")[:3] == ("attention", "#0072B2", "o")
    assert style_of("random")[:3] == (BASELINES, "#000000", "P")
    assert style_of("mine") == style_of("mine")
    assert style_of("mine").family == OTHER


def test_a_figure_is_written_as_png_pdf_and_svg_the_same_each_time(tmp_path):
    figure = Figure()
    figure.subplots().plot([0, 1], label="a")
    files = save(figure, tmp_path / "f.png")
    assert [file.suffix for file in files] == [".png", ".pdf", ".svg"]
    first = [file.read_bytes() for file in files]
    assert [head[:4] for head in first[:2]] == [b"\x89PNG", b"%PDF"]
    assert [file.read_bytes() for file in save(figure, tmp_path / "f.pdf")] == first
