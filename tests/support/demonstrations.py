"""Demonstrations in LeRobot's layouts, as LeRobot writes them: parquet and jsonl."""

import io
import json
from pathlib import Path

import pandas as pd
from PIL import Image

CAMERAS = ("observation.images.front", "observation.images.wrist")
TASKS = ("open the drawer", "close it")
LENGTHS = (7, 5)
FPS = 10
REACHES = [[0.5 * i, (-1.0) ** i] for i in range(12)]


def png(brightness: int) -> dict:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (brightness,) * 3).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def frames() -> list[dict]:
    """Two episodes of one task each; a camera's brightness tells episode and frame."""
    rows = []
    for episode, length in enumerate(LENGTHS):
        for i in range(length):
            seen = {camera: png(20 * i + 100 * episode + j) for j, camera in enumerate(CAMERAS)}
            told = {"action": REACHES[len(rows)], "observation.state": [1.0, 0.25 * i], "timestamp": i / FPS}
            rows.append({**told, "frame_index": i, "episode_index": episode, "task_index": episode, **seen})
    return rows


def write(folder: Path, rows: list[dict], version: str = "v3.0", dtype: str = "image", **info: object) -> str:
    """`rows` in the layout of a version, the pictures of both cameras as `dtype` says."""
    seen = {camera: {"dtype": dtype, "shape": [8, 8, 3], "names": None} for camera in CAMERAS}
    features = {"action": {"dtype": "float32", "shape": [len(rows[0]["action"])], "names": None}, **seen}
    told = {"codebase_version": version, "fps": FPS, "chunks_size": 1000, "features": features} | info
    meta = folder / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(told))
    names = TASKS if len({row["task_index"] for row in rows}) > 1 else info.get("tasks", TASKS[:1])
    if version == "v3.0":
        pd.DataFrame({"task_index": range(len(names))}, index=list(names)).to_parquet(meta / "tasks.parquet")
        whole = {folder / "data/chunk-000/file-000.parquet": rows}
    else:
        lines = [json.dumps({"task_index": i, "task": name}) for i, name in enumerate(names)]
        (meta / "tasks.jsonl").write_text("\n".join(lines))
        by_episode = {row["episode_index"]: [] for row in rows}
        for row in rows:
            by_episode[row["episode_index"]].append(row)
        whole = {folder / f"data/chunk-000/episode_{i:06d}.parquet": some for i, some in by_episode.items()}
    for file, some in whole.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = [{k: v for k, v in row.items() if dtype == "image" or k not in CAMERAS} for row in some]
        pd.DataFrame(kept).to_parquet(file)
    return str(folder)
