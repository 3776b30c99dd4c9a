"""ConSE against its formula, computed here by hand, and as the image-text role of a profile."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional

from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.models.conse import ConseEncoder
from tasks.models.preprocessing import Preprocessing
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile, load_profile
from tasks.profiles.sources import ConseSource, Target
from tasks.roles import ImageTextEncoder

NAMES = ("puma, cougar", "tench", "fire engine, fire truck", "daisy", "crane")
HALF = (0.5, 0.5, 0.5)
CPU = torch.device("cpu")


class Sentences:
    """A made-up sentence encoder: another unit vector for every text."""

    def encode(self, texts):
        drawn = [np.random.default_rng(list(text.encode())).normal(size=6) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in drawn], np.float32).reshape(len(texts), 6)

    def over_limit(self, texts):
        return np.array([len(text) > 20 for text in texts], dtype=bool)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return timm.create_model("test_efficientnet", num_classes=5).eval()


@pytest.fixture
def images():
    return torch.randint(0, 256, (4, 3, 70, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(network, top=10):
    return ConseEncoder(network, Preprocessing(64, 64, HALF, HALF), Sentences(), NAMES, CPU, top)


def by_hand(network, images, top):
    """Equation 3 of Norouzi et al., one image and one class after another."""
    logits = network(Preprocessing(64, 64, HALF, HALF)(images)).double()
    rows = []
    for probability in torch.softmax(logits, dim=1).detach().numpy():
        mixed, whole = np.zeros(6), 0.0
        for number in np.argsort(-probability)[:top]:
            names = Sentences().encode([name.strip() for name in NAMES[number].split(",")]).mean(axis=0)
            mixed += probability[number] * names / np.linalg.norm(names)
            whole += probability[number]
        rows.append(mixed / whole / np.linalg.norm(mixed / whole))
    return np.array(rows)


@pytest.mark.parametrize("top", [1, 3, 10])
def test_images_are_where_the_formula_puts_them(network, images, top):
    found = encoder(network, top).encode_images(images)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), by_hand(network, images, top), atol=1e-5)


def test_it_fills_the_role_with_unit_norms(network, images):
    conse = encoder(network)
    assert isinstance(conse, ImageTextEncoder)
    assert torch.allclose(conse.encode_images(images).norm(dim=1), torch.ones(4), atol=1e-6)
    assert np.array_equal(conse.encode_text(["a", "daisy"]).numpy(), Sentences().encode(["a", "daisy"]))
    assert conse.over_limit(["daisy", "daisy " * 9]).tolist() == [False, True]
    assert conse.encode_images(images[:0]).shape == (0, 6)


def test_an_image_that_is_surely_of_a_class_lies_on_its_name(images):
    class Sure(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 0.0, 0.0, 50.0, 0.0]]).expand(len(x), -1)

    conse = ConseEncoder(Sure(), Preprocessing(32, 32, HALF, HALF), Sentences(), NAMES, CPU)
    similarity = functional.cosine_similarity(conse.encode_images(images), conse.encode_text(["daisy"]))
    assert torch.allclose(similarity, torch.ones(4), atol=1e-6)


def test_other_numbers_of_classes_and_names_are_refused(network, images):
    conse = ConseEncoder(network, Preprocessing(64, 64, HALF, HALF), Sentences(), NAMES[:3], CPU)
    with pytest.raises(UserError, match="has 5 outputs, but 3 classes are named"):
        conse.encode_images(images)


@pytest.fixture
def profile(network, tmp_path) -> Profile:
    """The miniature's, with a ConSE from a file whose tensors have other names."""
    path = tmp_path / "other.pth"
    torch.save({f"net.{number}": tensor for number, tensor in enumerate(network.state_dict().values())}, path)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    target = Target(
        loader="timm",
        architecture="test_efficientnet",
        classes=5,
        weights=path,
        match="order",
        sha256=file_sha256(path),
        licence="MIT",
    )
    source = ConseSource(loader="conse", classifier=target, class_names=tmp_path / "classes.txt", top=3, licence="MIT")
    return load_profile("miniature").model_copy(update={"clip": source})


def test_a_profile_builds_and_caches_it(profile, images, tmp_path):
    plain = Roles(profile, CPU).clip
    expected = plain.encode_images(images)
    for _ in range(2):
        cached = Roles(profile, CPU, cache=Cache(tmp_path / "cache")).clip
        assert torch.equal(cached.encode_images(images), expected)
        assert torch.equal(cached.encode_text(["puma"]), plain.encode_text(["puma"]))
    assert expected.shape == (4, 384)


def test_what_it_is_made_of_decides_on_its_identity(profile, tmp_path):
    def identity(**changed):
        clip = profile.clip.model_copy(update=changed)
        roles = Roles(profile.model_copy(update={"clip": clip}), CPU, cache=Cache(tmp_path / "cache"))
        return roles.clip.identity

    base = identity()
    assert identity(top=4) != base
    assert identity(licence="other") == base
    moved = tmp_path / "moved.pth"
    moved.write_bytes(profile.clip.classifier.weights.read_bytes())
    assert identity(classifier=profile.clip.classifier.model_copy(update={"weights": moved})) == base
    profile.clip.class_names.write_text("\n".join(reversed(NAMES)) + "\n")
    assert identity() != base


def test_it_needs_a_sentence_encoder(profile):
    with pytest.raises(ValueError, match="sentence_encoder: name one"):
        Profile.model_validate({**profile.model_dump(), "sentence_encoder": None})


def test_class_names_that_are_none_are_refused(profile):
    profile.clip.class_names.write_text("puma\n\ntench\n")
    with pytest.raises(UserError, match="line without a name"):
        Roles(profile, CPU).clip.encode_text(["puma"])
