"""An app follows the configuration file it was given, while it is open."""

import threading

import dingo


def test_a_changed_file_is_followed_and_a_bad_one_is_told(tmp_path):
    path = tmp_path / "dingo.yaml"
    path.write_text("workers: 1\n")
    config = dingo.Config.from_yaml(path, watch=True)
    with dingo.App("local", config=config) as app:
        app.register("wait", lambda barrier: barrier.wait(10))
        events = app.listen(origin=dingo.Origin.BRIDGE)
        path.write_text("workers: 2\n")
        assert events.get(10).code == "config.changed"
        barrier = threading.Barrier(2)  # passed only by two workers
        results = [app.call("wait", barrier) for _ in range(2)]
        assert sorted(result.result(10) for result in results) == [0, 1]
        path.write_text("workers: many\n")
        assert events.get(10).code == "config.refused"
        assert app.config.workers == 2


def test_new_signing_keys_hold_from_then_on(tmp_path):
    old, new = "old key of thirty-two bytes or more", "new key of thirty-two bytes or more"
    path = tmp_path / "dingo.yaml"
    path.write_text(f"signing_keys: [{old}]\n")
    url = f"memory://{tmp_path}"
    with (
        dingo.App(url, config=dingo.Config.from_yaml(path, watch=True)) as worker,
        dingo.App(url, config=dingo.Config(signing_keys=[old])) as before,
        dingo.App(url, config=dingo.Config(signing_keys=[new])) as after,
    ):
        for app in (worker, before, after):
            app.register("add", lambda a, b: a + b)
        events = worker.listen(origin=dingo.Origin.BRIDGE)
        worker.start_worker()
        assert before.call("add", 1, 2).result(10) == 3
        path.write_text(f"signing_keys: [{new}, {old}]\n")
        assert events.get(10).code == "config.changed"
        assert after.call("add", 1, 2).result(10) == 3
        assert before.call("add", 1, 2).result(10) == 3


def test_a_change_is_told_once_also_in_an_app_that_was_rewired_after_its_first_use(tmp_path):
    path = tmp_path / "dingo.yaml"
    path.write_text("workers: 1\n")
    config = dingo.Config.from_yaml(path, watch=True)
    with dingo.App("local", config=config) as app:
        app.connect(f"memory://{tmp_path}")
        app.register("one", lambda: 1)
        app.call("one")
        events = app.listen(origin=dingo.Origin.BRIDGE)
        for workers in (2, 3):
            path.write_text(f"workers: {workers}\n")
            assert f"workers={workers}" in events.get(10).message
