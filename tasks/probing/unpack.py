"""Unpacking an untrusted zip archive."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.common.errors import UserError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of an archive's content.

    Attributes:
        entry_bytes: Bytes of one entry, unpacked.
        all_bytes: Bytes of all entries, unpacked.
    """

    entries: int = 1_000_000
    entry_bytes: int = 200_000_000
    all_bytes: int = 40_000_000_000


def unpack(archive: Path, folder: str, into: Path, limits: Limits = Limits()) -> Path:
    """Unpack the one folder that an archive is expected to contain; everything else in it is ignored.

    All names and sizes are checked before the first byte is written, sizes again while writing; the folder appears only
    when it is complete.

    Args:
        folder: The folder's name in the archive.
        into: Parent of the new folder; ``into / folder`` must not exist.

    Returns:
        The unpacked folder.

    Raises:
        UserError: The archive is broken, has entries outside its folder, links, or more than the limits allow.
    """
    target = into / folder
    if target.exists():
        raise UserError(f"{target} exists already; remove it, or unpack to another folder.")
    into.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder}.", dir=into))
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(archive, opened.infolist(), limits)
            wanted = [(info, path) for info, path in entries if path.parts[:1] == (folder,)]
            if not wanted:
                raise UserError(f"{archive} holds no folder {folder!r}.")
            for info, path in wanted:
                _write(archive, opened, info, work / path, limits)
        (work / folder).replace(target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UserError(f"{archive} is broken or encrypted ({error}); download it again.") from None
    except OSError as error:
        raise UserError(f"{archive} cannot be unpacked to {into}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _checked(
    archive: Path, entries: list[zipfile.ZipInfo], limits: Limits
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    if len(entries) > limits.entries:
        raise UserError(f"{archive} holds {len(entries):,} entries, more than {limits.entries:,}; it is not unpacked.")
    if sum(info.file_size for info in entries) > limits.all_bytes:
        raise UserError(f"{archive} unpacks to more than {limits.all_bytes:,} bytes; it is not unpacked.")
    checked = []
    for info in entries:
        # Python truncates names at a NUL; the name in the archive is checked, not the truncated one.
        path = PurePosixPath(info.orig_filename)
        if path.is_absolute() or ".." in path.parts or any(sign in info.orig_filename for sign in ("\\", ":", "\0")):
            raise UserError(
                f"{archive} has the entry {info.orig_filename!a}, which leads out of it; it is not unpacked."
            )
        mode = info.external_attr >> 16
        if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
            raise UserError(
                f"{archive} has the entry {info.filename!a}, which is a link or device; it is not unpacked."
            )
        if info.file_size > limits.entry_bytes:
            raise UserError(
                f"{archive} has the entry {info.filename!a} of {info.file_size:,} bytes, more than "
                f"{limits.entry_bytes:,}; it is not unpacked."
            )
        checked.append((info, path))
    return checked


def _write(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limits: Limits) -> None:
    if info.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(info) as source, path.open("xb") as target:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > limits.entry_bytes:
                raise UserError(f"{archive} has the entry {info.filename!a}, larger than it says; it is not unpacked.")
            target.write(block)
