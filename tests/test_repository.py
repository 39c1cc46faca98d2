"""What the pages name is there, and what pyproject.toml admits at least is what `make test-lowest` runs with."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]
OURS = r"(?:autoprune_lab|policies|search|conf|tests|docs|benchmarks|notebooks|examples|\.ci)/"

PLACEHOLDER = re.compile("NAME|OPTION")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    files = {name.rstrip(".") for name in re.findall(rf"(?<![\w/.-])({OURS}[\w./*-]*)(?![\w/*<{{-])", text)}
    links = set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text))
    modules = {f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.\w+)", text)}
    targets = {f"{target}:" for target in re.findall(r"`make ([a-z-]+)", text)} - set(
        re.findall(r"^[a-z-]+:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    gone = {name for name in files | modules if not any(ROOT.glob(name)) and not PLACEHOLDER.search(name)}
    gone |= {link for link in links if not (page.parent / link).exists()}
    assert not gone | targets


def test_the_readme_counts_model_types_as_the_table_does() -> None:
    told = r"(\d+) model types: (\d+) exact, (\d+) refused, (\d+) not applicable"
    types, exact, refused, not_applicable = re.search(told, (ROOT / "docs" / "models.md").read_text()).groups()
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{exact} of the {types} model types" in readme
    assert f"{refused} are refused with the reason, in {not_applicable} no decoder reads visual tokens" in readme


def test_the_lowest_versions_are_the_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    bounds: dict[str, set[Version]] = {}
    for needed in map(Requirement, texts):
        at_least = (Version(one.version) for one in needed.specifier if one.operator == ">=")
        bounds.setdefault(canonicalize_name(needed.name), set()).update(at_least)
    del bounds[project["name"]], bounds["torch"]  # torch: see the Makefile
    assert bounds == {name: {Version(pins[name])} for name in bounds}
