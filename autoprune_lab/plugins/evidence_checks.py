"""The contracts of scorers, complexity estimators and recoveries, point by point, on evidence of plain tensors.

Each point takes the plug-in, and raises where it does not keep it. A result that depends on the order of the visual
tokens is told by a line `Order:` in the docstring.
"""

import inspect
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from autoprune_lab.errors import one_line
from autoprune_lab.evidence.calibration import Calibrated, SampleNeeds
from autoprune_lab.evidence.evidence import Estimator, Evidence, Scorer
from autoprune_lab.plugins.contracts import ESTIMATOR, RECOVERY, SCORER, Plugin
from autoprune_lab.plugins.plain_evidence import (
    alone,
    copied,
    evidence_of,
    part_of,
    source_of,
    tensors_of,
    uneven_attention,
)
from autoprune_lab.plugins.requirements import ContractError, check_config, require
from autoprune_lab.schedule.plan import Plan, Split
from autoprune_lab.selection.recovery import Recovery, Survivors, splits_of

VISION, ROWS = (60, 41, 12, 0), (5, 3, 2, 0)  # of four samples, the last one without a picture
DECISIONS = (2, 1, 0, 0)  # that came before, in the samples' episodes
ALLOWED = dict(zip(VISION, (24, 9, 12, 0), strict=True))
KINDS = {SCORER: Scorer, ESTIMATOR: Estimator, RECOVERY: Recovery}
LEAST_DOCSTRING = 20  # characters of its first line


