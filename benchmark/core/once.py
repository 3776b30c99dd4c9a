"""What is the same for a whole run is made once, by the first process or session that needs it, cached or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from leaderboard.store.run_folder import RunFolder
from tasks.cache import Cache
from tasks.cache.keys import array_sha256
from tasks.roles import Segmenter


def once(folder: RunFolder, what: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors that belong to the run: read from its folder, or made and kept there while other processes wait.

    Args:
        folder: The run folder, open for writing.
        what: Their name, unique in the run.
    """
    with folder.claim(f"once {what}", wait=True):
        return Cache(folder.path / "once").blob({"what": what}, make)


@dataclass(frozen=True)
class RunSegmenter:
    """A segmenter whose masks of the run's images are made once; see ``tasks.roles.Segmenter``.

    A mask may depend on its batch in rare pixels, so whole batches are kept.
    """

    segmenter: Callable[[], Segmenter]
    folder: RunFolder

    def foreground(self, images: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
        """The masks of these images; the segmenter is loaded only if they are not kept."""

        def make() -> dict[str, Tensor]:
            masks = self.segmenter().foreground(images).cpu().numpy()
            return {"bits": torch.from_numpy(np.packbits(masks)), "shape": torch.tensor(masks.shape)}

        kept = once(self.folder, f"masks of {array_sha256(images.cpu().contiguous().numpy()).hex()}", make)
        shape = tuple(kept["shape"].tolist())
        bits = np.unpackbits(kept["bits"].numpy(), count=int(np.prod(shape)))
        return torch.from_numpy(bits.reshape(shape).view(np.bool_))
