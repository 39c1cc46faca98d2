"""The figures of the docs that a study or the table of methods left in its folder, in the size of a page.

make pictures        # runs what they are of first; or, of what is in runs/ already:
python -m benchmarks.pictures --runs runs --out docs/pictures
"""

import argparse
from pathlib import Path

import pandas as pd
from PIL import Image

from search.methods import figure
from search.results.pictures import plot_report
from search.results.study_result import StudyResult

STUDIES = {"crowded": "study.png", "driving": "driving-study.png"}
TABLE = "methods-table"  # `autoprune table --out runs/methods-table`
TRANSFER = "worlds-transfer"  # `autoprune transfer --out runs/worlds-transfer`
WIDTH, COLOURS = 1380, 128  # pixels at most, and shades, of pictures that were drawn for print
DPI = 160


def draw_table(folder: Path, out: Path) -> None:
    """The table's figure."""
    (large, *_) = figure.draw(pd.read_csv(folder / "table.csv"), folder / "table.png", "crowded scenes, report split")
    shrink(large, out)


def shrink(large: Path, out: Path) -> None:
    """A picture of 300 dots an inch, for print, made smaller."""
    with Image.open(large) as picture:
        width = min(WIDTH, picture.width)
        small = picture.convert("RGB").resize(
            (width, picture.height * width // picture.width), Image.Resampling.LANCZOS
        )
    small.quantize(COLOURS).save(out, optimize=True)


def main() -> None:
    """Draw what is there, and say what is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    made = {name: given.runs / name for name in (*STUDIES, TABLE, TRANSFER)}
    for name, folder in made.items():
        if not folder.is_dir():
            print(f"not there: {folder}")
        elif name == TABLE:
            draw_table(folder, given.out / "methods.png")
        elif name == TRANSFER:
            shrink(folder / "transfer.png", given.out / "transfer.png")
        else:
            drawn = plot_report(StudyResult.read(folder))
            drawn.savefig(given.out / STUDIES[name], dpi=DPI, bbox_inches="tight")


if __name__ == "__main__":
    main()
