"""The site's pages that are made from the code: every key, group, option and public name stands on them."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

import autoprune_lab as ap

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"


def made_by(name: str):
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "_site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


keys, api = made_by("config_keys"), made_by("api")


@pytest.fixture(scope="module")
def page() -> str:
    return keys.page(CONF)


def test_every_top_level_key_has_a_row(page: str):
    written = {key for key in yaml.safe_load((CONF / "config.yaml").read_text()) if key != "defaults"}
    assert written <= {key.partition(".")[0] for key in re.findall(r"^\| `([\w.@]+)` \|", page, re.M)}


def test_a_key_of_config_yaml_explains_itself_or_stands_below_one_that_does():
    said = {path: comment for path, _, comment in keys._leaves(CONF / "config.yaml")}
    bare = [path for path, comment in said.items() if not comment and not any(path.startswith(f"{p}.") for p in said)]
    assert bare == []


def test_every_option_of_every_group_is_there(page: str):
    options = {f"{file.parent.name}={file.stem}" for file in CONF.glob("*/*.yaml")}
    assert options == set(re.findall(r'^\?\?\? note "(\w+=\w+)"', page, re.M))


def test_a_row_says_default_and_comment(page: str):
    assert "| `seed` | `0` | same seed, same front |" in page
    assert "| `search.workers` | `1` | so many run trials at the same time; how they are started: launcher |" in page
    assert "| `pope` | POPE: is this object in the picture? |" in page


def test_what_has_no_comment_is_told_by_what_it_builds(tmp_path: Path):
    (tmp_path / "bare.yaml").write_text("# @package pruner\n_target_: a.b.C\n")
    assert keys.summary(tmp_path / "bare.yaml") == "`a.b.C`"


def test_every_public_name_is_on_the_page_of_the_api():
    named = re.findall(r"^::: autoprune_lab\.[\w.]*?(\w+)$", api.page(ROOT), re.M)
    assert sorted(named) == ap.__all__
