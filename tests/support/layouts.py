"""Tiny files laid out as each benchmark's real ones: the hub's parquet, and the folders of LLaVA's evaluation."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from autoprune_lab.tasks.pictures import Picture

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class BytesPicture(Picture):
    """A picture in memory, still encoded."""

    content: bytes
    name: str

    def read(self) -> bytes:
        return self.content

    def __str__(self) -> str:
        return self.name


def jpeg(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def damaged_png(size: tuple[int, int] = (40, 30)) -> bytes:
    """A picture whose header and end are as they should be, and which cannot be decoded."""
    pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    middle = len(content) // 2
    content[middle : middle + 200] = b"\xaa" * 200
    return bytes(content)


def struct(seed: int, name: str = "") -> dict[str, Any]:
    """A picture as `datasets` stores it."""
    return {"bytes": jpeg(seed), "path": name or f"{seed}.jpg"}


def parquet(file: Path, rows: Sequence[dict[str, Any]], group: int = 3) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), file, row_group_size=group)
    return file


def jsonl(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def as_json(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def picture(file: Path, seed: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(jpeg(seed))
    return file


def ten(answer: str, times: int = 10) -> list[str]:
    return [answer] * times + ["else"] * (10 - times)


N = 12  # pictures a benchmark
POPE_KINDS = ("adversarial", "popular", "random")


def pope_parquet(folder: Path) -> Path:
    rows = [
        {
            "id": str(i), "question_id": str(i), "question": f"Is there a cat {i}?", "answer": "yes" if i % 2 else "no",
            "image_source": f"COCO_val2014_{i:012d}", "image": struct(i), "category": kind,
        }
        for kind in POPE_KINDS
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    parquet(folder / "Full" / "random-00000-of-00001.parquet", rows)  # the same questions again, as in the real one
    return folder


def pope_llava(folder: Path) -> Path:
    questions = []
    for kind in POPE_KINDS:
        labels = []
        for i in range(N):
            image = picture(folder / "val2014" / f"COCO_val2014_{i:012d}.jpg", i).name
            text = f"Is there a cat {i} in the image?"
            labels.append({"question_id": i + 1, "image": image, "text": text, "label": "yes" if i % 2 else "no"})
            questions.append({"question_id": i, "image": image, "text": text + SHORT, "category": kind})
        jsonl(folder / "coco" / f"coco_pope_{kind}.json", labels)
    jsonl(folder / "llava_pope_test.jsonl", questions)
    return folder


def textvqa_parquet(folder: Path) -> Path:
    rows = [
        {
            "image_id": f"im{i}", "question_id": 100 + i, "question": "what is written?", "image": struct(i),
            "answers": ten("stop", 2), "ocr_tokens": ["STOP", "1"], "set_name": "val",
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    return folder


def textvqa_llava(folder: Path) -> Path:
    notes = []
    for i in range(N):
        picture(folder / "train_images" / f"im{i}.jpg", i)
        notes.append(
            {"image_id": f"im{i}", "question_id": 100 + i, "question": "What is written?", "answers": ten("stop", 2)}
        )
    text = "what is written?\nReference OCR token: STOP, 1" + SHORT
    rows = [{"question_id": f"im{i}", "image": f"im{i}.jpg", "text": text, "category": "default"} for i in range(N)]
    jsonl(folder / "llava_textvqa_val_v051_ocr.jsonl", rows)
    as_json(folder / "TextVQA_0.5.1_val.json", {"data": notes})
    return folder


def gqa_parquet(folder: Path) -> Path:
    asked = [
        {
            "id": f"2013{i}", "imageId": f"n{i % 6}", "question": "Is it overcast?", "answer": "no",
            "types": {"detailed": "weather", "semantic": "global", "structural": "verify" if i % 2 else "query"},
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "testdev_balanced_instructions" / "testdev-00000-of-00001.parquet", asked)
    shown = [{"id": f"n{i}", "image": struct(i)} for i in range(6)]
    parquet(folder / "testdev_balanced_images" / "testdev-00000-of-00001.parquet", shown)
    return folder


def gqa_llava(folder: Path) -> Path:
    rows = [
        {"question_id": f"2013{i}", "image": f"n{i % 6}.jpg", "text": "Is it overcast?" + SHORT, "category": "default"}
        for i in range(N)
    ]
    jsonl(folder / "llava_gqa_testdev_balanced.jsonl", rows)
    notes = {
        f"2013{i}": {"imageId": f"n{i % 6}", "answer": "no", "types": {"structural": "verify" if i % 2 else "query"}}
        for i in range(N)
    }
    as_json(folder / "data" / "testdev_balanced_questions.json", notes)
    for i in range(6):
        picture(folder / "data" / "images" / f"n{i}.jpg", i)
    return folder


def scienceqa_parquet(folder: Path) -> Path:
    rows = [
        {
            "image": struct(i % 6), "question": "Which is farthest north?", "choices": ["Ohio", "Maine"], "answer": 1,
            "hint": "Look at the map." if i % 2 else "", "subject": "social science", "grade": "grade3",
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "ScienceQA-IMG" / "test-00000-of-00001.parquet", rows)
    parquet(folder / "ScienceQA-IMG" / "train-00000-of-00001.parquet", rows)
    return folder


def scienceqa_llava(folder: Path) -> Path:
    asked: list[dict[str, Any]] = []
    for i in range(N):
        picture(folder / "images" / "test" / str(i) / "image.png", i % 6)
        asked.append(
            {
                "id": str(i), "image": f"{i}/image.png",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhich is farthest north?\nA. Ohio\nB. Maine"},
                    {"from": "gpt", "value": "The answer is B."},
                ],
            }
        )  # fmt: skip
    asked.append({"id": "text", "conversations": [{"from": "human", "value": "No picture here"}]})
    as_json(folder / "llava_test_CQM-A.json", asked)
    as_json(folder / "problems.json", {str(i): {"answer": 1, "subject": "social science"} for i in range(N)})
    as_json(folder / "pid_splits.json", {"test": [str(i) for i in range(N)]})
    return folder


MME_ASKED = ("Is there one cat?", "Are there two cats?")
MME_SAYS = ("Yes", "No")


def mme_parquet(folder: Path) -> Path:
    rows = [
        {
            "question_id": f"{kind}/{i}.png", "image": struct(i), "category": kind,
            "question": f"{question} Please answer yes or no.", "answer": answer,
        }
        for kind in ("count", "code_reasoning")
        for i in range(N)
        for question, answer in zip(MME_ASKED, MME_SAYS, strict=True)
    ]  # fmt: skip
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def mme_llava(folder: Path) -> Path:
    release, rows = folder / "MME_Benchmark_release_version", []
    for i in range(N):
        lines = [f"{q}  Please answer yes or no.\t{a}" for q, a in zip(MME_ASKED, MME_SAYS, strict=True)]
        picture(release / "count" / f"{i}.png", i)
        (release / "count" / f"{i}.txt").write_text("\n".join(lines) + "\n")
        picture(release / "landmark" / "images" / f"{i}.png", i)
        (release / "landmark" / "questions_answers_YN").mkdir(exist_ok=True)
        (release / "landmark" / "questions_answers_YN" / f"{i}.txt").write_text("\n".join(lines))
        for kind, place in (("count", "count"), ("landmark", "landmark/images")):
            rows += [
                {"question_id": f"{kind}/{i}.png", "image": f"{place}/{i}.png", "text": q + SHORT, "category": kind}
                for q in MME_ASKED
            ]
    jsonl(folder / "llava_mme.jsonl", rows)
    return folder


def _mmbench_rows(turned: bool) -> list[dict[str, Any]]:
    rows = []
    for i in range(N):
        options, n = ["red", "green", "blue"][: 2 + i % 2], 2 + i % 2
        for k in range(n if turned else 1):
            here = [*options[k:], *options[:k], None, None][:4]
            rows.append(
                {
                    "index": i + 1_000_000 * k, "question": "Which colour?", "hint": "Look." if i % 3 == 0 else None,
                    "A": here[0], "B": here[1], "C": here[2], "D": here[3], "answer": "ABC"[here.index("green")],
                    "category": "attribute_recognition", "source": "x", "L2-category": "finegrained", "split": "dev",
                }
            )  # fmt: skip
    return rows


def mmbench_parquet(folder: Path) -> Path:
    rows = [row | {"image": struct(row["index"] % 1_000_000)} for row in _mmbench_rows(turned=True)]
    blank = [
        {name: "nan" if value is None and name == "hint" else value for name, value in row.items()} for row in rows
    ]
    parquet(folder / "en" / "dev-00000-of-00001.parquet", blank)
    parquet(folder / "cn" / "dev-00000-of-00001.parquet", blank)
    return folder


def mmbench_tsv(folder: Path) -> Path:
    """The table of LLaVA's script, one row a question; and the official one, whose rotations point at a picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, turned in (("mmbench_dev_20230712.tsv", False), ("MMBench_DEV_CN.tsv", True)):
        rows = _mmbench_rows(turned)
        names = [*rows[0], "image"]
        lines = ["\t".join(names)]
        for row in rows:
            base = row["index"] % 1_000_000
            image = base64.b64encode(jpeg(base)).decode() if row["index"] == base else str(base)
            lines.append("\t".join("" if value is None else str(value) for value in [*row.values(), image]))
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def _vqa_answers(answer: str) -> list[dict[str, Any]]:
    return [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(ten(answer, 3))]


