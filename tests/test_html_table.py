"""Tables of notebooks: escaped, and short whatever they tell of."""

from autoprune_lab.html_table import MOST_ROWS, html_table


def test_numbers_gaps_and_signs():
    shown = html_table("a < b", ["x", "y"], [("<b>", 0.12345), (None, float("nan"))])
    assert "<caption>a &lt; b</caption><tr><th>x</th><th>y</th></tr>" in shown
    assert "<tr><td>&lt;b&gt;</td><td>0.123</td></tr><tr><td>-</td><td>-</td></tr>" in shown
    assert "more" not in shown


def test_it_never_grows():
    shown = html_table('"' * 10**6, ['"' * 10**6] * 100, [['"' * 10**6] * 100] * 1000)
    assert len(shown) < 60_000
    assert shown.count("<tr>") == 1 + MOST_ROWS
    assert "and 980 more rows and 88 more columns" in shown
