"""FastVID against its official code's numbers, and in plain loops."""

import math

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, part_of
from autoprune_lab.selection.fastvid import Fastvid
from autoprune_lab.selection.scorers import cls_attention
from tests.support.films import filmed, video
from tests.support.goldens import goldens


def recovered(evidence, counts, **fields):
    counts = torch.tensor(counts)
    return Fastvid(**fields)(evidence, cls_attention(evidence), 0 * counts, counts)


def seen_of(films, drawn, features):
    """A sample a video; `features`: one row a frame, the same for each of its tokens."""
    tower = [each.repeat_interleave(film.shape[1], 0) for film, each in zip(films, features, strict=True)]
    return filmed(*([film] for film in films), cls_=[each.flatten() for each in drawn], tower_=tower)


@pytest.mark.parametrize("golden", goldens("fastvid"), ids=str)
def test_official_numbers(golden):
    tokens, attention, text, given = (*(golden.inputs[k] for k in ("tokens", "attention", "text")), golden.params)
    fields = {"segments": given["c"], "tau": given["tau"], "context": given["d"]}
    fields |= {"stride": given["p"], "own": given["beta"]}
    golden.check(segments=Fastvid(**fields).lengths([golden.inputs["frames"]])[0])
    seen = seen_of([tokens], [attention], [golden.inputs["frames"]])
    survivors = recovered(seen, [len(golden.outputs["kept"])], **fields)
    kept = survivors.keep[0].nonzero().flatten()
    left = survivors.hidden[0, kept]
    golden.check(kept=kept, tokens=torch.cat([text[: given["before"]], left, text[given["before"] :]]))
    same = (survivors.hidden[0] == seen.hidden[0]).all(-1).view(tokens.shape[:2])
    n_salient = len(golden.outputs["salient"][0])
    salient = attention.argsort(dim=1, descending=True)[:, :n_salient]
    golden.check(salient=salient)
    assert same.gather(1, salient).all()
    per_frame = survivors.keep[0].view(tokens.shape[:2]).sum(1) - n_salient
    golden.check(anchors_per_frame=per_frame)


def of_one_video(tokens, attention, features, total, segments, tau, d, p, beta):
    """{slot: token} of what one video keeps, `total` a frame before rounding."""
    n_frames, n = tokens.shape[:2]
    context = int(total * d)
    alike = [torch.cosine_similarity(features[f], features[f + 1], dim=0).item() for f in range(n_frames - 1)]
    least = sorted(range(n_frames - 1), key=lambda f: alike[f])[: segments - 1]
    ends = [f for f in range(n_frames - 1) if f in least or alike[f] < tau] + [n_frames - 1]
    out, first = {}, 0
    for last in ends:
        length, rest = last - first + 1, {}
        for f in range(first, last + 1):
            order = sorted(range(n), key=lambda i: -attention[f, i])
            out |= {f * n + i: tokens[f, i] for i in order[: total - context]}
            rest[f] = sorted(order[total - context :])
        for f in range(last, first - 1, -p):
            at = peaks(tokens[f], rest[f], count := context * length // math.ceil(length / p))
            among = [f] if count == context else rest
            groups = {anchor: [] for anchor in at}
            for point in [tokens[g, i] for g in among for i in rest[g]] if at else []:
                like = {a: torch.cosine_similarity(point, tokens[f, a], dim=0).item() for a in at}
                groups[max(at, key=like.get)].append(point)
            for anchor, members in groups.items():
                w = max(1 / (len(members) + 1), beta)
                out[f * n + anchor] = w * tokens[f, anchor] + (1 - w) * torch.stack(members).mean(0)
        first = last + 1
    return dict(sorted(out.items()))


def peaks(tokens, rest, count):
    apart = {i: {j: (tokens[i] - tokens[j]).norm().item() / tokens.shape[1] ** 0.5 for j in rest} for i in rest}
    density = {i: math.exp(-sum(d * d for d in sorted(apart[i].values())[:4]) / min(4, len(rest))) for i in rest}
    largest = max((max(row.values()) for row in apart.values()), default=0)
    to_denser = {i: min([apart[i][j] for j in rest if density[j] > density[i]], default=largest) for i in rest}
    return sorted(rest, key=lambda i: -density[i] * to_denser[i])[:count]


@pytest.mark.parametrize(("total", "own"), [(2, 0.6), (3, 0.2), (5, 0.4)])
def test_plain_loops_on_a_ragged_batch(total, own):
    films = [video(0, 6, 16, 6), video(1, 9, 9, 6), video(2, 1, 8, 6), video(3, 2, 12, 6)]
    draw = torch.Generator().manual_seed(total)
    drawn = [torch.rand(film.shape[:2], generator=draw) for film in films]
    features = [torch.randn(len(film), 5, generator=draw) for film in films]
    given = {"segments": 2, "tau": -0.5, "context": 0.4, "stride": 3, "own": own}
    seen = seen_of(films, drawn, features)
    parts = zip(films, drawn, features, strict=True)
    expected = [of_one_video(*part, total, 2, -0.5, 0.4, 3, own) for part in parts]
    survivors = recovered(seen, [len(tokens) for tokens in expected], **given)
    for i, tokens in enumerate(expected):
        assert survivors.keep[i].nonzero().flatten().tolist() == list(tokens)
        torch.testing.assert_close(survivors.hidden[i, survivors.keep[i]], torch.stack(list(tokens.values())))
        single = recovered(alone(seen, i), [len(tokens)], **given)
        torch.testing.assert_close(single.hidden[0, single.keep[0]], torch.stack(list(tokens.values())))


@pytest.mark.parametrize("fields", [{}, {"context": 1.0}, {"context": 0.0}, {"stride": 1, "segments": 1, "tau": -1.0}])
@pytest.mark.parametrize("count", [0, 1, 2, 10, 33, 38, 40, 41, 43])
def test_any_count_of_a_mixed_prompt_stays(count, fields):
    sample = [video(0, 4, 4, 6, 0.2), torch.full((2, 6), 7.0), video(1, 1, 5, 6), video(2, 5, 4, 6, 0.3)]
    seen = filmed(sample, [video(3, 1, 1, 6)])
    survivors = recovered(seen, [count, 1], **fields)
    assert survivors.keep.sum(1).tolist() == [count, 1]
    left = survivors.hidden[survivors.keep]
    assert left.isfinite().all()
    assert (left == 7).all(-1).sum() == min(count, 2)
    if count == 43:
        assert torch.equal(left[:43], seen.hidden[0])


@pytest.mark.parametrize("fields", [{"tau": 1.5}, {"own": -0.1}, {"context": 1.1}, {"segments": 0}, {"stride": 0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        Fastvid(**fields)


def test_frames_that_an_earlier_cut_left_unlike_are_refused():
    seen = part_of(filmed([video(0, 3, 4, 6)]), 0, torch.arange(2), torch.arange(11))
    with pytest.raises(ValueError, match="fastvid compares whole frames"):
        recovered(seen, [5])
