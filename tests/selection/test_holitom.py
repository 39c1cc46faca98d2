"""HoliTom before the decoder against its official code's numbers, and in plain loops."""

import math

import pytest
import torch

from autoprune_lab.plugins.plain_evidence import alone, part_of
from autoprune_lab.selection.holitom import Holitom, windows
from autoprune_lab.selection.scorers import cls_attention
from tests.support.films import filmed, video
from tests.support.goldens import goldens


def recovered(evidence, counts, **fields):
    counts = torch.tensor(counts)
    return Holitom(**fields)(evidence, cls_attention(evidence), 0 * counts, counts)


@pytest.mark.parametrize("golden", goldens("holitom"), ids=str)
def test_official_numbers(golden):
    tokens, attention, given = golden.inputs["tokens"], golden.inputs["attention"], golden.params
    assert given["D"] == 0
    n_frames, n = tokens.shape[:2]
    fields = {
        "tau": given["tau"],
        "beta": given["beta"] if given["use_beta"] else None,
        "nearest": given["K"],
        "max_window": given["max_window"],
    }
    still = torch.cosine_similarity(tokens[:-1], tokens[1:], dim=-1) > given["tau"]
    spans = windows(still.numpy(), given["max_window"])
    static = [int(still[a:b].all(0).sum()) if b > a else 0 for a, b in spans]
    reduced = sum(count * (b - a) for count, (a, b) in zip(static, spans, strict=True))
    ratio = min(given["ratio"] * n_frames * n / (n_frames * n - reduced), 1)
    golden.check(windows=spans, static=static, reduced=float(reduced), ratio=ratio)

    seen = filmed([tokens], cls_=[attention.flatten()])
    survivors = recovered(seen, [sum(golden.outputs["per_window"])], **fields)
    slots = survivors.keep[0].nonzero().flatten()
    frame = survivors.index[0, slots] // n
    per_window = [int(((frame >= a) & (frame <= b)).sum()) for a, b in spans]
    golden.check(per_window=per_window, tokens=survivors.hidden[0, slots])


def clusters(points, count, nearest, beta):
    """Merged tokens in order of place."""
    n, near = len(points), min(nearest, count)
    apart = [[(points[i] - points[j]).norm().item() / points.shape[1] ** 0.5 for j in range(n)] for i in range(n)]
    density = [math.exp(-sum(d * d for d in sorted(row)[:near]) / near) for row in apart]
    largest = max(map(max, apart))
    to_denser = [min([apart[i][j] for j in range(n) if density[j] > density[i]], default=largest) for i in range(n)]
    centres = sorted(sorted(range(n), key=lambda i: -density[i] * to_denser[i])[:count])
    made = []
    for centre in centres:
        rest = [i for i in range(n) if i not in centres and min(centres, key=lambda c: apart[i][c]) == centre]
        own = points[centre]
        if rest and beta is None:
            own = points[[centre, *rest]].mean(0)
        elif rest:
            own = beta * own + (1 - beta) * points[rest].mean(0)
        made.append(own)
    return made


def of_one_video(tokens, attention, ratio, tau, nearest, beta):
    """The tokens of one video at a ratio of what is left after merging over time."""
    n_frames, n = tokens.shape[:2]
    still = torch.cosine_similarity(tokens[:-1], tokens[1:], dim=-1) > tau

    def saved(a, b):
        return sum(bool(still[a:b, i].all()) for i in range(n)) * (b - a)

    best = {-1: (0, [])}
    for b in range(n_frames):
        best[b] = max(
            ((best[a - 1][0] + saved(a, b), [*best[a - 1][1], (a, b)]) for a in range(b, -1, -1)),
            key=lambda pair: pair[0],
        )
    out = []
    for a, b in best[n_frames - 1][1]:
        static = [i for i in range(n) if a < b and still[a:b, i].all()]
        moving = [i for i in range(n) if i not in static]
        if count := round(len(static) * ratio):
            out += clusters(tokens[a : b + 1, static].mean(0), count, nearest, beta)
        for f in range(a, b + 1):
            count = math.ceil(len(moving) * ratio - 1e-9)
            out += [tokens[f, i] for i in sorted(sorted(moving, key=lambda i: -attention[f, i])[:count])]
    return torch.stack(out)


@pytest.mark.parametrize("beta", [0.6, None])
@pytest.mark.parametrize("ratio", [0.23, 0.61, 1.0])
def test_plain_loops_on_a_ragged_batch(ratio, beta):
    films = [video(0, 6, 9, 6, 0.5), video(1, 4, 16, 6, 0.4), video(2, 1, 5, 6), video(3, 2, 4, 6, 0.1)]
    drawn = [torch.rand(film.shape[:2], generator=torch.Generator().manual_seed(i)) for i, film in enumerate(films)]
    parts = zip(films, drawn, strict=True)
    expected = [of_one_video(film, attention, ratio, 0.8, 3, beta) for film, attention in parts]
    seen = filmed(*([film] for film in films), cls_=[attention.flatten() for attention in drawn])
    survivors = recovered(seen, [len(rows) for rows in expected], nearest=3, beta=beta)
    for i, rows in enumerate(expected):
        torch.testing.assert_close(survivors.hidden[i, survivors.keep[i]], rows)
        single = recovered(alone(seen, i), [len(rows)], nearest=3, beta=beta)
        torch.testing.assert_close(single.hidden[0, single.keep[0]], rows)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 10, 33, 38, 40, 41, 43])
def test_any_count_of_a_mixed_prompt_stays(count, in_place):
    sample = [video(0, 4, 4, 6, 0.2), torch.full((2, 6), 7.0), video(1, 1, 5, 6), video(2, 5, 4, 6, 0.3)]
    seen = filmed(sample, [video(3, 1, 1, 6)])
    survivors = recovered(seen, [count, 1], in_place=in_place)
    assert survivors.keep.sum(1).tolist() == [count, 1]
    left = survivors.hidden[survivors.keep]
    assert left.isfinite().all()
    assert (left == 7).all(-1).sum() == min(count, 2)
    if count == 43:
        assert torch.equal(left[:43], seen.hidden[0])


def test_a_place_that_never_moves_is_one_token():
    film = torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(0)).repeat(5, 1, 1)
    survivors = recovered(filmed([film]), [9], in_place=True)
    assert survivors.keep[0].nonzero().flatten().tolist() == list(range(9))
    torch.testing.assert_close(survivors.hidden[0, :9], film[0])


@pytest.mark.parametrize("fields", [{"tau": 1.5}, {"beta": -0.1}, {"nearest": 0}, {"max_window": 0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"{name}="):
        Holitom(**fields)


def test_frames_that_an_earlier_cut_left_unlike_are_refused():
    seen = part_of(filmed([video(0, 3, 4, 6)]), 0, torch.arange(2), torch.arange(11))
    with pytest.raises(ValueError, match="holitom compares whole frames"):
        recovered(seen, [5])
