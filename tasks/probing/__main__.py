"""``python -m tasks.probing broden``: download Broden with its annotation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from tasks.common.errors import UserError
from tasks.probing.download import Archive, fetch
from tasks.probing.schema import BrodenSize
from tasks.probing.unpack import unpack

# The first is the publishers' own host, known to be down at times; the second is a copy at the same institute.
_HOSTS = (
    "http://netdissect.csail.mit.edu/data/{name}",
    "http://data.csail.mit.edu/soundnet/actions3/{name}",
    "https://web.archive.org/web/20240418040425id_/http://netdissect.csail.mit.edu/data/{name}",
)
# The publishers state no checksum. This one is from the set-up script of a public project that used the file.
_MD5 = {224: "be13c292eaef3300da03f8d0e48eab1c"}


def broden_archive(size: int) -> Archive:
    """The download sources of Broden in one of its sizes."""
    name = f"broden1_{size}.zip"
    return Archive(
        name=name,
        sources=tuple(host.format(name=name) for host in _HOSTS),
        manual=f"With a copy of {name}, put it there, or unpack it and set the probing set's 'path' to its folder.",
        md5=_MD5.get(size),
    )


def main(arguments: list[str] | None = None) -> int:
    """Download and unpack.

    Returns:
        The exit code: 0 on success, 1 if the download failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tasks.probing", description=__doc__)
    parser.add_argument("set", choices=("broden",))
    parser.add_argument("--out", type=Path, required=True, help="the folder to put it in")
    parser.add_argument("--size", type=int, choices=get_args(BrodenSize), default=224, help="pixels per side")
    parser.add_argument("--offline", action="store_true", help="open no connection; unpack the existing archive")
    options = parser.parse_args(arguments)
    folder = options.out / f"broden1_{options.size}"
    try:
        if not folder.exists():
            archive = broden_archive(options.size)
            file = fetch(archive, options.out, offline=options.offline, say=lambda text: print(text, file=sys.stderr))
            unpack(file, folder.name, options.out)
        print(f"{folder} is ready; set the probing set's 'path' to it.")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
