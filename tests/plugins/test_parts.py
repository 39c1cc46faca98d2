"""Reading a pruner runs nothing: whatever a file names, only parts that fit their place come out of it."""

import ast
import builtins
import importlib
import inspect
import os
import pickle
import pkgutil
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NewType, get_type_hints

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

import autoprune_lab
import policies
import search
from autoprune_lab import pruner_file
from autoprune_lab.evidence.evidence import Scorer
from autoprune_lab.plugins import contracts, discovery, parts
from autoprune_lab.plugins.contracts import find_estimators, find_recoveries, find_scorers
from autoprune_lab.plugins.discovery import find_policies, near_miss
from autoprune_lab.plugins.parts import PackagesError, PartError, make
from autoprune_lab.pruner import Pruner
from autoprune_lab.schedule.budget import Budget, OwnCurve
from autoprune_lab.schedule.mean_budget import MeanBudget
from autoprune_lab.schedule.official_budget import OfficialBudget
from autoprune_lab.schedule.policy import Policy
from autoprune_lab.selection.cluster_merge import ClusterMerge
from autoprune_lab.selection.per_view import per_view
from autoprune_lab.selection.scorers import random, text_attention
from policies.fixed import FixedPolicy
from policies.layerwise import LayerwisePolicy

OURS = ("autoprune_lab", "policies", "search")
ROOTS = (autoprune_lab, policies, search)
READER = {module.__file__ for module in (discovery, parts, contracts, pruner_file)}
FIXED = {"_target_": "policies.fixed.FixedPolicy"}
PRUNER = {"_target_": "autoprune_lab.pruner.Pruner", "policy": FIXED}
FIELDS = get_type_hints(Pruner)
DANGEROUS = {"posix", "_posixsubprocess", "_io", "_socket", "_pickle", "marshal"}
LOOKS = {"stat", "fstat", "lstat", "listdir", "scandir", "getcwd", "fspath"}  # as a search for a module does

# importing lmms-eval costs seconds (test_lmms_adapter.py reads hostile files through it); vla-eval need not be there
HOSTS = {
    "search.methods.lmms_adapter": "lmms_eval.models",
    "search.methods.vla_server": "vla_eval",
}


def modules():
    """Every module of the three packages; what stands in another tool's place only where that is imported."""
    for root in ROOTS:
        yield root
        for found in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if found.name in HOSTS and HOSTS[found.name] not in sys.modules:
                continue
            yield importlib.import_module(found.name)


@pytest.fixture(scope="module")
def named():
    """Full name -> callable: what the modules hold, imported or not, methods of our classes, and the system's own."""
    owners = [*modules(), os, subprocess, shutil, builtins, pickle]
    found = {f"{owner.__name__}.{key}": value for owner in owners for key, value in vars(owner).items()}
    classes = [value for value in found.values() if inspect.isclass(value) and value.__module__.startswith(OURS)]
    for each in dict.fromkeys(classes):
        found |= {f"{each.__module__}.{each.__qualname__}.{key}": value for key, value in vars(each).items()}
    return {name: value for name, value in found.items() if callable(value)}


@pytest.fixture(scope="module")
def called():
    """What is called while a block lasts: code of the three packages outside the reader, and dangerous builtins."""
    folders = tuple(str(Path(root.__file__).parent) for root in ROOTS)
    seen, known = set(), set()

    def watch(frame, event, arg):
        if event == "call":
            known.add(frame.f_code)
        elif event == "c_call" and arg.__module__ in DANGEROUS and arg.__name__ not in LOOKS:
            seen.add((arg.__module__, arg.__name__))

    class Watched:
        def __enter__(self):
            seen.clear()
            known.clear()
            sys.setprofile(watch)
            return seen

        def __exit__(self, *_):
            sys.setprofile(None)
            ours = [code for code in known if code.co_filename.startswith(folders)]
            seen.update((code.co_filename, code.co_qualname) for code in ours if code.co_filename not in READER)

    return Watched


def attempt(node, kind, packages):
    """The value, or None where it is refused."""
    try:
        return make(node, kind, packages)
    except PartError:
        return None


