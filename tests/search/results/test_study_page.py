"""The study page: what it knows, that it needs nothing else, and that no study waits for it or dies of it."""

import json
import math
import re
import shutil
import threading
from http.client import HTTPConnection
from socketserver import BaseServer
from types import SimpleNamespace

import pytest
from fake_evaluator import FakeEvaluator, finished, objective, refused, settings
from test_report import FRONT, ROWS, folder

from autoprune_lab.pruner import Pruner
from search.cli import main
from search.config.errors import ConfigError
from search.results.page import keeping
from search.results.page.data import Source
from search.results.page.server import PageServer
from search.results.page.writing import render, write
from search.results.study_result import StudyResult, artifacts
from search.study import loop
from search.study.storage import StudyStorage

DATA = re.compile(r'<script id="data" type="application/json">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"), "fixed", "policy=fixed", "~report.arms.random")


@pytest.fixture(scope="module")
def data(study):
    return Source.find(study.folder).data()


def held(text):
    return json.loads(DATA.search(text)[1])


def near(value):
    """A number as pandas reads it, which before 3 may take another last digit; anything else as it is."""
    return pytest.approx(value, rel=1e-15) if isinstance(value, float) else value


def test_the_page_knows_all_trials_and_the_front(study, data):
    assert [trial["trial"] for trial in data["trials"]] == study.trials["trial"].tolist()
    assert [str(trial["trial"]) for trial in data["trials"] if trial["front"]] == sorted(study.front.labels, key=int)
    assert data["knee"] == int(study.front.labels[study.front.knee()])
    assert (data["ended"], data["wanted"], data["running"]) == (8, 8, 0)
    assert data["bounds"] == study.bounds
    row = study.trials.iloc[0]
    first = data["trials"][0]
    assert (first["cost"], first["score"]) == pytest.approx((row["flops_ratio"], row["score"]))
    assert first["settings"] == {name: near(row[name]) for name in data["parameters"]}
    assert "pruner.policy.layer" in data["parameters"]
    assert first["kinds"] == {"easy": row["score/easy"], "hard": row["score/hard"]}
    assert [row["parameter"] for row in data["importance"]] == study.importance["parameter"].tolist()


def test_the_page_knows_the_report_with_its_intervals_and_each_arm_s_look(study, data):
    assert [row["arm"] for row in data["report"]] == study.report["arm"].tolist()
    lows = [None if math.isnan(low) else low for low in study.report["low"]]
    assert [row["low"] for row in data["report"]] == lows
    assert {row["arm"] for row in data["report"] if "colour" in row} == {"fixed", "layerwise", "uniform"}
    assert all(set(row["kinds"]) == ({"even", "odd"} if row["score"] is not None else set()) for row in data["report"])


def test_every_pruner_file_on_the_page_is_the_trial_s_own(study, data, tmp_path):
    assert set(data["files"]) == set(study.pruners)
    for label in study.front.labels:
        (tmp_path / "copied.yaml").write_text(data["files"][int(label)])
        assert Pruner.load(tmp_path / "copied.yaml") == Pruner.load(study.folder / "tuned" / f"trial-{label}.yaml")


def test_the_kept_fractions_are_those_of_the_plan(study, data):
    for number, node in study.pruners.items():
        layer, keep = node["policy"]["layer"], node["policy"]["keep"]
        mean = data["kept"][number]["mean"]
        assert mean[: layer - 1] == [1.0] * (layer - 1)
        assert mean[-1] <= mean[0] == 1.0
        assert node["budget"] is not None or mean[-1] == pytest.approx(keep, abs=0.01)
    assert len(study.layers) == 16 * len(data["kept"])


def test_a_study_whose_trials_are_elsewhere_is_shown_from_its_tables(study, data, tmp_path):
    moved = tmp_path / "fixed"
    shutil.copytree(study.folder, moved)
    (moved / "journal.log").unlink()
    source = Source.find(moved)
    found = source.data()
    assert source.study is None
    assert {key for key in data if found[key] != data[key]} <= {"trials", "importance", "kept", "files"}
    assert found["files"] == data["files"]
    assert found["kept"] == data["kept"]
    for before, after in zip(data["trials"], found["trials"], strict=True):
        assert after["score"] == pytest.approx(before["score"])
        for part in ("settings", "notes"):
            assert after[part] == {name: near(value) for name, value in before[part].items()}
        read = {"cost", "flops_ratio", "score", "seconds", "kinds", "settings", "notes"}
        assert {key for key in before if after[key] != before[key]} <= read


def test_a_folder_of_before_the_page_is_shown(tmp_path):
    found = Source.find(folder(tmp_path, "old", FRONT, ROWS)).data()
    assert (found["kept"], found["files"], found["patches"], found["facts"]) == ({}, {}, None, {})
    assert [trial["state"] for trial in found["trials"]][:3] == ["complete", "pruned", "fail"]
    assert found["trials"][2]["why"] == "its worker died"
    assert [row["note"] for row in found["report"]][-1] == "unreachable, floor 0.33"
    held(render([found]))


def test_what_was_refused_says_why(tmp_path):
    given = settings(tmp_path, "policy=fixed", "search.n_trials=2", "budget.flops_ratio=0.4", "study=s")
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    for layer, ratio in ((8, 0.24), (2, 0.4)):
        opened.enqueue_trial({"pruner.policy.layer": layer, "pruner.budget.flops_ratio": ratio})
    loop.run(opened, objective(given, FakeEvaluator(nan_at=1)), given)
    refused_one, failed = Source(given.out, opened).data()["trials"]
    assert refused_one["state"] == "refused"
    assert refused_one["why"] == opened.trials[0].user_attrs["refused"]
    assert (failed["state"], failed["why"], failed["score"]) == ("fail", "the score is no number", None)


def test_a_study_without_trials_has_a_page(tmp_path):
    given = settings(tmp_path, "policy=fixed")
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    found = Source(given.out, opened).data()
    assert (found["trials"], found["knee"], found["ended"]) == ([], None, 0)
    held(render([found]))


def test_the_page_is_one_file_that_loads_nothing(study, data):
    text = render([data])
    own = text.replace(re.search(r"<script>(/\*\*?.*?plotly\.js.*?)</script>", text, re.DOTALL)[1], "")
    assert not re.findall(r"(?:src|href)=|https?://|@import|url\(", own)
    assert "default-src 'none'" in own
    assert held(text)["studies"] == json.loads(json.dumps([data]))
    assert str(study.folder.parent) not in own  # it may be given away


def test_no_value_ends_the_script(data):
    text = render([data | {"name": "</script><script>alert(1)</script>"}])
    assert "<script>alert" not in text
    assert held(text)["studies"][0]["name"] == "</script><script>alert(1)</script>"


def test_the_page_is_written_at_once_then_seldom_then_at_the_end(tmp_path, monkeypatch):
    clock, seen = [100.0], []

    def slow(file, studies, refresh):
        seen.append((clock[0], len(studies[0]["trials"]), refresh))
        clock[0] += 0.2  # so long it takes

    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(keeping, "write", slow)
    given = settings(tmp_path, "policy=fixed", "search.n_trials=6")
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())

    def pass_time(study, trial):
        clock[0] += 8.0

    with keeping.kept(opened, given.out) as page:
        loop.run(opened, objective(given, FakeEvaluator()), given, [pass_time, page])
    assert [(round(at, 1), n, refresh) for at, n, refresh in seen] == [
        (100.0, 0, "reload"), (124.2, 3, "reload"), (148.4, 6, "reload"), (148.6, 6, None)
    ]  # fmt: skip