def pure(plugin: Plugin) -> None:
    """The same evidence gives the same result bit for bit, and stays as it is."""
    seen = _evidence()
    before = copied(seen)
    first = _result(plugin, seen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        again = _result(plugin, copied(before))
    for one_time, next_time in zip(first, again, strict=True):
        _require_close(one_time, next_time, "another result the second time", tolerance=0.0)
    for held, kept in ((seen, before), (source_of(seen), source_of(before))):
        for name, value in tensors_of(kept).items():
            _require_close(getattr(held, name), value, f"changes the evidence's {name}", tolerance=0.0)


def uses_no_random_state(plugin: Plugin) -> None:
    """Torch's global generator stands where it stood: a seed is an argument, a hash needs none."""
    state = torch.get_rng_state()
    _result(plugin, _evidence())
    require(torch.equal(torch.get_rng_state(), state), "draws from torch's global generator")


def finite_scores_that_differ(plugin: Plugin) -> None:
    """(batch, vision), finite where a token is real, in an episode and outside one."""
    seen = _evidence()
    outside = copied(seen, history_=torch.zeros(len(VISION), 0, VISION[0]))
    for when, evidence in {"": seen, " outside an episode": outside}.items():
        scores, wanted = _made(plugin)(evidence), tuple(seen.vision_mask.shape)
        require(scores.shape == wanted, f"gives scores of shape {tuple(scores.shape)}{when}, expected {wanted}")
        n_bad = int((~scores[seen.vision_mask].isfinite()).sum())
        require(n_bad == 0, f"gives {n_bad} of {sum(VISION)} visual tokens a score that is not finite{when}")
        n_scores = len(scores[0].unique())
        require(n_scores > 1, f"gives {n_scores} score for {VISION[0]} unlike tokens{when}, expected more")


def finite_number_per_sample(plugin: Plugin) -> None:
    """(batch,), also for a sample without a picture."""
    bits, wanted = _made(plugin)(_evidence()), (len(VISION),)
    require(bits.shape == wanted, f"gives numbers of shape {tuple(bits.shape)}, expected {wanted}")
    require(bool(bits.isfinite().all()), f"gives {bits.tolist()}, expected finite numbers")


def same_alone_and_in_a_batch(plugin: Plugin) -> None:
    """A sample alone gets what it gets in a padded batch, to 1e-5."""
    seen, words = _evidence(), "another result alone than in a padded batch"
    for i, n_vision in enumerate(VISION[:3]):
        single = alone(seen, i)
        if RECOVERY.kept_by(plugin):
            one, among = (_recover(plugin, each).survivors for each in (single, seen))
            _require_alike(_left(single, one, 0), _left(seen, among, i), words)
        else:
            together = _made(plugin)(seen)[i]
            real = together[:n_vision] if SCORER.kept_by(plugin) else together
            _require_close(real, _made(plugin)(single)[0], words)


def order_is_told(plugin: Plugin) -> None:
    """A line `Order: ...` in the docstring if, and only if, the result depends on where the tokens stand."""
    told = bool(re.search(r"^\s*Order: \S", plugin.__doc__ or "", re.MULTILINE))
    found = [text for seed in range(3) if (text := _order_mattered(plugin, seed))]
    require(
        not found or told,
        f"the order of the visual tokens matters: say how in a line 'Order: ...' ({''.join(found[:1])})",
    )
    require(bool(found) or not told, "its docstring has a line 'Order: ...', but no order changes the result")


def planned_tokens_stay(plugin: Plugin) -> None:
    """kept + merged slots of each sample, none of them padding, each with an index of its own."""
    seen, allowed = _evidence(), list(ALLOWED.values())
    recovered = _recover(plugin, seen)
    planned = (recovered.kept + recovered.merged).tolist()
    require(planned == allowed, f"`split` plans {planned} tokens, allowed are {allowed}")
    keep = recovered.survivors.keep
    stay = (keep & seen.vision_mask).sum(1).tolist()
    require(stay == allowed, f"{stay} tokens stay, planned are {allowed}")
    require(not (keep & ~seen.vision_mask).any(), f"{int((keep & ~seen.vision_mask).sum())} slots of padding stay")
    for i, count in enumerate(allowed):
        n_unlike = len(_left(seen, recovered.survivors, i))
        require(n_unlike == count, f"{count} tokens stay under {n_unlike} indices: a token stands in two places")


def best_stay_unchanged(plugin: Plugin) -> None:
    """The `kept` best scored, bit for bit."""
    seen = _evidence()
    kept, _, scores, survivors = _recover(plugin, seen)
    for i, n_vision in enumerate(VISION):
        left = _left(seen, survivors, i)
        for index in scores[i, :n_vision].argsort(descending=True)[: kept[i]].tolist():
            require(index in left, f"token {index}, one of the {kept[i]} best scored, does not stay")
            require(torch.equal(left[index], seen.hidden[i, index]), f"token {index}, one of the best, is changed")


def split_within_what_is_dropped(plugin: Plugin) -> None:
    """0 <= kept + merged <= allowed, merged <= dropped, all kept where all may stay; each row as it is alone."""
    splits = splits_of(_made(plugin))
    for split in [splits] if callable(splits) else splits:
        _check_split(split)


def _check_split(split: Split) -> None:
    present = np.arange(200)[:, None] + np.zeros(200, dtype=np.int64)
    allowed = np.minimum(np.arange(200), present)
    kept, merged = split(allowed, present)
    wrong = (np.minimum(kept, merged) < 0) | (kept + merged > allowed) | (merged > present - kept)
    wrong |= (allowed == present) & (kept != present)
    for i, j in np.argwhere(wrong)[:1]:
        words = f"{allowed[i, j]} of {present[i, j]} tokens into {kept[i, j]} kept and {merged[i, j]} merged"
        raise ContractError(f"`split` makes {words}: at most what is allowed, merged at most what is dropped")
    for i in (0, 7, 150):
        alike = [part.tolist() for part in split(allowed[i], present[i])] == [kept[i].tolist(), merged[i].tolist()]
        require(alike, f"`split` gives another result for row {i} alone than among others")


def dtype_is_kept(plugin: Plugin) -> None:
    """Half precision in, half precision out."""
    for dtype in (torch.bfloat16, torch.float16):
        hidden = _recover(plugin, copied(_evidence(), hidden_=_evidence().hidden.to(dtype))).survivors.hidden
        given = dtype if hidden is None else hidden.dtype
        require(given == dtype, f"gives hidden states of {given} for {dtype}")


def config_agrees(plugin: Plugin) -> None:
    """conf/GROUP/NAME.yaml, named as the plug-in is, in snake case."""
    contract = next(contract for contract in KINDS if contract.kept_by(plugin))
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", plugin.__name__).lower()
    check_config(plugin, contract.group, name, KINDS[contract])


def docstring_is_complete(plugin: Plugin) -> None:
    """A first line of some length; papers and code named in a line `Source:`."""
    text = inspect.getdoc(plugin) or ""
    n_characters = len(text.partition("\n")[0])
    require(n_characters > LEAST_DOCSTRING, f"its docstring's first line has {n_characters} characters, too few")
    names_a_paper = re.search(r"arXiv|github\.com|\b\d{4}\.\d{5}\b", text)
    has_source = re.search(r"^Source: .*(arXiv|github\.com)", text, re.MULTILINE)
    require(not names_a_paper or bool(has_source), "its docstring names a paper or code without a line 'Source: ...'")


_OF_ALL = (
    pure,
    uses_no_random_state,
    same_alone_and_in_a_batch,
    order_is_told,
    config_agrees,
    docstring_is_complete,
)
POINTS = {
    SCORER: (finite_scores_that_differ, *_OF_ALL),
    ESTIMATOR: (finite_number_per_sample, *_OF_ALL),
    RECOVERY: (
        planned_tokens_stay,
        best_stay_unchanged,
        split_within_what_is_dropped,
        dtype_is_kept,
        *_OF_ALL,
    ),
}


class _Recovered(NamedTuple):
    """What a plan for `ALLOWED` tokens asks of a recovery, and what that gives."""

    kept: Tensor
    merged: Tensor
    scores: Tensor
    survivors: Survivors


def _evidence(seed: int = 0) -> Evidence:
    """A padded batch of four samples, two of them in an episode; no padding in it looks like a token."""
    filled = evidence_of(uneven_attention(seed, 4, 5, 60), VISION, ROWS, seed=seed)
    was = (torch.arange(max(DECISIONS)) < torch.tensor(DECISIONS)[:, None])[..., None] & filled.vision_mask[:, None]
    history = uneven_attention(seed + 7, 4, max(DECISIONS), 60).mean(1) * was
    hidden = filled.hidden.masked_fill(~filled.vision_mask[..., None], torch.nan)
    return copied(filled, hidden_=hidden, history_=history)


def _made(plugin: Plugin) -> Plugin:
    """The callable itself: an instance of a class, made with its defaults, and calibrated where it must be."""
    made = plugin() if isinstance(plugin, type) else plugin
    return _calibrated(plugin) if isinstance(made, Calibrated) and not made.ready else made


@lru_cache(maxsize=1)
def _calibrated(plugin: Plugin) -> Plugin:
    """The estimator, fitted to samples whose needs were made up."""
    made, seen = plugin(), evidence_of(uneven_attention(1, 12, 5, 60), seed=1)
    needs = SampleNeeds(np.arange(12.0), np.arange(12.0) % 5 + 1, n_layers=12)
    estimator: Plugin = made.calibrated(made.read(seen), needs, _evidence().layer)
    return estimator


def _recover(plugin: Plugin, seen: Evidence) -> _Recovered:
    counts = seen.vision_mask.sum(1).numpy()
    allowed = np.array([ALLOWED[n] for n in counts.tolist()])
    plan = Plan.within(allowed[:, None], counts, splits_of(_made(plugin)))
    kept, merged = (torch.from_numpy(part[:, 0]) for part in plan)
    scores = ((seen.index + 1).double() * 0.754877666).frac().float()  # of the token alone; no two are alike
    return _Recovered(kept, merged, scores, _made(plugin)(seen, scores, kept, merged))


def _result(plugin: Plugin, seen: Evidence) -> list[Tensor]:
    """What a plug-in says, as tensors to compare."""
    if not RECOVERY.kept_by(plugin):
        return [_made(plugin)(seen)]
    return [part for part in _recover(plugin, seen).survivors if part is not None]


def _left(seen: Evidence, survivors: Survivors, sample: int) -> dict[int, Tensor]:
    """Index -> hidden state of the tokens that one sample is left with."""
    slots = survivors.keep[sample].nonzero().flatten()
    index = seen.index if survivors.index is None else survivors.index
    hidden = seen.hidden if survivors.hidden is None else survivors.hidden
    return dict(zip(index[sample, slots].tolist(), hidden[sample, slots], strict=True))


def _order_mattered(plugin: Plugin, seed: int) -> str:
    """What differs once the first sample's tokens stand in another order; empty where nothing does."""
    seen, order = alone(_evidence(seed), 0), torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    moved = part_of(seen, 0, torch.arange(ROWS[0]), order)
    try:
        if RECOVERY.kept_by(plugin):
            some, others = (_left(each, _recover(plugin, each).survivors, 0) for each in (seen, moved))
            _require_alike(some, others, "another result")
        else:
            straight, turned = _made(plugin)(seen)[0], _made(plugin)(moved)[0]
            _require_close(turned, straight[order] if SCORER.kept_by(plugin) else straight, "another result")
    except ContractError as difference:
        return str(difference)
    return ""


def _require_alike(some: dict[int, Tensor], others: dict[int, Tensor], otherwise: str) -> None:
    """The same tokens, with close hidden states."""
    require(some.keys() == others.keys(), f"{otherwise}: tokens {sorted(some.keys() ^ others.keys())[:5]} differ")
    for index in some:
        _require_close(some[index], others[index], f"{otherwise}, token {index}")


def _require_close(one: Any, other: Any, otherwise: str, tolerance: float = 1e-5) -> None:
    """Tensors of one shape and dtype; exact at a tolerance of 0, where NaN is NaN."""
    try:
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance, equal_nan=tolerance == 0)
    except AssertionError as error:
        raise ContractError(f"{otherwise}: {one_line(error)}") from error