def vqav2_parquet(folder: Path) -> Path:
    rows = [
        {
            "question_type": "how many", "answers": _vqa_answers("2"), "image_id": i // 2,
            "answer_type": "number" if i % 2 else "other", "question_id": 1000 + i, "question": "How many?",
            "image": struct(i // 2),
        }
        for i in range(2 * N)
    ]  # fmt: skip
    parquet(folder / "data" / "validation-00000-of-00002.parquet", rows[:N])
    parquet(folder / "data" / "validation-00001-of-00002.parquet", rows[N:])
    parquet(folder / "data" / "test-00000-of-00001.parquet", [rows[0] | {"answers": None}])
    return folder


def vqav2_official(folder: Path) -> Path:
    asked = [{"image_id": i // 2, "question": "How many?", "question_id": 1000 + i} for i in range(2 * N)]
    notes = [
        {"question_id": 1000 + i, "answers": _vqa_answers("2"), "answer_type": "number" if i % 2 else "other"}
        for i in range(2 * N)
    ]
    as_json(folder / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked})
    as_json(folder / "v2_mscoco_val2014_annotations.json", {"annotations": notes})
    for i in range(N):
        picture(folder / "val2014" / f"COCO_val2014_{i:012d}.jpg", i)
    rows = [
        {"question_id": 1000 + i, "image": f"COCO_val2014_{i // 2:012d}.jpg", "text": "How many?" + SHORT}
        for i in range(2 * N)
    ]
    jsonl(folder / "mine.jsonl", rows)
    return folder


def vizwiz_parquet(folder: Path) -> Path:
    rows = [
        {
            "question_id": f"VizWiz_val_{i:08d}.jpg", "image": struct(i), "question": "What is this?",
            "answers": ten("unanswerable", 3), "category": "unanswerable" if i % 2 else "other",
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "data" / "val-00000-of-00001.parquet", rows)
    return folder


def vizwiz_official(folder: Path) -> Path:
    notes = [
        {
            "image": f"VizWiz_val_{i:08d}.jpg", "question": "What is this?", "answers": _vqa_answers("unanswerable"),
            "answer_type": "unanswerable" if i % 2 else "other", "answerable": i % 2 ^ 1,
        }
        for i in range(N)
    ]  # fmt: skip
    as_json(folder / "val.json", notes)
    for i in range(N):
        picture(folder / "val" / f"VizWiz_val_{i:08d}.jpg", i)
    return folder


def own_files(folder: Path) -> Path:
    for i in range(N):
        picture(folder / f"{i}.jpg", i)
    rows = [
        {"image": f"{i}.jpg", "question": f"What is {i}?", "answers": ["a cat"], "kind": "ab"[i % 2]} for i in range(N)
    ]
    return jsonl(folder / "mine.jsonl", rows)


def several_words(folder: Path) -> list[str]:
    """Files of the three benchmarks of task=several, and the words that say where each is."""
    writers = {"pope": pope_llava, "gqa": gqa_llava, "textvqa": textvqa_llava}
    return [f"task.tasks.{name}.path={write(folder / name)}" for name, write in writers.items()]


def chartqa_parquet(folder: Path) -> Path:
    rows = [
        {
            "type": "augmented_test" if i % 2 else "human_test", "question": "How many?", "answer": "20",
            "image": struct(i),
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def docvqa_parquet(folder: Path) -> Path:
    rows = [
        {
            "questionId": str(i), "question": "Which year?", "question_types": ["form"], "image": struct(i), "docId": i,
            "ucsf_document_id": f"doc{i}", "ucsf_document_page_no": "1", "answers": ["the year 1979", "1979"],
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "DocVQA" / "validation-00000-of-00001.parquet", rows)
    parquet(folder / "DocVQA" / "test-00000-of-00001.parquet", [rows[0] | {"answers": None}])
    return folder


OCR_TYPES = ("Digit String Recognition", "Doc-oriented VQA", "Handwritten Mathematical Expression Recognition")


def ocrbench_parquet(folder: Path) -> Path:
    rows = [
        {
            "dataset": "any", "question": "what is written?", "question_type": OCR_TYPES[i % 3], "answer": ["A + b"],
            "image": struct(i),
        }
        for i in range(N)
    ]  # fmt: skip
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)
    return folder


def seedbench_parquet(folder: Path) -> Path:
    rows = [
        {
            "question_id": str(i), "question": "What is it?", "choice_a": "a cat", "choice_b": "a dog", "choice_c": "a",
            "choice_d": "b", "answer": "B", "data_id": f"p{i}", "data_type": "image", "question_type_id": 1 + i % 2,
            "image": [struct(i)],
        }
        for i in range(N)
    ]  # fmt: skip
    film = rows[0] | {"data_type": "video", "question_type_id": 10, "image": [struct(0), struct(1)]}
    parquet(folder / "data" / "test-00000-of-00001.parquet", [*rows, film])
    return folder


def mmmu_parquet(folder: Path) -> Path:
    """Every other question is open; the first kind shows its second picture in an option."""
    rows = []
    for i in range(N):
        asked = {"question_type": "multiple-choice", "options": "['red', '<image 2>']", "answer": "B"}
        if i % 2:
            asked = {"question_type": "open", "options": "[]", "answer": "['24/7', '3.43']"}
        shown = {f"image_{k}": struct(100 * k + i) if k < 3 else None for k in range(1, 8)}
        subject = "Math" if i % 2 else "Art_Theory"
        rows.append({"id": f"validation_{subject}_{i}", "question": "See <image 1>?"} | asked | shown)
    parquet(folder / "data" / "validation-00000-of-00001.parquet", rows)
    return folder


def hallusionbench_parquet(folder: Path) -> Path:
    """Sets of two figures with two questions each."""
    rows = [
        {
            "category": "VD", "subcategory": "chart" if i % 2 else "map", "visual_input": "1", "set_id": str(i),
            "figure_id": str(figure), "question_id": str(question), "question": "Is it so?",
            "gt_answer": str(figure ^ question), "image": struct(2 * i + figure),
        }
        for i in range(N)
        for figure in (0, 1)
        for question in (0, 1)
    ]  # fmt: skip
    parquet(folder / "data" / "image-00000-of-00001.parquet", rows)
    return folder


def refcoco_parquet(folder: Path) -> Path:
    """Pictures of 40 x 30; two phrases a thing. The half test is not one that RefCOCO reports."""
    rows = [
        {
            "question_id": str(i), "image": struct(i), "question": "", "answer": ["the cup", "left one"],
            "bbox": [10.0, 15.0, 20.0, 15.0], "file_name": f"COCO_train2014_{i:012d}_{i}.jpg",
        }
        for i in range(N)
    ]  # fmt: skip
    for half, some in (("val", rows[:8]), ("testA", rows[8:10]), ("testB", rows[10:]), ("test", rows[:3])):
        parquet(folder / "data" / f"{half}-00000-of-00001.parquet", some)
    return folder


def film(folder: Path, seed: int, n: int = 3) -> Path:
    """A folder of frames: PyAV, which video files need, is not installed here."""
    for k in range(n):
        picture(folder / f"{k}.jpg", 1000 * seed + k)
    return folder


def videomme(folder: Path) -> Path:
    rows = []
    for i in range(N):
        film(folder / "data" / f"v{i}", i)
        rows.append(
            {
                "video_id": f"{i:03d}", "duration": ("short", "medium", "long")[i % 3], "videoID": f"v{i}",
                "question_id": f"{i:03d}-1", "question": "What?", "options": ["A. One.", "B. Two."], "answer": "B",
            }
        )  # fmt: skip
    parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    return folder


def mvbench(folder: Path) -> Path:
    for task, place in (("action_count", "perception/videos"), ("moving_count", "clevrer/video_validation")):
        rows = []
        for i in range(N):
            film(folder / "video" / place / f"{i}", i)
            rows.append({"video": f"{i}.mp4", "question": "How often?", "candidates": ["1", "2", "3"], "answer": "2"})
        as_json(folder / "json" / f"{task}.json", rows)
    return folder


def egoschema(folder: Path) -> Path:
    rows = []
    for i in range(N):
        film(folder / "videos" / f"uid{i}", i)
        lines = [f"{letter}. c cooks dish {letter}" for letter in "ABCDE"]
        rows.append(
            {"question_idx": str(i), "question": "What?", "video_idx": f"uid{i}", "option": lines, "answer": "1"}
        )
    parquet(folder / "Subset" / "test-00000-of-00001.parquet", rows)
    return folder


def mlvu(folder: Path) -> Path:
    for task in ("1_plotQA", "6_anomaly_reco"):
        rows = []
        for i in range(N):
            film(folder / "MLVU" / "video" / task / f"{i}", i)
            rows.append({"video": f"{i}.mp4", "question": "What?", "candidates": ["Red", "Blue"], "answer": "Blue"})
        as_json(folder / "MLVU" / "json" / f"{task}.json", rows)
    as_json(folder / "MLVU" / "json" / "9_summary.json", [{"video": "0.mp4", "question": "Tell.", "answer": "So."}])
    return folder


def longvideobench(folder: Path) -> Path:
    rows = []
    for i in range(N):
        film(folder / "videos" / f"{i}", i)
        rows.append(
            {
                "id": f"q{i}", "video_path": f"{i}.mp4", "question": "What?", "candidates": ["x", "y", "z"],
                "correct_choice": 1, "duration_group": (15, 60, 600, 3600)[i % 4],
            }
        )  # fmt: skip
    as_json(folder / "lvb_val.json", rows)
    return folder
