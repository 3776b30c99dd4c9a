"""Train one model of the miniature and put its checkpoint and model card in place."""

from __future__ import annotations

from pathlib import Path

from tasks.miniature.training import captioner, clip, latents, planted, segmenter, target
from tasks.miniature.training.cards import CHECKPOINTS, FILES, OF_LAYERS, write_card
from tasks.models.weights import save_weights

DIRECTIONS = "superposed_directions.safetensors"
"""The directions of ``superposed`` alone, for ``--directions``."""


def train(name: str, cache: Path) -> None:
    """Train a model.

    Args:
        name: A key of ``cards.FILES`` or ``cards.OF_LAYERS``.
        cache: Folder of the rendered training data.
    """
    if name == "clip":
        facts, seed = clip.train_clip(CHECKPOINTS / "clip", cache), clip.RECIPE.seed
    elif name == "captioner":
        facts, seed = captioner.train_captioner(CHECKPOINTS / "captioner", cache), captioner.RECIPES[0].seed
    elif name == "segmenter":
        model, facts = segmenter.train_segmenter(cache)
        save_weights(CHECKPOINTS / FILES[name], model.state_dict(), int8=False)
        seed = segmenter.RECIPES[0].seed
    elif name == "planted":
        facts, seed = planted.train_planted(CHECKPOINTS / FILES[name], cache), planted.SEED
    elif name == "superposed":
        facts, seed = latents.plant_superposed(CHECKPOINTS / OF_LAYERS[name], CHECKPOINTS / DIRECTIONS), 0
    elif name in latents.SAES:
        facts, seed = latents.train_sae(name, CHECKPOINTS / OF_LAYERS[name], cache), latents.SAES[name].seed
    else:
        model, facts = target.train_target(name, cache)
        # The transformer is small as it is, and its position embedding has no channels for int8 scales.
        save_weights(CHECKPOINTS / FILES[name], model.state_dict(), int8=name != "vit_tiny")
        seed = target.RECIPES[name][0].seed
    write_card(name, facts, seed)
