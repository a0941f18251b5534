"""Every example runs, without a warning, and prints what its docstring says."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DISTRIBUTED = Path(__file__).parent.parent / "examples" / "distributed"
EXAMPLES = Path(__file__).parent.parent / "examples" / "local"
SECONDS = 60

# Its output has times in it; it has tests of its own below.
CENSUS = EXAMPLES / "stdlib_census.py"


def run(path, *arguments, **environment):
    """Run a program as a reader would; warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )  # fmt: skip


def promised(path):
    """Return what the "Prints:" section of a program's docstring says it prints."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False)
    _, separator, printed = docstring.partition("\nPrints:\n")
    assert separator, f"{path.name} does not say what it prints"
    return textwrap.dedent(printed).rstrip() + "\n"


@pytest.mark.parametrize("path", sorted(set(EXAMPLES.glob("*.py")) - {CENSUS}), ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path):
    done = run(path)
    assert done.stderr == ""
    assert done.stdout == promised(path)
    assert done.returncode == 0


def test_the_census_finds_the_same_as_a_plain_pool():
    pytest.importorskip("rich")
    done = run(CENSUS, "--limit", "60", COLUMNS="200")
    assert done.stderr == ""
    assert done.returncode == 0
    assert "60 modules" in done.stdout
    assert "Totals are identical." in done.stdout


def test_the_census_shows_an_event_for_what_cannot_be_parsed():
    pytest.importorskip("rich")
    done = run(CENSUS, "--limit", "5", COLUMNS="200")
    assert "broken on purpose" in done.stdout
    assert "WARNING task.failed SyntaxError: '(' was never closed (broken.unclosed, line 1)" in done.stdout


def test_every_example_is_listed_in_the_readme_of_examples():
    listed = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f"local/{path.name}" not in listed] == []


def test_the_distributed_calls_print_the_same_in_one_process():
    done = run(DISTRIBUTED / "caller.py", DINGO_BROKER="")
    assert (done.stderr, done.stdout) == ("", promised(DISTRIBUTED / "caller.py"))


def test_the_distributed_calls_print_the_same_with_a_worker_process(tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    worker = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "tasks:app", "--broker", url],
        cwd=DISTRIBUTED, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert worker.stdout.readline().startswith("ready ")
        done = run(DISTRIBUTED / "caller.py", DINGO_BROKER=url)
    finally:
        worker.terminate()
        worker.communicate()
    assert (done.stderr, done.stdout) == ("", promised(DISTRIBUTED / "caller.py"))


def test_the_census_survives_a_kill():
    pytest.importorskip("rich")
    done = run(DISTRIBUTED / "census_survives_a_kill.py", "--limit", "200", COLUMNS="200")
    assert done.returncode == 0
    assert "killed with SIGKILL" in done.stdout
    assert "calls made 200, answered 200, lost 0" in done.stdout


def test_the_fleet_is_followed_from_one_place():
    path = DISTRIBUTED / "follow_the_fleet.py"
    done = run(path, DINGO_BROKER="", DINGO_BACKEND="")
    assert (done.stderr, done.stdout) == ("", promised(path))


def test_the_readme_of_the_distributed_examples_tells_of_each_what_it_prints():
    readme = (DISTRIBUTED / "README.md").read_text(encoding="utf-8")
    for path in sorted(DISTRIBUTED.glob("*.py")):
        if path.name != "census_workers.py":
            assert f"[{path.name}]({path.name})" in readme
    for name in ("caller.py", "follow_the_fleet.py"):
        assert textwrap.indent(promised(DISTRIBUTED / name), "    ") in readme


def test_the_servers_of_the_distributed_examples_keep_what_they_are_given():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DISTRIBUTED / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"rabbitmq", "redis"}
    assert "noeviction" in services["redis"]["command"]
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one["ports"])
