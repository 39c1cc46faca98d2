"""`autoprune show`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.results.page.data import Source

SUMMARY = "open studies in the browser: fronts, settings, trials; also while they run"
DESCRIPTION = """\
Show one study or several on one page, served on 127.0.0.1 until Ctrl-C. A study that runs is shown as it grows. A click
on a point shows its settings, the tokens that it keeps in each layer, its score by kind, and its pruner file to copy.

Every study also leaves its page as one file, index.html in its folder, which opens without a server."""
EXAMPLES = """\
  autoprune show runs/logistic_adaptive
  autoprune show runs/* --port 9000 --no-browser
  autoprune show runs/fixed runs/logistic_adaptive --out both.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The studies, and where they are shown."""
    parser.add_argument("studies", nargs="+", metavar="RUN", help="a study's folder or its name in runs/")
    parser.add_argument("--port", type=int, help="of 127.0.0.1; 0: any that is free (default: from 8050 on)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page to a file instead of serving it")


def run(given: argparse.Namespace) -> int:
    """Write the file, or serve until Ctrl-C."""
    from search.config.early_checks import check_file

    if given.out is not None:
        check_file(given.out, "--out")
    sources = _sources(given.studies)
    if given.out is not None:
        from search.results.page.writing import write

        given.out.parent.mkdir(parents=True, exist_ok=True)
        write(given.out, [source.data() for source in sources])
        print(f"written  {given.out}")
        return 0
    return _serve(sources, given.port, not given.no_browser)


def _sources(names: list[str]) -> "list[Source]":
    """The studies; a folder that holds none is skipped, and said so, where others do. Raises ConfigError."""
    from search.config.errors import ConfigError
    from search.results.folder import CONFIG, FINISHED, study_folder
    from search.results.page.data import Source

    places = [Path(name) if Path(name).exists() else study_folder(name) for name in names]
    once = list({place.resolve(): place for place in places}.values())
    studies = [place for place in once if any((place / name).is_file() for name in (CONFIG, *FINISHED))]
    if not studies:
        raise ConfigError(f"{names[0]} holds no study: give a study's folder, such as runs/logistic_adaptive")
    if others := [str(place) for place in once if place not in studies]:
        print(f"autoprune: no study, and left out: {', '.join(others)}", file=sys.stderr)
    return [Source.find(folder) for folder in studies]


def _serve(sources: "list[Source]", port: int | None, opens: bool) -> int:
    """Until Ctrl-C, which is how it ends."""
    import webbrowser

    from search.results.page.server import PageServer

    with PageServer(sources, port) as server:
        server.studies()  # what is wrong with a folder is said here
        print(f"{', '.join(source.name for source in sources)}: {server.address} (Ctrl-C ends it)", flush=True)
        if opens:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
