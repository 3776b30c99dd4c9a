from __future__ import annotations

import base64
import re
import tempfile
from pathlib import Path

import pytest
from figure_boards import write_run

nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).parents[2] / "report" / "figures.ipynb"
TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.ipynb"))
"""The build of the site executes these (docs/conf.py)."""


@pytest.mark.parametrize("file", [NOTEBOOK, *TUTORIALS], ids=lambda file: file.stem)
def test_a_notebook_is_committed_without_outputs(file):
    notebook = nbformat.read(file, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert all(re.fullmatch(r"[a-z-]+", cell.id) for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            assert cell.source


@pytest.mark.slow
def test_the_notebook_runs_and_shows_every_figure(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    write_run(tmp_path / "runs" / "toy")
    monkeypatch.setenv("CLEAR_RUNS", str(tmp_path / "runs"))
    # A short path, for the names of Unix sockets must be; TCP sockets are blocked in tests.
    with tempfile.TemporaryDirectory() as folder:
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
            monkeypatch.setenv(name, folder)
        kernel = manager.AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel")
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        client = nbclient.NotebookClient(notebook, km=kernel, timeout=240, resources={"metadata": {"path": folder}})
        client.execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    images = {
        name: base64.b64decode(output.data["image/png"])
        for name, shown in outputs.items()
        for output in shown
        if output.output_type == "execute_result" and "image/png" in output.data
    }
    assert set(images) == {"curves", "ranks", "map", "scatter", "gallery", "own"}
    assert all(image.startswith(b"\x89PNG") for image in images.values())
    assert "clip_dissect" in outputs["table"][0].data["text/html"]
    assert outputs["ranks"][0].text.startswith("Average ranks by stability")
