"""From LaTeX to PDF with latexmk: the same source, the same bytes; an error is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError

_COMMAND: Final = ("latexmk", "-norc", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape")
_SECONDS: Final = 300
_LOG_LINE: Final = "4096"
"""TeX breaks lines of its log otherwise, in the middle of names."""

_MISSING_FILE: Final = re.compile(r"File [`']([^`']+\.(?:sty|cls|def|fd))' not found")
_MISSING_FONT: Final = re.compile(r"Font \S+=(\S+) .*not loadable")
_PLACED_ERROR: Final = re.compile(r"^(?:\./)?([^\s:]+):(\d+): (.+)$")

DEBIAN: Final = {
    "siunitx.sty": "texlive-science",
    "booktabs.sty": "texlive-latex-recommended",
    "caption.sty": "texlive-latex-recommended",
    "microtype.sty": "texlive-latex-recommended",
}
"""What Debian and Ubuntu call the packages that hold what the report loads; all else is in texlive-latex-extra."""


@dataclass(frozen=True)
class Compiled:
    """How it went.

    Attributes:
        pdf: What was written; None if something that the report needs is not installed.
        missing: What is missing, and which Debian package has it; empty if nothing is.
    """

    pdf: Path | None
    missing: str = ""


def compile_pdf(source: Path, newest: str, search: Path | None = None) -> Compiled:
    """Make ``NAME.pdf`` beside ``NAME.tex``, with everything else that LaTeX writes kept out of the folder.

    Args:
        source: The main file; its folder is where LaTeX runs.
        newest: UTC time, ISO 8601, that stands for now, unless ``SOURCE_DATE_EPOCH`` is set.
        search: A folder where LaTeX looks for files that are not beside the source.

    Raises:
        StoreError: The source has an error; what LaTeX said is in ``NAME.log`` beside it.
    """
    if shutil.which(_COMMAND[0]) is None or shutil.which("pdflatex") is None:
        return Compiled(None, "latexmk and pdflatex (Debian packages latexmk and texlive-latex-base)")
    log = source.with_suffix(".log")
    with tempfile.TemporaryDirectory(prefix="clear-report-") as folder:
        # The build folder may hold what an earlier latexmk run of the reader left; none of that is used.
        command = [*_COMMAND, "-file-line-error", f"-outdir={folder}", source.name]
        try:
            done = subprocess.run(  # noqa: S603  # a fixed command; the file name is our own
                command, cwd=source.parent, env=_environment(newest, search), capture_output=True, timeout=_SECONDS,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise StoreError(f"LaTeX was stopped after {_SECONDS} seconds on {source}.") from None
        made = Path(folder) / source.with_suffix(".pdf").name
        said = Path(folder) / log.name
        text = said.read_text(encoding="utf-8", errors="replace") if said.is_file() else ""
        if done.returncode == 0 and made.is_file():
            atomic.write_bytes(source.with_suffix(".pdf"), made.read_bytes())
            return Compiled(source.with_suffix(".pdf"))
    missing = _missing(text)
    if missing:
        return Compiled(None, missing)
    atomic.write_bytes(log, (text or done.stdout.decode("utf-8", "replace")).encode())
    raise StoreError(f"LaTeX failed: {_first_error(text)} The whole log is {log}.")


def source_date(newest: str) -> str:
    """The value of ``SOURCE_DATE_EPOCH``: what the environment says, else the time of the newest session."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdecimal():
        return given
    moment = datetime.fromisoformat(newest) if newest else datetime(2000, 1, 1, tzinfo=UTC)
    return str(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))


def _environment(newest: str, search: Path | None) -> dict[str, str]:
    own = {"SOURCE_DATE_EPOCH": source_date(newest), "FORCE_SOURCE_DATE": "1", "max_print_line": _LOG_LINE}
    if search is not None:
        own |= {name: f".:{search}:" for name in ("TEXINPUTS", "BIBINPUTS", "BSTINPUTS")}
    return {**os.environ, **own}


def _missing(log: str) -> str:
    """What is not installed; files of the report's own are no packages."""
    found = _MISSING_FILE.search(log)
    if found:
        package = DEBIAN.get(found[1], "texlive-latex-extra")
        return f"the LaTeX file {found[1]} (Debian package {package})"
    font = _MISSING_FONT.search(log)
    return f"the font {font[1]} (Debian packages texlive-fonts-recommended and lmodern)" if font else ""


def _first_error(log: str) -> str:
    for line in log.splitlines():
        placed = _PLACED_ERROR.match(line)
        if placed:
            return f"{placed[1]}, line {placed[2]}: {placed[3].rstrip('.')}."
        if line.startswith("! "):
            return f"{line[2:].rstrip('.')}."
    return "no error line in the log."
