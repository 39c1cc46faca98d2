"""A journal or a settings file that was damaged, is gone or cannot be written: a value, or one line that names it."""

import json
import resource
import shutil

import optuna
import pytest
from fake_evaluator import FakeEvaluator, objective, settings
from fake_workers import assert_nothing_lost, done, work
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from search.config.errors import ConfigError
from search.results.folder import read_json
from search.study import loop
from search.study.journal import Journal, JournalFile
from search.study.outages import StorageError
from search.study.storage import StudyStorage

WORDS = ("search.n_trials=3", "policy=fixed", "seed=2")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A journal's lines."""
    folder = tmp_path_factory.mktemp("journal")
    work(folder, WORDS)
    return (folder / "s" / "journal.log").read_bytes().splitlines(keepends=True)


def trials_of(file):
    """Every trial in a journal."""
    storage = Journal(file)
    return [
        optuna.load_study(study_name=found.study_name, storage=storage).trials for found in storage.get_all_studies()
    ]


GARBAGE = [b"\x00\xff\n", b"{\n", b"[]\n", b"7\n", b"\n", b'{"op_code": 99, "worker_id": "x"}\n', b'{"op_code": 4}\n']


@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
@pytest.mark.parametrize("place", [0, 5, -1])
def test_garbage_in_a_journal_is_told_with_file_and_line(tmp_path, lines, garbage, place):
    file = tmp_path / "journal.log"
    damaged = list(lines)
    damaged[place] = garbage
    file.write_bytes(b"".join(damaged))
    number = range(len(lines))[place] + 1
    with pytest.raises(StorageError, match=rf"^{file}, line {number} is no .*: the file was damaged") as told:
        trials_of(file)
    assert "\n" not in str(told.value)
    assert file.read_bytes() == b"".join(damaged)


def test_an_unfinished_last_line_is_passed_over_and_cut_off_by_the_next_writer(tmp_path, lines):
    file = tmp_path / "journal.log"
    file.write_bytes(b"".join(lines[:6]) + lines[6][:-5])
    journal = JournalFile(file)
    assert list(journal.read_logs(0)) == [json.loads(line) for line in lines[:6]]
    journal.append_logs([json.loads(lines[6])])
    assert list(journal.read_logs(6)) == [json.loads(lines[6])]
    assert list(journal.read_logs(2)) == [json.loads(line) for line in lines[2:7]]
    assert file.read_bytes() == b"".join(lines[:7])


def test_a_full_disk_writes_no_half_line_and_the_same_command_goes_on(tmp_path):
    """The limit stands for the disk: it gives EFBIG in the middle of a line."""
    whole = work(tmp_path / "whole", WORDS)
    work(tmp_path, ("search.n_trials=1", *WORDS[1:]))
    journal = tmp_path / "s" / "journal.log"
    before, most = journal.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 700, most[1]))
    try:
        with pytest.raises(StorageError, match=rf"^{journal} cannot be written: File too large; no trial"):
            work(tmp_path, WORDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    after = journal.read_bytes()
    assert after.startswith(before)
    assert after.endswith(b"\n")
    study = work(tmp_path, WORDS)
    assert_nothing_lost(study, 3)
    assert done(study) == done(whole)


def test_a_folder_that_is_deleted_under_a_study_ends_it_in_one_line_and_is_not_made_again(tmp_path):
    given_words = settings(tmp_path, *WORDS)
    study = loop.open_study(StudyStorage.of(given_words.typed), given_words.made_of())

    class Deleting(FakeEvaluator):
        def run(self, pruner, after_block=None):
            shutil.rmtree(given_words.out)
            return super().run(pruner, after_block)

    with pytest.raises(StorageError, match=r"journal.log is gone, and the study's trials with it$"):
        loop.run(study, objective(given_words, Deleting()), given_words)
    assert not given_words.out.exists()


def test_a_journal_that_may_not_be_read_or_written_is_told(tmp_path, monkeypatch):
    def refuse(*given, **named):
        raise PermissionError(13, "Permission denied")

    journal = JournalFile(tmp_path / "journal.log")
    monkeypatch.setattr(type(journal.file), "open", refuse)
    with pytest.raises(StorageError, match=r"journal.log cannot be read: Permission denied"):
        list(journal.read_logs(0))
    with pytest.raises(StorageError, match=r"journal.log cannot be written: Permission denied"):
        journal.append_logs([{}])


def test_an_own_operation_that_is_refused_is_no_damage(tmp_path):
    study = optuna.create_study(storage=Journal(tmp_path / "journal.log"))
    trial = study.ask()
    study.tell(trial, 0.5)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("late", 1)
    study.set_user_attr("note", 1)
    assert study.user_attrs == {"note": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
DEEP = st.just(b"[" * 100_000)


def value_or_error(read, file):
    """What is read, or our own error; any other passes."""
    try:
        return read(file)
    except ConfigError as error:
        return error


def check_the_journal_reader(folder, lines, data):
    """One line of a journal is changed: a field of it, a byte, or all."""
    place = data.draw(st.integers(0, len(lines) - 1))
    log = json.loads(lines[place])
    field = data.draw(st.sampled_from(sorted(log)))
    changed = json.dumps({**log, field: data.draw(JSON)}).encode() + b"\n"
    cut = data.draw(st.integers(0, len(lines[place])))
    torn = lines[place][:cut] + data.draw(st.binary(max_size=3)) + lines[place][cut:]
    line = data.draw(st.sampled_from([changed, torn]) | st.binary(max_size=20) | DEEP)
    file = folder / "journal.log"
    file.write_bytes(b"".join([*lines[:place], line, *lines[place + 1 :]]))
    found = value_or_error(trials_of, file)
    if isinstance(found, ConfigError):
        assert str(file) in str(found)
    else:
        assert all(isinstance(trial, optuna.trial.FrozenTrial) for trials in found for trial in trials)


def check_the_settings_reader(folder, data):
    """Any bytes, any JSON, a truncated file."""
    text = json.dumps(data.draw(JSON)).encode()
    cut = data.draw(st.integers(0, len(text)))
    file = folder / "settings.json"
    file.write_bytes(data.draw(st.binary() | st.just(text) | st.just(text[:cut]) | DEEP))
    found = value_or_error(read_json, file)
    assert isinstance(found, dict) or str(file) in str(found)


FEW = profile(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
MANY = profile(FEW, max_examples=5000)


@FEW
@given(data=st.data())
def test_the_readers_give_a_value_or_our_error(tmp_path, lines, data):
    check_the_journal_reader(tmp_path, lines, data)
    check_the_settings_reader(tmp_path, data)


@pytest.mark.slow
@MANY
@given(data=st.data())
def test_the_readers_give_a_value_or_our_error_for_long(tmp_path, lines, data):
    check_the_journal_reader(tmp_path, lines, data)
    check_the_settings_reader(tmp_path, data)


def test_a_truncated_settings_file_is_told_with_its_line(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{\n "a": 1,\n "b"')
    with pytest.raises(ConfigError, match=rf"^{file}, line 3 cannot be read \(Expecting ':' delimiter\)"):
        read_json(file)
