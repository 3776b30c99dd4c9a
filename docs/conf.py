"""The documentation site: ``make docs`` writes it to ``build/docs``, plain files that ask nothing of any server."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # pages made from facts, and the code of this checkout

import check  # noqa: E402
import facts  # noqa: E402

facts.write_pages(DOCS / "reference")

project = "CLEAR"
author = "The CLEAR maintainers"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex"]

html_theme = "furo"
html_title = "CLEAR"
html_static_path = ["_static"]
html_css_files = ["site.css"]

highlight_language = "none"  # most blocks are typed into a terminal
myst_heading_anchors = 4
bibtex_bibfiles = ["../report/references.bib"]
bibtex_default_style = "unsrt"
smartquotes = False  # what is typed into a terminal stays as it is
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings name the types that matter, signatures the defaults
napoleon_use_ivar = True

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # libraries' advice about the environment
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(DOCS.parent), os.environ.get("PYTHONPATH"))))


def setup(app: Sphinx) -> None:
    """Connect what Sphinx has no option for."""
    app.connect("source-read", _in_the_site)
    app.connect("build-finished", _finish)


def _in_the_site(app: Sphinx, page: str, text: list[str]) -> None:
    """Let links to CONTRIBUTING.md, which is a page here too, stay in the site."""
    text[0] = text[0].replace("](../CONTRIBUTING.md", "](contributing.md")


def _finish(app: Sphinx, error: Exception | None) -> None:
    if error or app.builder.name != "html":
        return
    _write_llms(app.env, app.outdir / "llms.txt")
    for problem in check.problems(app.outdir):
        logging.getLogger(__name__).warning(problem)


def _write_llms(env: BuildEnvironment, file: Path) -> None:
    """``llms.txt`` (llmstxt.org): every page, section by section, with its first sentence."""
    lines = ["# CLEAR", "", f"> {_first(env, env.config.root_doc)}"]
    for tree in env.get_doctree(env.config.root_doc).findall(toctree):
        lines += ["", f"## {tree['caption']}", ""]
        for page in (name for entry in tree["includefiles"] for name in (entry, *env.toctree_includes.get(entry, ()))):
            lines.append(f"- [{env.titles[page].astext()}]({page}.html): {_first(env, page)}")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _first(env: BuildEnvironment, page: str) -> str:
    paragraph = next(iter(env.get_doctree(page).findall(nodes.paragraph)), None)
    return re.split(r"(?<=[.?!]) ", " ".join(paragraph.astext().split()))[0] if paragraph else ""