def parts_of(value):
    """A part and all that it is made of, functions without what is bound to them."""
    if isinstance(value, partial):
        return [value.func, *(part for item in value.keywords.values() for part in parts_of(item))]
    return [value]


FITTING = {
    "policy": set(find_policies("policies")),
    "budget": {Budget, MeanBudget, OfficialBudget, OwnCurve},
    "scorer": set(find_scorers("autoprune_lab")),
    "complexity": set(find_estimators("autoprune_lab")),
    "recovery": set(find_recoveries("autoprune_lab")),
    "opening_scorer": set(find_scorers("autoprune_lab")),
    "probe_layer": set(),
    "positions": set(),
    "max_cuts": set(),
}


def test_every_field_of_a_pruner_is_tried():
    assert set(FITTING) == set(FIELDS)


@pytest.fixture(scope="module")
def everywhere(named):
    """Every package that any of these is from, as if the reader's user had named them all."""
    homes = [str(getattr(value, "__module__", None)) for value in named.values()]
    return {name.partition(".")[0] for name in (*named, *homes)}


def test_no_name_leads_to_a_call_of_anything_but_a_part(named, everywhere, called, monkeypatch):
    """In a place where any part may stand: a class as such, a function as `_partial_: true`."""
    monkeypatch.setattr(parts, "near_miss", lambda name: None)  # words of a message only, and slow
    fitting = set().union(*FITTING.values())
    with called() as seen:
        for part in filter(inspect.isclass, fitting):
            attempt({"_target_": f"{part.__module__}.{part.__qualname__}"}, Any, everywhere)
    makers = set(seen)
    once = {
        id(value): name for name, value in reversed(named.items())
    }  # what has several names is the same behind each
    taken = []
    with called() as seen:
        for name in once.values():
            more = {} if inspect.isclass(named[name]) else {"_partial_": True}
            taken.append(attempt({"_target_": name} | more, Any, everywhere))
    assert len(once) > 1500
    assert seen <= makers
    made = {value if inspect.isfunction(value) else type(value) for value in taken}
    assert made == {type(None), *fitting} - {Budget, MeanBudget, OfficialBudget}


def test_a_function_is_never_taken_without_partial_nor_a_class_with_it(named, everywhere, monkeypatch):
    monkeypatch.setattr(parts, "near_miss", lambda name: None)
    for name, value in named.items():
        more = {"_partial_": True} if inspect.isclass(value) else {}
        assert attempt({"_target_": name} | more, Any, everywhere) is None, name


@pytest.mark.parametrize("field", FITTING)
def test_a_field_takes_the_parts_of_its_kind_only(field, named, everywhere, monkeypatch):
    monkeypatch.setattr(parts, "near_miss", lambda name: None)
    homes = {f"{part.__module__}.{part.__qualname__}" for kind in FITTING.values() for part in kind}
    taken = set()
    for name in (*homes, *list(named)[::60]):
        for more in ({}, {"_partial_": True}):
            made = attempt(PRUNER | {field: {"_target_": name} | more}, Pruner, everywhere)
            taken |= {part if inspect.isfunction(part) else type(part) for part in [getattr(made, field, None)] if part}
    assert taken == {part for part in FITTING[field] if part not in (Budget, MeanBudget, OfficialBudget)}


def test_importing_our_modules_does_nothing_but_define():
    """A file may have any of them imported. The calls tell transformers three names."""
    calls = []
    for file in sorted(file for root in ROOTS[:2] for file in Path(root.__file__).parent.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            defines = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign)
            says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if not (defines or says or typing or isinstance(node, ast.AnnAssign)):
                calls.append(ast.unparse(node))
    registered = {"_GATED": "_gated_attention", "_NAME": "_tapped_attention", "_LOOK": "_watched_attention"}
    assert calls == [f"AttentionInterface.register({name}, {function})" for name, function in registered.items()]