def test_no_study_dies_of_its_page(tmp_path, monkeypatch, capsys):
    def full(file, studies, refresh):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping, "write", full)
    given = settings(tmp_path, "policy=fixed", "search.n_trials=2")
    opened = loop.open_study(StudyStorage.of(given.typed), given.made_of())
    with keeping.kept(opened, given.out) as page:
        loop.run(opened, objective(given, FakeEvaluator()), given, [page])
    assert capsys.readouterr().err.count("index.html cannot be written: ") == 1


@pytest.fixture
def server(study):
    with PageServer([Source.find(study.folder)], 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(server, path, host=None):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.server_port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_page_is_served_and_asks_for_what_has_changed(server):
    status, text = asked(server, "/")
    page = held(text)
    assert (status, page["refresh"]) == (200, "fetch")
    assert asked(server, f"/data.json?mark={page['mark']}") == (204, "")
    status, text = asked(server, "/data.json?mark=another")
    assert (status, json.loads(text)) == (200, page)
    assert asked(server, "/../config.yaml")[0] == 404
    assert asked(server, "/", "elsewhere.example:80")[0] == 403


def test_a_port_that_is_taken_is_told(server, study):
    with pytest.raises(ConfigError, match=rf"port {server.server_port} can be had|port {server.server_port} "):
        PageServer([], server.server_port)
    with PageServer([]) as first, PageServer([]) as second:
        assert first.server_port != second.server_port


def test_several_studies_are_written_to_one_page(study, here, capsys):
    (here / "runs").mkdir()
    shutil.copytree(study.folder, here / "runs" / "one")
    shutil.copytree(study.folder, here / "runs" / "two")
    (here / "runs" / "cache").mkdir()
    assert main(["show", "one", "runs/two", "runs/cache", "--out", "pages/both.html"]) == 0
    assert capsys.readouterr().err == "autoprune: no study, and left out: runs/cache\n"
    assert [one["name"] for one in held((here / "pages" / "both.html").read_text())["studies"]] == ["one", "two"]
    refused(["show", "runs/cache"], ["runs/cache holds no study"], capsys, here)
    refused(["show", "tow"], ["there is no study 'tow'", "did you mean two"], capsys, here)
    refused(["show", "one", "--out", "runs"], ["--out runs is a folder"], capsys, here)


def test_ctrl_c_is_how_serving_ends(study, here, monkeypatch, capsys):
    def serve(server):  # in a thread of its own, so that somebody can ask
        thread = threading.Thread(target=BaseServer.serve_forever, args=(server, 0.01))
        thread.start()
        try:
            assert asked(server, "/data.json")[0] == 200
            raise KeyboardInterrupt
        finally:
            server.shutdown()
            thread.join()

    monkeypatch.setattr(PageServer, "serve_forever", serve)
    assert main(["show", str(study.folder), "--no-browser", "--port", "0"]) == 0
    assert re.match(r"fixed: http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\)", capsys.readouterr().out)


def test_a_study_that_was_zipped_and_moved_is_whole(study, data, here, capsys):
    shutil.copytree(study.folder, here / "before" / "fixed")
    write(here / "before" / "fixed" / "index.html", [data])
    shutil.make_archive(str(here / "sent"), "zip", here / "before")
    shutil.rmtree(here / "before")
    shutil.unpack_archive(here / "sent.zip", here / "elsewhere")
    moved = StudyResult.read(here / "elsewhere" / "fixed")
    assert moved.front == study.front
    assert moved.report.equals(study.report)
    assert "index.html" in artifacts(moved.folder)
    assert main(["show", str(moved.folder), "--out", "again.html"]) == 0
    again, before = (held(file.read_text()) for file in (here / "again.html", moved.folder / "index.html"))
    assert again == before
    assert main(["export", str(moved.folder), "--all"]) == 0
    assert len(list((here / "fixed-pruners").iterdir())) == len(study.front.labels)
