"""`dingo worker --reload`: the worker starts anew with the code, and survives mistakes in it."""

import queue
import signal
import subprocess
import sys
import threading

import pytest

import dingo

PATIENCE = 30.0

TASKS = """
import dingo
app = dingo.App()
app.register("answer", lambda: {value})
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "shop.py").write_text(TASKS.format(value=1))
    pytest.importorskip("watchfiles")
    process = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "shop:app", "--reload", "--broker", f"sqlite:///{tmp_path}/jobs.db"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=1,
    )  # fmt: skip
    lines = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()

    def wait_for(text):
        while text not in (line := lines.get(timeout=PATIENCE)):
            pass
        return line

    yield process, wait_for
    process.terminate()
    process.wait(PATIENCE)
    reader.join(PATIENCE)
    process.stdout.close()


def change(path, text):
    """Change a file as editors do, in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_worker_starts_anew_with_the_code_and_waits_out_a_mistake(start, tmp_path):
    process, wait_for = start
    wait_for("ready ")
    with dingo.App(f"sqlite:///{tmp_path}/jobs.db") as app:
        app.register("answer", lambda: 0)
        assert app.call("answer").result(PATIENCE) == 1
        change(tmp_path / "shop.py", TASKS.format(value="2 +"))
        wait_for("shop.py changed")
        wait_for("SyntaxError")
        wait_for("waiting for the next change")
        change(tmp_path / "shop.py", TASKS.format(value=3))
        wait_for("ready ")
        assert app.call("answer").result(PATIENCE) == 3
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def test_without_its_package_it_says_what_to_install(tmp_path):
    (tmp_path / "watchfiles.py").write_text("raise ModuleNotFoundError('no', name='watchfiles')")
    done = subprocess.run(
        [sys.executable, "-m", "dingo", "worker", "shop:app", "--reload"], cwd=tmp_path, text=True,
        capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'dingo-tasks[reload]'" in done.stderr
