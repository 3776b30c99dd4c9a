"""Concepts in superposition, and the autoencoders that should find them."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn.functional import normalize

from tasks.catalogue import load_task
from tasks.miniature import __main__ as commands
from tasks.miniature.training.cards import CHECKPOINTS, OF_LAYERS
from tasks.miniature.training.latents import CHANNELS, LAYERS, SAES, SaeRecipe, fit, spread
from tasks.miniature.training.train import DIRECTIONS
from tasks.models.dictionaries import read_readout
from tasks.models.planted import PlantedUnits, Superposed, planted_directions
from tasks.models.planted_facts import read_planted
from tasks.models.weights import file_sha256, load_weights
from tasks.profiles.build import RECOVERED, Roles
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import ReadoutFile

FILE = CHECKPOINTS / OF_LAYERS["superposed"]


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def test_the_command_knows_every_autoencoder() -> None:
    assert set(commands.SAES) == set(SAES)
    assert set(OF_LAYERS) == {"superposed", *SAES}


@pytest.mark.parametrize("name", OF_LAYERS)
def test_cards_and_files_agree(name: str) -> None:
    path = CHECKPOINTS / OF_LAYERS[name]
    card = json.loads(path.with_suffix(".card.json").read_text())
    assert card["sha256"] == file_sha256(path)
    if name in SAES:
        readout = read_readout("dictionary", path, LAYERS[SAES[name].network])
        assert (readout.activation, len(readout.encoder)) == (SAES[name].activation, SAES[name].latents)
        assert card["training"]["unexplained variance"] < 0.5


def test_what_is_in_the_repository_stays_small() -> None:
    assert sum((CHECKPOINTS / file).stat().st_size for file in OF_LAYERS.values()) < 10_000_000


def test_the_profile_has_the_files_of_the_tasks() -> None:
    profile = load_profile("miniature")
    for name in ("resnet50_layer4_sae", "vit_tiny_block_sae", "resnet50_superposed"):
        task = load_task(name)
        readout = profile.target(task.model).readout
        assert readout is not None
        assert (task.readout, task.layer) == (readout.kind, readout.layer)
        assert file_sha256(readout.weights) == readout.sha256
        assert len(read_readout(readout.kind, readout.weights, readout.layer).encoder) == task.units.total


def test_activations_are_written_along_their_directions() -> None:
    planted, weights = read_planted(FILE), load_weights(FILE)
    directions = weights.pop("directions")
    units = PlantedUnits(planted, weights)
    features = torch.randn(2, planted.first, 3, 3, generator=torch.Generator().manual_seed(0)).relu()
    with torch.no_grad():
        written, own = Superposed(units, directions)(features), units(features)
    expected = sum(own[:, number, None] * direction[:, None, None] for number, direction in enumerate(directions))
    torch.testing.assert_close(written, expected, rtol=1e-4, atol=1e-4)
    assert len(directions) > CHANNELS == written.shape[1]
    torch.testing.assert_close(load_weights(CHECKPOINTS / DIRECTIONS)["directions"], directions)


def test_a_latent_along_a_planted_direction_has_its_concept_as_truth(roles: Roles) -> None:
    truths = roles.planted("resnet50_superposed_sae")
    directions, planted = planted_directions(FILE), read_planted(FILE)
    decoder = read_readout("dictionary", CHECKPOINTS / OF_LAYERS["sae_resnet50_superposed_topk_0"], "x").decoder
    cosines = normalize(decoder, dim=1) @ normalize(directions, dim=1).T
    assert len({unit.text for unit in truths.values()}) > 20
    for latent, row in enumerate(cosines):
        best = int(row.argmax())
        assert (latent in truths) == (float(row[best]) >= RECOVERED)
        assert latent not in truths or truths[latent] == planted.units[best]
    # No channel is a concept, and every direction is its own.
    assert roles.planted("resnet50_superposed") == {}
    entry = roles.profile.target("resnet50_superposed")
    own = ReadoutFile(kind="directions", layer="layer4.superposed", weights=CHECKPOINTS / DIRECTIONS)
    profile = roles.profile.model_copy(update={"targets": {"x": entry.model_copy(update={"readout": own})}})
    assert Roles(profile, torch.device("cpu")).planted("x") == dict(enumerate(planted.units))


@pytest.mark.parametrize("activation", ["topk", "relu"])
def test_an_autoencoder_finds_more_directions_than_there_are_channels(activation: str) -> None:
    draw = torch.Generator().manual_seed(3)
    directions = spread(normalize(torch.randn(12, 8, generator=draw), dim=1))
    active = (torch.rand(8000, 12, generator=draw) < 0.1) * torch.rand(8000, 12, generator=draw)
    recipe = SaeRecipe("none", activation, 0, latents=16, k=2, penalty=0.1, steps=1500, batch=256, rate=3e-3)
    found = fit(active @ directions, recipe)
    cosines = (normalize(found["decoder"], dim=1) @ directions.T).max(0).values
    assert float((cosines > RECOVERED).float().mean()) > 0.7  # of random directions none
