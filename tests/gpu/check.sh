#!/usr/bin/env bash
# Does CLEAR keep its promises on this GPU, and how fast is it? About ten minutes:
#
#   tests/gpu/check.sh [--out FOLDER] [--dry]
#
# Writes check.json and check.md to FOLDER (gpu-check/), prints the table, and exits with 1 if a bar is missed.
# --dry goes through everything on the CPU at a tiny size and judges no bar. PYTHON=... chooses another interpreter
# than .venv/bin/python.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
if ! command -v "$python" > /dev/null; then
  echo "There is no $python: run 'make test' once, or give PYTHON=..., an interpreter with CLEAR installed." >&2
  exit 1
fi
# This checkout, not another one that is installed.
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$root/tests/gpu/gpu_check.py" "$@"
