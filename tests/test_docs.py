"""Every Python block in README.md and docs/ runs, and each page prints what its output blocks say.

The ```python blocks of a page are one program, run in order; what it prints is the page's ```output blocks,
one after the other. Blocks that are not meant to run are written as the directive {code-block} python; they
must at least compile.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dingo

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
FENCE = re.compile(r"^( *)(```+)(\S.*)?$")
SECONDS = 60


def blocks(page):
    """Yield what each fence of a page says after its ticks, its first line's number and its text."""
    inside = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if inside is None and fence:
            inside = (fence[1], fence[2], (fence[3] or "").strip(), number + 1, [])
        elif inside is not None and fence and fence[2] == inside[1] and not fence[3]:
            indent, _, info, first, lines = inside
            yield info, first, "".join(line.removeprefix(indent) + "\n" for line in lines)
            inside = None
        elif inside is not None:
            inside[4].append(line)
    assert inside is None, f"{page.name}: the fence before line {inside[3]} is never closed"


def program(page):
    """Return the Python blocks of a page as one program, each line where it stands in the page."""
    lines = []
    for info, first, text in blocks(page):
        if info == "python":
            lines += [""] * (first - 1 - len(lines)) + text.splitlines()
    return "\n".join(lines) + "\n"


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if program(page).strip()], ids=name_of)
def test_a_page_prints_what_it_says(page, tmp_path):
    path = tmp_path / "page.py"
    path.write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True, text=True, timeout=SECONDS, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == "".join(text for info, _, text in blocks(page) if info == "output")
    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_compiles(page):
    for info, first, text in blocks(page):
        if info == "{code-block} python":
            compile(text, f"{page.name}:{first}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_first_file_of_the_readme_is_the_quickstart():
    first = next(text for info, _, text in blocks(ROOT / "README.md") if info == "python")
    example = (ROOT / "examples" / "local" / "quickstart.py").read_text(encoding="utf-8")
    assert example.endswith(f'"""\n\n{first}')
    assert len(first.splitlines()) < 20


def test_the_reference_has_every_public_name():
    reference = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"^\.\. auto\w+:: dingo\.(\w+)$", reference, re.MULTILINE))
    assert named == set(dingo.__all__)


def test_the_reference_has_every_member_of_an_app_that_is_for_users():
    reference = (DOCS / "reference" / "app.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. auto\w+:: dingo\.App\.(\w+)$", reference, re.MULTILINE))
    for_dingo_itself = {
        "await_shown", "gave_up", "hub", "idle", "inside", "plan_for", "redirect", "run_here", "send_many", "stream",
        "task_queues",
    }  # fmt: skip
    assert named == {name for name in dir(dingo.App) if not name.startswith("_")} - for_dingo_itself
