"""Runs notebooks from top to bottom, and keeps what they show: in them, and their figures as files.

    python -m benchmarks.notebooks notebooks/*.ipynb --pictures docs/pictures

A cell with the tag `picture:NAME` gives NAME.png. All numbers in them are from the embedded model.
"""

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TAG = "picture:"


def execute(path: Path, timeout: int = 3600) -> NotebookNode:
    """The notebook with its outputs; the file stays as it is. Runs in the notebook's own folder."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=timeout, resources={"metadata": {"path": str(path.parent)}}, record_timing=False
    ).execute()
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = kept(cell.outputs)
    return notebook


def kept(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """What two runs have in common: stdout in one piece, and nothing of stderr, where warnings and progress go."""
    found: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream" and found and found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def pictures(notebook: NotebookNode) -> dict[str, bytes]:
    """PNG of every tagged cell, by name."""
    found = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(TAG):
                shown = [
                    output["data"]["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})
                ]
                found[tag.removeprefix(TAG)] = base64.b64decode(shown[0])
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args(argv)
    args.pictures.mkdir(parents=True, exist_ok=True)
    for path in args.notebooks:
        notebook = execute(path)
        nbformat.write(notebook, path)
        for name, png in pictures(notebook).items():
            file = args.pictures / f"{name}.png"
            file.write_bytes(png)
            print(f"{path.name}  {file}")


if __name__ == "__main__":
    main()
