"""MVBench: twenty tasks about short films, 200 questions with options each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autoprune_lab.metrics.options import lone_letter, with_letters
from autoprune_lab.tasks.base import Sample, TaskError
from autoprune_lab.tasks.benchmark import LETTER
from autoprune_lab.tasks.choices import listed, quoted
from autoprune_lab.tasks.fields import Given, each
from autoprune_lab.tasks.filmed import FilmedBenchmark
from autoprune_lab.tasks.reading import existing, find_data, read_json_rows
from autoprune_lab.tasks.selection import Row, UnfitRow

FILMS = {
    "action_antonym": "ssv2_video_mp4",
    "action_count": "perception/videos",
    "action_localization": "sta/sta_video_segment",
    "action_prediction": "star/Charades_segment",
    "action_sequence": "star/Charades_segment",
    "character_order": "perception/videos",
    "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd_convert",
    "moving_attribute": "clevrer/video_validation",
    "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_segment",
    "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "unexpected_action": "FunQA_test/test",
}
"""Where each task's films are once the zip files of the dataset's revision `video` are unpacked, cut to their part."""


@dataclass(frozen=True)
class MVBenchTask(FilmedBenchmark):
    """`OpenGVLab/MVBench`, revision video: json/TASK.json, and its zip files unpacked beside json/, or to video/.

    The kinds are the twenty tasks, so the mean over kinds is the benchmark's average.

    Source: arXiv 2311.17005; prompt, films and reading of answers as lmms-eval. Differs: an empty answer is wrong;
    lmms-eval leaves it out.
    """

    path: str = "OpenGVLab/MVBench"

    name = "mvbench"

    def rows(self) -> Iterator[Row | UnfitRow]:
        """See Benchmark."""
        place = find_data(self.path)
        files = [file for task in FILMS if (file := place / "json" / f"{task}.json").is_file()]
        if not files:
            raise TaskError(f"{place} has no json/TASK.json of MVBench, such as json/{next(iter(FILMS))}.json")
        usual = place / "video" if (place / "video").is_dir() else place
        folder = existing(self.images, usual, "images")
        for file in files:
            yield from each(read_json_rows(file), partial(self._asked, folder=folder, task=file.stem))

    def score(self, prediction: str, sample: Sample) -> float:
        """1 when the letter is right."""
        return float(lone_letter(prediction) == sample.answers[0])

    def _asked(self, given: Given, folder: Path, task: str) -> Iterator[Row]:
        lettered = listed(given, "candidates")
        lines = with_letters(lettered, "({}) {}")
        question = f"Question:{given.text('question')}\nOption:\n{lines}\n{LETTER}"
        name, film = f"{task}-{given.order}", f"{FILMS[task]}/{given.text('video')}"
        answers = quoted(given, "answer", lettered)
        yield Row(name, (), question, answers, task, film, videos=(self.film(folder, film),))
