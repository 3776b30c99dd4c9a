"""Downloading an archive from the first of several sources that provides it completely.

A download goes to a temporary file in the target folder and is renamed when it is complete and has the right hash. A
broken connection is resumed; a wrong hash, an error, a redirect to another host or a very slow transfer removes the
temporary file and moves on to the next source. If no checksum is published, the first download's SHA-256 is recorded
next to the archive, and later ones must match it.
"""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from tasks.common.errors import UserError

_BLOCK = 1 << 20
_ATTEMPTS = 4


class Response(Protocol):
    """The part of ``http.client.HTTPResponse`` that is used."""

    status: int
    headers: Any

    def read(self, amount: int, /) -> bytes:
        """The next bytes, empty at the end."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


Opener = Callable[[urllib.request.Request, float], Response]


@dataclass(frozen=True)
class Archive:
    """A file that several hosts offer.

    Attributes:
        sources: URLs, tried in this order.
        manual: What the user can do if none of them works, as a sentence.
        md5: Published checksum in hex; None if none is published.
    """

    name: str
    sources: tuple[str, ...]
    manual: str
    md5: str | None = None


@dataclass(frozen=True)
class Patience:
    """When to give up on a source.

    Attributes:
        timeout: Seconds without data.
        window: Seconds over which the rate is measured.
        least_rate: Minimum average rate over a window, in bytes per second.
        most_bytes: Maximum file size.
    """

    timeout: float = 30.0
    window: float = 60.0
    least_rate: float = 1024.0
    most_bytes: int = 40_000_000_000


class _Failed(Exception):
    """Why a source did not provide the file, as the end of a sentence."""


class _Cut(_Failed):
    """The connection ended early; the bytes received so far are valid."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects within one host and never to a weaker protocol."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise _Failed(f"redirects to {new.scheme}, which is refused")
        if new.hostname != old.hostname:
            raise _Failed(f"redirects to another host ({new.hostname}), which is refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(request: urllib.request.Request, timeout: float) -> Response:
    """The default opener: http and https, redirects within the host only."""
    if urlsplit(request.full_url).scheme not in ("http", "https"):
        raise _Failed("is neither http nor https")
    return urllib.request.build_opener(_SameHost).open(request, timeout=timeout)


def fetch(
    archive: Archive,
    folder: Path,
    *,
    offline: bool = False,
    patience: Patience = Patience(),
    opener: Opener = open_url,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Download an archive, unless it already exists.

    Args:
        folder: Target folder; created if needed.
        patience: When to give up on a source.
        opener: Opens a request with a timeout in seconds.
        say: Receives progress messages, one sentence each.

    Returns:
        The path of the file.

    Raises:
        UserError: No source provided it; the message lists what happened with each, and the manual way.
    """
    target = folder / archive.name
    if target.is_file():
        if wrong := _wrong_hash(target, archive):
            raise UserError(f"{target} {wrong}; remove it, or the record next to it if that is wrong.")
        return target
    if offline:
        raise UserError(
            f"{target} is missing, and --offline opens no connection. Sources: {', '.join(archive.sources)}. "
            f"{archive.manual}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _first(archive, target, patience, opener, say)
    except OSError as error:  # network errors were handled above
        raise UserError(f"{folder} cannot be written ({error.strerror}); choose another folder.") from None


def _first(archive: Archive, target: Path, patience: Patience, opener: Opener, say: Callable[[str], None]) -> Path:
    failures = []
    for source in archive.sources:
        # One temporary file per source: data from two hosts are never joined.
        part = target.with_name(f"{archive.name}.{hashlib.sha256(source.encode()).hexdigest()[:8]}.part")
        say(f"Downloading {source}")
        try:
            _fetch(source, part, patience, opener, say)
            if wrong := _wrong_hash(part, archive):
                raise _Failed(wrong)
        except _Failed as reason:
            part.unlink(missing_ok=True)
            failures.append(f"{source} {reason}")
            say(f"{failures[-1]}.")
            continue
        part.replace(target)
        return target
    raise UserError(f"No source gave {archive.name}: {'; '.join(failures)}. {archive.manual}")


def _fetch(source: str, part: Path, patience: Patience, opener: Opener, say: Callable[[str], None]) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _transfer(source, part, before, patience, opener)
        except _Cut as reason:
            if attempt == _ATTEMPTS:
                raise
            say(f"{source} {reason}; continuing from there")
    return None


def _transfer(source: str, part: Path, start: int, patience: Patience, opener: Opener) -> None:
    """Download a source from byte ``start`` on, or completely if the host does not support ranges."""
    request = urllib.request.Request(source, headers={"User-Agent": "clear-benchmark"})  # noqa: S310 - opener checks
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = opener(request, patience.timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            part.unlink()
            raise _Cut("has nothing after what was already there") from None
        raise _Failed(f"answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(f"cannot be reached ({getattr(error, 'reason', None) or error})") from None
    try:
        resumed = response.status == http.client.PARTIAL_CONTENT and bool(start)
        if resumed and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            raise _Failed("continues at a different offset than requested")
        begin = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = begin + int(length) if str(length).isdigit() else None
        if total is not None and total > patience.most_bytes:
            raise _Failed(f"would send {total:,} bytes, more than {patience.most_bytes:,}")
        with part.open("ab" if resumed else "wb") as stream:
            got = begin
            for block in _blocks(response, patience):
                got += len(block)
                if got > patience.most_bytes:
                    raise _Failed(f"sends more than {patience.most_bytes:,} bytes")
                stream.write(block)
    finally:
        response.close()
    if total is not None and got < total:
        raise _Cut(f"ended after {got:,} of {total:,} bytes")


def _blocks(response: Response, patience: Patience) -> Iterator[bytes]:
    """The blocks of a response, as long as they arrive fast enough."""
    begin, came = time.monotonic(), 0
    read = getattr(response, "read1", response.read)  # read waits for a whole block, and a crawl would go unnoticed
    while True:
        try:
            block = read(_BLOCK)
        except TimeoutError:
            raise _Failed(f"sent nothing for {patience.timeout:g} s") from None
        except (OSError, http.client.HTTPException):
            raise _Cut("broke off") from None
        if not block:
            return
        came += len(block)
        yield block
        passed = time.monotonic() - begin
        if passed > patience.window:
            if came < patience.least_rate * passed:
                raise _Failed(f"sends less than {patience.least_rate:g} bytes per second")
            begin, came = time.monotonic(), 0


def _wrong_hash(path: Path, archive: Archive) -> str | None:
    """How a file differs from the expected one, as the end of a sentence; None if it does not."""
    if archive.md5 is not None:
        found = _hash(path, "md5")
        return None if found == archive.md5 else f"has MD5 {found}, not the published {archive.md5}"
    found = _hash(path, "sha256")
    record = path.with_name(f"{archive.name}.sha256")
    if not record.exists():
        record.write_text(f"{found}\n", encoding="ascii")
    recorded = record.read_text(encoding="ascii", errors="replace").strip()
    return None if found == recorded else f"has SHA-256 {found}, not {recorded} as recorded in {record}"


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()
