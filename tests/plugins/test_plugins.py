"""The contract of scorers, complexity estimators and recoveries, run on every one that is found in the packages
named by --plug-ins (default: autoprune_lab).

Check your own with `pytest tests/plugins/test_plugins.py --plug-ins my_package`. A `conf/scorer/<name>.yaml`
(complexity, recovery) inside or beside the package must agree with the signature; the house's own plug-ins must have
one. A result that depends on the order of the visual tokens is told by a line `Order:` in the docstring.
"""

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from autoprune_lab.plugins.contracts import find_estimators, find_recoveries, find_scorers
from autoprune_lab.plugins.plain_evidence import alone, copied, evidence_of, part_of, uneven_attention
from autoprune_lab.pruner_file import plain
from autoprune_lab.schedule.plan import Plan, keep_all

FINDERS = {"scorer": find_scorers, "complexity": find_estimators, "recovery": find_recoveries}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
VISION, ROWS = [60, 41, 12, 0], [5, 3, 2, 0]
ALLOWED = np.array([24, 9, 12, 0])


def pytest_generate_tests(metafunc):
    packages = metafunc.config.getoption("--plug-ins") or ["autoprune_lab"]
    found = {group: [each for package in packages for each in find(package)] for group, find in FINDERS.items()}
    wanted = {"reader": ("scorer", "complexity"), "plugin": tuple(FINDERS), "scorer": ("scorer",)}
    wanted |= {"complexity": ("complexity",), "recovery": ("recovery",)}
    if "package" in metafunc.fixturenames:
        metafunc.parametrize("package", packages)
    for name in metafunc.fixturenames:
        if name in wanted:
            cases = [pytest.param((g, p), id=p.__name__) for g in wanted[name] for p in found[g]]
            metafunc.parametrize(name, cases)


def evidence(seed=0):
    """A padded batch of four samples, the last one without a picture; no padding in it looks like a token."""
    filled = evidence_of(uneven_attention(seed, 4, 5, 60), VISION, ROWS, seed=seed)
    return copied(filled, hidden_=filled.source.hidden_.masked_fill(~filled.vision_mask[..., None], torch.nan))


def made(plugin):
    """The callable itself: an instance of a class, made with its defaults."""
    return plugin() if inspect.isclass(plugin) else plugin


def recover(plugin, seen):
    """(kept, merged, scores, survivors) of a plan for `ALLOWED` tokens."""
    recovery, counts = made(plugin), seen.vision_mask.sum(1).numpy()
    allowed = np.array([ALLOWED[VISION.index(n)] for n in counts.tolist()])
    plan = Plan.within(allowed[:, None], counts, getattr(recovery, "split", keep_all))
    kept, merged = (torch.from_numpy(part[:, 0]) for part in plan)
    scores = made_up(seen)
    return kept, merged, scores, recovery(seen, scores, kept, merged)


def made_up(seen):
    """Scores that depend on nothing but the token: no two are alike."""
    return ((seen.index + 1).double() * 0.754877666).frac().float()


def survivors_of(seen, survivors, sample):
    """Index -> hidden state of the tokens that one sample is left with."""
    slots = survivors.keep[sample].nonzero().flatten()
    index = seen.index if survivors.index is None else survivors.index
    hidden = seen.hidden if survivors.hidden is None else survivors.hidden
    return dict(zip(index[sample, slots].tolist(), hidden[sample, slots], strict=True))


def assert_alike(some, others):
    assert some.keys() == others.keys()
    for index in some:
        torch.testing.assert_close(some[index], others[index], **CLOSE)


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def claims_order(plugin):
    return bool(re.search(r"^\s*Order: \S", plugin.__doc__ or "", re.MULTILINE))


def result(group, plugin, seen):
    """What a plug-in says, as tensors to compare."""
    if group != "recovery":
        return [made(plugin)(seen)]
    survivors = recover(plugin, seen)[3]
    return [part for part in survivors if part is not None]


