"""A picture of a study's page, taken by the chromium that is installed: python -m benchmarks.study_page runs/page."""

import argparse
import shutil
from pathlib import Path

from search.results.page.data import Source
from search.results.page.writing import write


def take(run: Path, out: Path, width: int, height: int, scheme: str, trial: int | None) -> None:
    """Write the page of `run` beside `out`, open it, choose a trial, take the picture, remove the page."""
    from playwright.sync_api import sync_playwright

    page_file = out.resolve().with_suffix(".html")
    data = Source.find(run).data()
    write(page_file, [data])
    chosen = data["knee"] if trial is None else trial
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(f"{page_file.as_uri()}#study={data['name']}&trial={chosen}")
        page.wait_for_selector("#tune .point")
        page.wait_for_timeout(500)  # the parallel coordinates are drawn a moment later
        page.screenshot(path=out)
        browser.close()
    page_file.unlink()


def main() -> None:
    """Read the words, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/study-page.png"))
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1400)
    parser.add_argument("--scheme", choices=["light", "dark"], default="light")
    parser.add_argument("--trial", type=int, help="the one that is shown (default: the knee)")
    given = parser.parse_args()
    take(given.run, given.out, given.width, given.height, given.scheme, given.trial)


if __name__ == "__main__":
    main()
