"""``python -m benchmark``."""

from __future__ import annotations

from benchmark.cli import main

if __name__ == "__main__":
    main()
