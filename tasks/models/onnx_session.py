"""ONNX files by onnxruntime, on the CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from tasks.common.errors import UserError
from tasks.packages import install_command


def open_session(path: Path, role: str) -> Any:
    """An ``onnxruntime.InferenceSession`` with as many threads as torch.

    Args:
        role: What the file is for, in messages: "segmenter".

    Raises:
        UserError: onnxruntime is not installed, or the file cannot be read.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"The {role} needs the package onnxruntime; install it with: {install_command('onnxruntime')}")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no narrower common class
        raise UserError(f"{path} cannot be read as ONNX ({first_line(error)}); restore the file.") from error


def first_line(error: Exception) -> str:
    """The beginning of an error of onnxruntime, whose messages run over many lines."""
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