OVERWRITE = """\
_target_: autoprune_lab.pruner.Pruner
policy: {_target_: policies.fixed.FixedPolicy}
opening_scorer:
  _target_: autoprune_lab.pruner_file.write
  value: {_target_: policies.fixed.FixedPolicy}
  path: {_target_: autoprune_lab.tasks.reading.find_data, path: ~/.bashrc}
"""
HEAD = "_target_: autoprune_lab.pruner.Pruner\n"
WITH = HEAD + "policy: {_target_: policies.fixed.FixedPolicy}\n"
HOSTILE = {
    "writes": (OVERWRITE, "opening_scorer: autoprune_lab.pruner_file.write"),
    "writes later": (
        WITH + "scorer: {_target_: autoprune_lab.pruner_file.write, _partial_: true, path: x}",
        "scorer: got autoprune_lab.pruner_file.write, expected a scorer",
    ),
    "reads another": (
        WITH + "scorer: {_target_: autoprune_lab.pruner_file.read, path: x, packages: [subprocess]}",
        "scorer: autoprune_lab.pruner_file.read: a function is taken with `_partial_: true` only",
    ),
    "loads a checkpoint": (
        WITH
        + "budget: {_target_: autoprune_lab.models.checkpoint.load_model, path: evil, trust_remote_code: true}",
        "budget: autoprune_lab.models.checkpoint.load_model: a function is taken",
    ),
    "runs a program": ("_target_: os.system\ncommand: 'true'", "needs code of os, such as os.system"),
    "allows itself more": ("packages: [os]\n_target_: os.system\n_partial_: true", "needs code of os"),
    "reaches through a module": (WITH + "scorer: {_target_: autoprune_lab.pruner.np.load}", "was not found"),
    "reaches into a class": (WITH + "scorer: {_target_: autoprune_lab.pruner.Pruner.load}", "was not found"),
    "imported names": (HEAD + "policy: {_target_: autoprune_lab.pruner.Path}", "needs code of pathlib"),
    "private": (WITH + "scorer: {_target_: autoprune_lab.selection.scorers._hidden}", "without a leading `_`"),
    "dunder": (WITH + "scorer: {_target_: autoprune_lab.selection.scorers.__builtins__.eval}", "without a leading `_`"),
    "private module": (WITH + "scorer: {_target_: autoprune_lab._x.y}", "without a leading `_`"),
    "a number": (HEAD + "policy: 3", "policy: got 3, expected a Policy"),
    "text": (WITH + "scorer: text_attention", "scorer: got 'text_attention', expected a scorer"),
    "a scorer for a policy": (
        HEAD + "policy: {_target_: autoprune_lab.selection.scorers.random, _partial_: true}",
        "policy: got autoprune_lab.selection.scorers.random, expected a Policy",
    ),
    "a scorer for an estimator": (
        WITH + "complexity: {_target_: autoprune_lab.selection.scorers.random, _partial_: true}",
        "complexity: got autoprune_lab.selection.scorers.random, expected a complexity estimator",
    ),
    "text for a number": (
        HEAD + "policy: {_target_: policies.fixed.FixedPolicy, keep: half}",
        "policy.keep: got 'half', expected a number",
    ),
    "true for a number": (WITH + "probe_layer: true", "probe_layer: got True, expected a whole number"),
    "a fraction of a layer": (WITH + "max_cuts: 1.5", "max_cuts: got 1.5, expected a whole number or null"),
    "another word": (WITH + "positions: orignal", "positions: got 'orignal', expected one of original, compact"),
    "a part in a list of numbers": (
        HEAD + "policy: {_target_: policies.layerwise.LayerwisePolicy, keep: [{_target_: policies.fixed.FixedPolicy}]}",
        "policy.keep[0]: got policies.fixed.FixedPolicy, expected a number",
    ),
    "an argument that evidence has": (
        WITH + "scorer: {_target_: autoprune_lab.selection.scorers.random, _partial_: true, evidence: 3}",
        "scorer: got autoprune_lab.selection.scorers.random, expected a scorer",
    ),
    "positional arguments": (
        WITH + "scorer: {_target_: autoprune_lab.selection.scorers.random, _partial_: true, _args_: [1]}",
        "unknown field 'scorer._args_'; random takes: seed",
    ),
    "a field that it has not": (
        HEAD + "policy: {_target_: policies.fixed.FixedPolicy, kep: 0.5}",
        "unknown field 'policy.kep'; did you mean keep?; FixedPolicy takes: layer, keep",
    ),
    "a value out of range": (
        HEAD + "policy: {_target_: policies.fixed.FixedPolicy, keep: 1.5}",
        "policy: keep=1.5 is outside [0, 1]",
    ),
    "another thing": ("_target_: policies.fixed.FixedPolicy", "got policies.fixed.FixedPolicy, expected a Pruner"),
    "no name": (HEAD + "policy: {keep: 1}", "policy: a mapping needs `_target_`, got the keys ['keep']"),
    "a list of names": (HEAD + "policy: {_target_: [policies.fixed.FixedPolicy]}", "names no part"),
    "nothing": ("", "got None, expected a Pruner"),
    "a tag": ("!!python/object/apply:os.getcwd []", "line 1: the tag tag:yaml.org,2002:python/object/apply:os.getcwd"),
    "an alias": (WITH + "budget: &a null\nmax_cuts: *a", "line 3: anchors and aliases"),
    "twice": (WITH + "max_cuts: 1\nmax_cuts: 2", "line 4: max_cuts is given twice"),
    "a date": (WITH + "max_cuts: 2001-99-99", "max_cuts: got '2001-99-99', expected a whole number"),
    "a merge": (WITH + "<<: {max_cuts: 1}\nmax_cuts: 2", "unknown field '<<'"),
    "an empty name": ("_target_: ''", "_target_ '' names no part"),
    "an endless name": (f"_target_: {'a.' * 3000}b", "needs code of a, such as a.a.a."),
    "an abstract class": (
        HEAD + "policy: {_target_: autoprune_lab.schedule.policy.Policy}",
        "a Policy: Policy is abstract",
    ),
    "a number of 5000 digits": (WITH + f"max_cuts: {'9' * 5000}", "4300 digits"),
    "a number too large": (WITH + f"max_cuts: {'1:' * 400}1.5", "too large"),
    "deep": (WITH + "scorer: " + "[" * 30_000, "nested deeper than 20 levels"),
    "wide": (WITH + "scorer: [" + "1," * 20_000, "holds more than 5000 values"),
    "long": (WITH + "# " + "x" * 70_000, "is longer than 65536 bytes"),
    "no YAML": ("a: [", "expected the node content"),
    "two documents": (WITH + "---\na: 1", "expected a single document"),
    "packages of another kind": (WITH + "packages: {os: 1}", "packages: {'os': 1} is not a list of packages"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("mine")
    text, said = HOSTILE[name]
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PartError) as error:
        Pruner.load(tmp_path / "p.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'p.yaml'}: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {".bashrc": "mine", "p.yaml": text}


@pytest.mark.parametrize("number", ["1e-1", "1E-1", ".1", "0.1", "1.e-1"])
def test_a_number_is_written_as_in_any_config(number, tmp_path):
    (tmp_path / "p.yaml").write_text(WITH.replace("Policy}", f"Policy, keep: {number}}}"))
    assert Pruner.load(tmp_path / "p.yaml").policy.keep == 0.1


def test_ten_million_leaves_are_not_read(tmp_path):
    (tmp_path / "p.yaml").write_text("[" + "1," * 10**7 + "1]")
    begun = time.process_time()
    with pytest.raises(PartError, match="is longer than"):
        Pruner.load(tmp_path / "p.yaml")
    assert time.process_time() - begun < 1


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "p.yaml")
    for path in (tmp_path / "p.yaml", "/dev/zero", tmp_path):
        with pytest.raises(PartError, match="is not a regular file"):
            Pruner.load(path)


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(PartError, match=r"p.yaml: 'utf-8' codec"):
        Pruner.load(tmp_path / "p.yaml")


def test_nothing_of_a_package_that_nobody_named_is_imported(tmp_path, monkeypatch):
    (tmp_path / "alien.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PackagesError, match=r"needs code of alien, such as alien.Part: load it with packages=\['alien'\]"
    ):
        make(PRUNER | {"scorer": {"_target_": "alien.Part", "_partial_": True}}, Pruner)
    with pytest.raises(PartError, match=r"scorer._target_ 'alien.Part' cannot be imported: imported"):
        make(PRUNER | {"scorer": {"_target_": "alien.Part", "_partial_": True}}, Pruner, ["alien"])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("policies.fixed.FixdPolicy", "policies.fixed.FixedPolicy"),
        ("policies.fixd.FixedPolicy", "policies.fixed.FixedPolicy"),
        ("policies.fixd.FixdPolicy", "policies.fixed.FixedPolicy"),
        ("policies.FixedPolicy", "policies.fixed.FixedPolicy"),
        ("polices.fixed.FixedPolicy", "policies.fixed.FixedPolicy"),
        ("autoprune_lab.selection.scorers.TextAttention", "autoprune_lab.selection.scorers.text_attention"),
        ("autoprune_lab.selection.scorers.zzz", None),
        ("zzz.fixed", None),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_one_like_it(name, near):
    assert near_miss(name) == near
    if near and name.split(".")[0] in ("autoprune_lab", "policies"):
        with pytest.raises(PartError, match=f"_target_ '{name}' was not found; did you mean {near}"):
            make({"_target_": name}, Policy)


def test_a_mistyped_package_is_answered_with_ours():
    with pytest.raises(PackagesError, match=r"needs code of polices, .*did you mean policies\?"):
        make({"_target_": "polices.fixed.FixedPolicy"}, Policy)
    with pytest.raises(PackagesError) as error:
        make({"_target_": "my_policies.mine.MinePolicy"}, Policy)
    assert "did you mean" not in str(error.value)


Share = NewType("Share", float)


@dataclass(frozen=True)
class Holds(FixedPolicy):
    """A policy with a field of each kind that a part may have."""

    numbers: tuple[float, int] = (1.0, 1)
    many: list[str] = ()
    either: Literal["a", 1] | None = None
    inner: Policy | None = None
    scorers: tuple[Scorer, ...] = ()
    open_: Any = None
    share: Share | None = None
    last: Final[int] = 3


@dataclass
class Melting(FixedPolicy.__mro__[1]):
    """Not frozen."""

    def shape(self, signal):
        """None."""


def bare(evidence):
    """A scorer without annotations."""


BARE = {"_target_": f"{__name__}.bare", "_partial_": True}
HOLDS, MELTING = f"{__name__}.Holds", f"{__name__}.Melting"


def test_fields_of_every_kind_come_back():
    scorer = {"_target_": "autoprune_lab.selection.scorers.random", "_partial_": True, "seed": 3}
    node = {"numbers": [2, 3], "many": ["x"], "either": 1, "inner": FIXED, "scorers": [scorer], "open_": [1, "x", None]}
    made = make({"_target_": HOLDS, "share": 1, "last": 4} | node, Policy, [__name__])
    assert (made.share, type(made.share), made.last) == (1.0, float, 4)
    assert (made.numbers, made.many, made.either, made.inner) == ((2.0, 3), ["x"], 1, FixedPolicy())
    assert isinstance(made.numbers[0], float)
    assert (made.scorers[0].func, made.scorers[0].keywords, made.open_) == (random, {"seed": 3}, (1, "x", None))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("numbers", [1.0, 1.0], "numbers[1]: got 1.0, expected a whole number"),
        ("numbers", [1.0], "numbers: got [1.0], expected a list"),
        ("many", "x", "many: got 'x', expected a list"),
        ("either", True, "either: got True, expected one of a, 1 or null"),
        ("inner", {"_target_": "autoprune_lab.schedule.budget.OwnCurve"}, "expected a Policy or null"),
        ("scorers", [None], "scorers[0]: got None, expected a scorer"),
        ("scorers", [BARE], 'which is annotated so: (evidence: Evidence) -> Float[Tensor, "batch vision"]'),
        ("last", 4.0, "last: got 4.0, expected a whole number"),
        ("open_", {"_target_": "autoprune_lab.schedule.geometry.Geometry"}, "or a part of a pruner"),
        ("open_", {"_target_": "autoprune_lab.pruner_file.write", "_partial_": True}, "or a part of a pruner"),
        ("inner", {"_target_": HOLDS, "keep": 10**400}, "inner.keep: got 1000"),
    ],
)
def test_a_value_of_another_kind_is_refused(field, value, said):
    with pytest.raises(PartError) as error:
        make({"_target_": HOLDS, field: value}, Policy, [__name__])
    assert said in str(error.value)