def configs(group, plugin):
    """conf/<group>/<name>.yaml, wherever it exists inside or beside the package."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", plugin.__name__).lower()
    folders = Path(str(sys.modules[plugin.__module__].__file__)).parents[: plugin.__module__.count(".") + 1]
    return [path for folder in folders if (path := folder / "conf" / group / f"{name}.yaml").exists()]


def test_the_package_holds_plugins(package):
    assert [each for find in FINDERS.values() for each in find(package)]


def test_nothing_is_changed_and_the_same_again_gives_the_same(plugin):
    group, one = plugin
    seen = evidence()
    before, state = copied(seen), torch.get_rng_state()
    first = result(group, one, seen)
    torch.manual_seed(1)
    again = result(group, one, copied(before))
    torch.set_rng_state(state)
    for one_time, next_time in zip(first, again, strict=True):
        assert_same(one_time, next_time)
    for held, kept in ((seen, before), (seen.source, before.source)):
        for name, value in vars(kept).items():
            if isinstance(value, torch.Tensor):
                assert_same(getattr(held, name), value)


def test_no_random_state_is_used_up(plugin):
    state = torch.get_rng_state()
    result(*plugin, evidence())
    assert torch.equal(torch.get_rng_state(), state)


def test_one_finite_score_per_visual_token_that_tells_them_apart(scorer):
    seen = evidence()
    scores = made(scorer[1])(seen)
    assert scores.shape == seen.vision_mask.shape
    assert scores[seen.vision_mask].isfinite().all()
    assert len(scores[0].unique()) > 1


def test_one_finite_number_of_bits_per_sample(complexity):
    bits = made(complexity[1])(evidence())
    assert bits.shape == (4,)
    assert bits.isfinite().all()


def test_a_sample_s_result_depends_on_neither_its_batch_nor_padding(reader):
    group, one = reader
    together = made(one)(evidence())
    for i in range(3):
        single, real = made(one)(alone(evidence(), i))[0], together[i]
        torch.testing.assert_close(real[: VISION[i]] if group == "scorer" else real, single, **CLOSE)


def test_an_order_that_matters_is_told_and_none_that_does_not(plugin):
    group, one = plugin
    changed = False
    for seed in range(3):
        seen, order = alone(evidence(seed), 0), torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        moved = part_of(seen, 0, torch.arange(5), order)
        try:
            if group == "recovery":
                assert_alike(
                    survivors_of(seen, recover(one, seen)[3], 0), survivors_of(moved, recover(one, moved)[3], 0)
                )
            else:
                straight = made(one)(seen)[0]
                expected = straight[order] if group == "scorer" else straight
                torch.testing.assert_close(made(one)(moved)[0], expected, **CLOSE)
        except AssertionError:
            changed = True
    assert changed == claims_order(one)


def test_exactly_the_planned_tokens_stay_and_none_is_padding(recovery):
    seen = evidence()
    kept, merged, _, survivors = recover(recovery[1], seen)
    assert (kept + merged).tolist() == ALLOWED.tolist()
    assert (survivors.keep & seen.vision_mask).sum(1).tolist() == ALLOWED.tolist()
    assert not (survivors.keep & ~seen.vision_mask).any()
    for i, count in enumerate(ALLOWED):
        assert len(survivors_of(seen, survivors, i)) == count, "a token stands in two places"


def test_the_best_scored_are_kept_unchanged(recovery):
    seen = evidence()
    kept, _, scores, survivors = recover(recovery[1], seen)
    for i in range(4):
        left = survivors_of(seen, survivors, i)
        for index in scores[i, : VISION[i]].argsort(descending=True)[: kept[i]].tolist():
            assert torch.equal(left[index], seen.hidden[i, index])


def test_a_recovery_s_sample_depends_on_neither_its_batch_nor_padding(recovery):
    together = recover(recovery[1], evidence())[3]
    for i in range(3):
        single = alone(evidence(), i)
        survivors = recover(recovery[1], single)[3]
        assert_alike(survivors_of(single, survivors, 0), survivors_of(evidence(), together, i))


def test_nothing_is_made_where_nothing_is_dropped_and_never_more_than_is(recovery):
    split = getattr(made(recovery[1]), "split", keep_all)
    present = np.arange(200)[:, None] + np.zeros(200, dtype=np.int64)
    allowed = np.minimum(np.arange(200), present)
    kept, merged = split(allowed, present)
    assert (np.minimum(kept, merged) >= 0).all()
    assert (kept + merged <= allowed).all()
    assert (merged <= present - kept).all()
    assert (kept[allowed == present] == present[allowed == present]).all()
    for i in (0, 7, 150):
        assert [part.tolist() for part in split(allowed[i], present[i])] == [kept[i].tolist(), merged[i].tolist()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hidden_states_keep_their_dtype(recovery, dtype):
    seen = copied(evidence(), hidden_=evidence().hidden.to(dtype))
    hidden = recover(recovery[1], seen)[3].hidden
    assert hidden is None or hidden.dtype == dtype


def test_config_agrees_with_the_signature(plugin):
    group, one = plugin
    found = configs(group, one)
    assert found or not one.__module__.startswith("autoprune_lab."), "a plug-in of the house needs its yaml"
    parameters = inspect.signature(one).parameters.values()
    defaults = {p.name: plain(p.default) for p in parameters if p.default is not p.empty}
    for config in found:
        values = yaml.safe_load(config.read_text())
        assert config.read_text().startswith(f"# @package pruner.{group}\n")
        assert values.pop("_target_") == f"{one.__module__}.{one.__qualname__}"
        assert values.pop("_partial_", False) == (not inspect.isclass(one))
        assert values == defaults


def test_docstring_says_what_it_is_and_where_it_is_from(plugin):
    text = inspect.getdoc(plugin[1]) or ""
    assert len(text.splitlines()[0]) > 20
    if re.search(r"arXiv|github\.com|\b\d{4}\.\d{5}\b", text):
        assert re.search(r"^Source: .*(arXiv|github\.com)", text, re.MULTILINE)
