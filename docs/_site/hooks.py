"""What mkdocs does beside its own: pages that are made from the code, and links that lead out of `docs/`."""

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import api
import config_keys

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
TEXT_AND_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:|#)([^)\s]+)\)")


def on_files(files: Files, config: "MkDocsConfig") -> Files:
    """Add the pages that lie elsewhere or nowhere."""
    made = {
        **{page: (ROOT / file).read_text("utf-8") for file, page in OUTSIDE.items()},
        "configuration.md": config_keys.page(ROOT / "conf"),
        "api.md": api.page(ROOT),
    }
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: Files) -> str:
    """Lead links to where the site has what they name; what it does not have is named and not linked."""
    own = {there: file for file, there in OUTSIDE.items()}
    folder = posixpath.dirname(own.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def led(link: str) -> str | None:
        path, mark, anchor = link.partition("#")
        whole = posixpath.normpath(posixpath.join(folder, path))
        there = OUTSIDE.get(whole, whole.removeprefix("docs/"))
        return f"{there}{mark}{anchor}" if files.get_file_from_path(there) else None

    def named(found: re.Match[str]) -> str:
        there = led(found[2])
        return f"[{found[1]}]({there})" if there else found[1]

    text = TEXT_AND_LINK.sub(named, markdown)
    return LINK.sub(lambda found: led(found[0]) or found[0], text) if folder == "" else text