def test_only_frozen_dataclasses_are_made_and_saved(tmp_path):
    with pytest.raises(PartError, match=rf"got {MELTING}, expected a Policy"):
        make({"_target_": MELTING}, Policy, [__name__])
    with pytest.raises(ValueError, match=rf"got {MELTING}, expected a Policy: a part is a @dataclass\(frozen=True\)"):
        Pruner(Melting()).save(tmp_path / "p.yaml")
    assert not list(tmp_path.iterdir())


def test_recoveries_and_fitted_budgets_come_back(tmp_path):
    for budget in (MeanBudget(flops_ratio=0.5, scale=0.123456789), OfficialBudget(64, 2.0), OwnCurve(), None):
        shared = partial(per_view, scorer=text_attention, shares=(1.0, 0.5), tokens_per_view=4)
        pruner = Pruner(LayerwisePolicy(), budget, recovery=ClusterMerge(False), opening_scorer=shared)
        pruner.save(tmp_path / "p.yaml")
        again = Pruner.load(tmp_path / "p.yaml")
        assert (again.policy, again.budget, again.recovery) == (pruner.policy, budget, ClusterMerge(False))
        assert (again.opening_scorer.func, again.opening_scorer.keywords) == (per_view, shared.keywords)


NAMES = st.sampled_from(
    ["policies.fixed.FixedPolicy", "policies.layerwise.LayerwisePolicy", "autoprune_lab.pruner.Pruner",
     "autoprune_lab.schedule.budget.Budget", "autoprune_lab.selection.scorers.random",
     "autoprune_lab.selection.recovery.drop", "autoprune_lab.selection.cluster_merge.ClusterMerge",
     "autoprune_lab.selection.per_view.per_view", "autoprune_lab.pruner_file.write", "autoprune_lab.pruner.Path",
     "os.system", "a", "", "policies..fixed", "policies.fixed", "_a.b"]
)  # fmt: skip
KEYS = st.sampled_from([*FIELDS, "_target_", "_partial_", "layer", "keep", "seed", "scorer", "packages", "in_place"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NAMES
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3)
    | st.builds(lambda name, rest, is_partial: {**rest, "_target_": name} | ({"_partial_": True} if is_partial else {}),
                NAMES, st.dictionaries(KEYS, inner, max_size=4), st.booleans()),
    max_leaves=12,
)  # fmt: skip
PRUNERS = st.dictionaries(KEYS, TREES, max_size=5).map(lambda more: yaml.safe_dump(PRUNER | more))
SNIPPETS = st.sampled_from(
    ["&a", "*a", "!!int", "{", "[", "- ", ": ", "<<: ", "\n", "\0", "---\n", "\t", "'", "0x", "1:"]
)
TORN = st.builds(lambda text, at, more: text[: at % (len(text) + 1)] + more + text[at % (len(text) + 1) :],
                 PRUNERS, st.integers(0, 2000), SNIPPETS | st.text(max_size=4))  # fmt: skip


def read_any(file, content):
    """A pruner, or an error of the reader's own in one line that names the file."""
    file.write_bytes(content)
    try:
        made, said = Pruner.load(file), None
    except PartError as error:
        made, said = None, str(error)
    assert isinstance(made, Pruner) or said.startswith(f"{file}: ")
    assert said is None or "\n" not in said


@given(text=PRUNERS | TORN | st.text())
@example(text="x: " + "1:" * 400 + "1.5")
@example(text="<<: 1")
@example(text="? [1]\n: 2")
@example(text="= : 1")
def test_whatever_a_file_holds_gives_a_pruner_or_one_line(text, tmp_path_factory):
    read_any(tmp_path_factory.getbasetemp() / "fuzzed.yaml", text.encode("utf-8", "surrogatepass"))


@pytest.mark.slow
@settings(max_examples=20_000)
@given(content=(PRUNERS | TORN).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=200))
def test_whatever_a_file_holds_gives_a_pruner_or_one_line_for_minutes(content, tmp_path_factory):
    read_any(tmp_path_factory.getbasetemp() / "fuzzed.yaml", content)
