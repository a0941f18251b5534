"""How Sphinx builds the site."""

from sphinx.pycode import ModuleAnalyzer

import dingo

project = "dingo"
author = "the dingo authors"
copyright = "2026, the dingo authors"
release = version = dingo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"dingo {release}"

default_role = "literal"  # docstrings write `names` with single backticks
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_use_unqualified_type_names = True

# `App.task` has eight overloads, for type checkers. Readers want the one signature that is implemented.
_analyze = ModuleAnalyzer.analyze


def _without_overloads(self):
    _analyze(self)
    self.overloads = {}


ModuleAnalyzer.analyze = _without_overloads
