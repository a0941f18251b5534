"""A configuration file that is read again when it changes."""

import logging
import math
import os
import threading

import pytest
from saying import refusal, written

from dingo.config import Config, ConfigFile, watching
from dingo.errors import BadConfig

WAIT = 10.0  # how long a fact may take before the test gives up on it


def renamed_over(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class Watched:
    """A ConfigFile whose news are kept."""

    def __init__(self, path):
        self.file = ConfigFile(path)
        self.news, self.errors = [], []
        self.file.subscribe(self.news.append)
        self.file.on_error(self.errors.append)


@pytest.fixture
def watched(path):
    return Watched(written(path, "workers: 1"))


def test_a_config_read_once_has_no_source(path):
    assert Config.from_yaml(written(path, "workers: 1")).source is None


def test_a_watched_config_has_its_values(path):
    assert Config.from_yaml(written(path, "workers: 1"), watch=True).workers == 1


def test_a_watched_config_equals_one_that_is_not(path):
    written(path, "workers: 1")
    assert Config.from_yaml(path, watch=True) == Config.from_yaml(path)


def test_a_watched_config_leads_to_the_newest(path):
    config = Config.from_yaml(written(path, "workers: 1"), watch=True)
    written(path, "workers: 22")
    config.source.poll()
    assert config.source.current.workers == 22


def test_reading_with_watch_starts_no_thread(path):
    Config.from_yaml(written(path, "workers: 1"), watch=True)
    assert polling_threads() == []


def test_a_bad_file_cannot_be_watched(path):
    assert "'workers'" in refusal(ConfigFile, written(path, "workerz: 1"))


def test_a_missing_file_cannot_be_watched(path):
    assert str(path) in refusal(ConfigFile, path)


def test_the_current_config_leads_back_to_its_file(watched):
    assert watched.file.current.source is watched.file


def test_polling_an_unchanged_file_is_false(watched):
    assert watched.file.poll() is False


def test_polling_an_old_unchanged_file_does_not_read_it(path, monkeypatch):
    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    monkeypatch.setattr(watching, "_snapshot", lambda path: pytest.fail("read"))
    assert file.poll() is False


def test_polling_a_changed_file_is_true(watched, path):
    written(path, "workers: 22")
    assert watched.file.poll() is True


def test_polling_again_after_a_change_is_false(watched, path):
    written(path, "workers: 22")
    watched.file.poll()
    assert watched.file.poll() is False


def test_a_change_of_an_old_file_is_noticed(path):
    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    written(path, "workers: 2")
    assert file.poll() is True


def test_a_change_that_leaves_time_and_size_as_they_were_is_noticed_in_a_young_file(watched, path):
    status = path.stat()
    written(path, "workers: 2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert watched.file.poll() is True


def test_a_replacement_by_rename_is_noticed(watched, path):
    renamed_over(path, "workers: 2")
    watched.file.poll()
    assert watched.file.current.workers == 2


def test_a_replacement_with_the_time_and_size_of_an_old_file_is_noticed(path):
    os.utime(written(path, "workers: 1"), (1, 1))
    file = ConfigFile(path)
    new = written(path.with_suffix(".new"), "workers: 2")
    os.utime(new, (1, 1))
    new.replace(path)
    assert file.poll() is True


def test_a_symlink_pointed_elsewhere_is_noticed(tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(written(tmp_path / "a.yaml", "workers: 1"))
    file = ConfigFile(link)
    new = tmp_path / "new"
    new.symlink_to(written(tmp_path / "b.yaml", "workers: 2"))
    new.replace(link)
    assert file.poll() is True


def test_a_touched_file_is_no_change(watched, path):
    os.utime(path, (1, 1))
    assert watched.file.poll() is False


def test_a_file_that_changes_while_it_is_read_is_read_again_later(watched, path, monkeypatch):
    written(path, "workers: 22")
    whole = watching._snapshot
    with monkeypatch.context() as patch:
        patch.setattr(watching, "_snapshot", lambda path: whole(path)._replace(data=b"work", whole=False))
        watched.file.poll()
    watched.file.poll()
    assert (watched.file.current.workers, watched.errors) == (22, [])


def test_a_relative_path_survives_a_change_of_directory(path, tmp_path, monkeypatch):
    written(path, "workers: 1")
    monkeypatch.chdir(tmp_path)
    file = ConfigFile(path.name)
    monkeypatch.chdir("/")
    written(path, "workers: 22")
    assert file.poll() is True


def test_a_subscriber_gets_the_new_config(watched, path):
    written(path, "workers: 22")
    watched.file.poll()
    assert watched.news == [Config(workers=22)]


def test_a_subscriber_sees_it_as_current(watched, path):
    seen = []
    watched.file.subscribe(lambda config: seen.append(watched.file.current is config))
    written(path, "workers: 22")
    watched.file.poll()
    assert seen == [True]


def test_a_subscription_can_be_ended(watched, path):
    news = []
    end = watched.file.subscribe(news.append)
    end()
    written(path, "workers: 22")
    watched.file.poll()
    assert news == []


def test_ending_a_subscription_twice_ends_no_other(watched, path):
    news = []
    end = watched.file.subscribe(news.append)
    watched.file.subscribe(news.append)
    end()
    end()
    written(path, "workers: 22")
    watched.file.poll()
    assert len(news) == 1


def test_a_subscriber_that_raises_leaves_the_others_alone(path, caplog):
    file = ConfigFile(written(path, "workers: 1"))
    news = []
    file.subscribe(lambda config: 1 / 0)
    file.subscribe(news.append)
    written(path, "workers: 22")
    file.poll()
    assert len(news) == 1


def test_a_subscriber_that_raises_is_logged(watched, path, caplog):
    watched.file.subscribe(lambda config: 1 / 0)
    written(path, "workers: 22")
    watched.file.poll()
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_a_subscriber_may_poll(watched, path):
    watched.file.subscribe(lambda config: watched.file.poll())
    written(path, "workers: 22")
    assert watched.file.poll() is True


def test_a_bad_file_keeps_the_old_values(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert watched.file.current.workers == 1


def test_polling_a_bad_file_is_false(watched, path):
    written(path, "workers: many")
    assert watched.file.poll() is False


def test_a_bad_file_calls_the_error_subscribers(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert [type(error) for error in watched.errors] == [BadConfig]


def test_a_bad_file_calls_no_other_subscribers(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    assert watched.news == []


def test_a_bad_file_is_told_once(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    watched.file.poll()
    assert len(watched.errors) == 1


def test_a_bad_file_nobody_asks_about_is_logged(path, caplog):
    file = ConfigFile(written(path, "workers: 1"))
    written(path, "workers: many")
    file.poll()
    assert [(r.levelno, str(path) in r.getMessage()) for r in caplog.records] == [(logging.WARNING, True)]


def test_an_error_subscription_can_be_ended(watched, path):
    errors = []
    watched.file.on_error(errors.append)()
    written(path, "workers: many")
    watched.file.poll()
    assert errors == []


def test_a_file_put_right_is_told_even_with_the_old_values(watched, path):
    written(path, "workers: many")
    watched.file.poll()
    written(path, "workers: 1")
    watched.file.poll()
    assert watched.news == [Config(workers=1)]


def test_a_file_that_is_gone_keeps_the_old_values(watched, path):
    path.unlink()
    watched.file.poll()
    assert watched.file.current.workers == 1


def test_a_file_that_is_gone_is_told_once(watched, path):
    path.unlink()
    watched.file.poll()
    watched.file.poll()
    assert ["No such file" in str(error) for error in watched.errors] == [True]


def test_a_file_that_comes_back_is_told(watched, path):
    path.unlink()
    watched.file.poll()
    written(path, "workers: 1")
    assert watched.file.poll() is True


@pytest.fixture
def running(watched):
    watched.file.start(0.001)
    yield watched.file
    watched.file.stop()


def polling_threads():
    return [thread for thread in threading.enumerate() if thread.name == "dingo-config"]


def test_a_started_file_is_read_when_it_changes(running, path):
    changed = threading.Event()
    running.subscribe(lambda config: changed.set())
    renamed_over(path, "workers: 22")
    assert changed.wait(WAIT)


def test_a_started_file_survives_a_bad_state(running, path):
    bad, good = threading.Event(), threading.Event()
    running.on_error(lambda error: bad.set())
    running.subscribe(lambda config: good.set())
    renamed_over(path, "workers: many")
    bad.wait(WAIT)
    renamed_over(path, "workers: 22")
    assert good.wait(WAIT)


def test_a_started_file_survives_a_poll_that_fails(running, path, monkeypatch, caplog):
    failed, changed = threading.Event(), threading.Event()

    def fail(path):
        failed.set()
        raise MemoryError

    running.subscribe(lambda config: changed.set())
    with monkeypatch.context() as patch:
        patch.setattr(watching, "_snapshot", fail)
        renamed_over(path, "workers: 22")
        assert failed.wait(WAIT)
    assert changed.wait(WAIT)


def test_starting_twice_makes_one_thread(running):
    running.start(0.001)
    assert len(polling_threads()) == 1


def test_the_thread_is_a_daemon(running):
    assert [thread.daemon for thread in polling_threads()] == [True]


def test_stopping_ends_the_thread(running):
    running.stop()
    assert polling_threads() == []


def test_stopping_twice_is_harmless(running):
    running.stop()
    running.stop()


def test_stopping_what_never_started_is_harmless(watched):
    watched.file.stop()


def test_a_stopped_file_can_be_started_again(running, path):
    changed = threading.Event()
    running.stop()
    running.subscribe(lambda config: changed.set())
    running.start(0.001)
    renamed_over(path, "workers: 22")
    assert changed.wait(WAIT)


def test_a_subscriber_on_the_thread_may_stop_it(running, path):
    stopped = threading.Event()

    def stop(config):
        running.stop()
        stopped.set()

    running.subscribe(stop)
    renamed_over(path, "workers: 22")
    assert stopped.wait(WAIT)


def test_a_subscriber_of_another_poll_may_stop_the_thread(watched, path):
    watched.file.subscribe(lambda config: watched.file.start(0.001))
    watched.file.subscribe(lambda config: watched.file.stop())
    written(path, "workers: 22")
    watched.file.poll()
    assert polling_threads() == []


@pytest.mark.parametrize("interval", [0, -1, math.nan, True, "1"])
def test_a_wrong_interval_is_refused(watched, interval):
    assert refusal(watched.file.start, interval).startswith("interval_seconds must be ")
