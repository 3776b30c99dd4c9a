from __future__ import annotations

from pathlib import Path

import pytest

from baselines import registry
from benchmark.commands.arguments import settings_from
from benchmark.core.options import IDENTITY, LATER, PLACES, RUNTIME, Kind, RunOptions
from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.perturbations.settings import Settings

TASK = ("resnet50_layer4",)

CHANGES = {
    "tasks": ("resnet50_fc",),
    "methods": ("dnd",),
    "method_options": {"clip_dissect": {"similarity": "wpmi"}},
    "suites": ("gaussian_blur",),
    "severities": (1,),
    "units": 3,
    "unit_ids": (3,),
    "repeats": 3,
    "images": 9,
    "image_folder": Path("photos"),
    "concepts": Path("words.txt"),
    "model": "timm:test_vit",
    "weights": Path("my.safetensors"),
    "strip_prefix": "module.",
    "layer": "layer2",
    "pooling": "max",
    "dictionary": Path("sae.safetensors"),
    "directions": Path("probes.safetensors"),
    "profile": "paper",
    "seed": 1,
    "masks": "segmenter",
    "corruptions": "reference",
    "lengths": "raw",
    "feather": 2.0,
    "faithfulness": "none",
    "thumbnails": 0,
    "device": "cuda:1",
    "out": Path("elsewhere"),
    "as_json": True,
    "details": True,
    "batch_size": 3,
    "analyses": ("exchange", "networks", "probing_attack"),
    "exchange": Path("others"),
    "against": "resnet18",
    "attack_masks": True,
    "cache": "none",
    "track": "trackio",
    "cell_timeout": 2.5,
    "budget_usd": 5.0,
    "budget_seconds": 7200.0,
    "executor": "ray",
    "ray_address": "auto",
    "workers": 2,
    "gpus_per_worker": 0.5,
    "cpus_per_worker": 2,
    "mixed_devices": True,
    "lost_after": 5.0,
}
"""Another value for every option."""

NEEDS = {
    "weights": ("model",),
    "strip_prefix": ("model", "weights"),
    "exchange": ("analyses",),
    "against": ("analyses",),
    "attack_masks": ("analyses",),
}
"""Options that are given only together with others."""


def changed(field: str) -> RunOptions:
    """Options with one of them changed, and what it needs."""
    return RunOptions(**{"tasks": TASK, **{name: CHANGES[name] for name in (*NEEDS.get(field, ()), field)}})


def test_every_field_is_either_identity_or_runtime_or_a_place():
    kinds = {name: [m for m in f.metadata if isinstance(m, Kind)] for name, f in RunOptions.model_fields.items()}
    assert {name: len(found) for name, found in kinds.items() if len(found) != 1} == {}, (
        "benchmark/core/options.py: each option is Identity if another value may change a result, Place if what lies "
        "there may, else Runtime"
    )
    assert set(CHANGES) == set(RunOptions.model_fields)


def test_the_kinds_are_as_they_were():
    """Another kind would make older runs others, or take results of one setting for those of another."""
    assert {"model", "strip_prefix", "layer", "pooling"} == LATER
    assert {"weights", "image_folder", "concepts", "dictionary", "directions"} == PLACES
    sampled = {"tasks", "methods", "method_options", "suites", "severities", "units", "unit_ids", "repeats", "images"}
    perturbed = {"masks", "corruptions", "lengths", "feather"}
    assert LATER | sampled | perturbed | {"profile", "seed"} == IDENTITY
    assert set(RunOptions.model_fields) - IDENTITY - PLACES == RUNTIME
    beside = {"faithfulness", "thumbnails", "analyses", "exchange", "against", "attack_masks"}
    limits = {"cell_timeout", "budget_usd", "budget_seconds"}
    workers = {
        "executor",
        "ray_address",
        "workers",
        "gpus_per_worker",
        "cpus_per_worker",
        "mixed_devices",
        "lost_after",
    }
    others = {"device", "out", "as_json", "details", "batch_size", "cache", "track"}
    assert beside | limits | workers | others == RUNTIME


def test_every_field_is_an_option_with_help_or_read_from_another():
    helps = {name: field.description for name, field in RunOptions.model_fields.items()}
    assert {name for name, text in helps.items() if text is None} == {"image_folder", "budget_seconds"}
    assert {
        name: text for name, text in helps.items() if text is not None and not text.strip().endswith((".", "]"))
    } == {}


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_the_hash_follows_identity_and_nothing_else(field):
    usual = RunOptions(**{"tasks": TASK, **{name: CHANGES[name] for name in NEEDS.get(field, ())}})
    other = changed(field)
    assert (usual.identity_hash() != other.identity_hash()) is (field in IDENTITY)


def test_order_and_doubles_do_not_change_the_identity():
    first = RunOptions(tasks=("a", "b"), methods=("dnd", "clip_dissect"), severities=(1, 3, 1), unit_ids=(5, 2))
    second = RunOptions(tasks=("b", "a", "b"), methods=("clip_dissect", "dnd"), severities=(3, 1), unit_ids=(2, 5))
    assert first.identity_hash() == second.identity_hash()
    assert first.folder() == second.folder()
    assert first.severities == (1, 3)


def test_options_that_came_later_leave_the_identity_of_older_runs_alone():
    assert not {"model", "layer", "pooling", "strip_prefix"} & set(RunOptions(tasks=TASK).identity())
    assert changed("layer").identity()["layer"] == "layer2"


@pytest.mark.parametrize(("former", "today"), [("fixed", "repaired"), ("code", "package")])
def test_former_names_of_the_corruptions_are_the_same_run(former, today):
    options = parse(RunOptions, {"tasks": TASK, "corruptions": former}, "the command line")
    assert options.identity()["corruptions"] == options.perturbing().corruptions == today


def test_naming_the_default_methods_is_the_same_run():
    assert (
        RunOptions(tasks=TASK, methods=registry.default_names()).identity_hash()
        == RunOptions(tasks=TASK).identity_hash()
    )
    assert RunOptions(tasks=TASK).method_names() == registry.default_names()


def test_folders_follow_from_the_options():
    assert RunOptions(tasks=TASK).folder() == Path("runs/resnet50_layer4")
    assert RunOptions(tasks=("b", "a")).folder() == Path("runs/a+b")
    assert RunOptions(tasks=TASK, out=Path("x"), seed=3).folder() == Path("x")
    runtime = {field: CHANGES[field] for field in RUNTIME - {"out"}}
    assert RunOptions(tasks=TASK, **runtime).folder() == Path("runs/resnet50_layer4")


def test_other_settings_never_share_a_folder():
    folders = [changed(field).folder() for field in sorted(IDENTITY | PLACES)]
    folders += [RunOptions(tasks=(f"{folder}/resnet50_layer4.yaml",)).folder() for folder in ("a", "b")]
    assert len(set(folders)) == len(folders)
    assert all(folder.parent == Path("runs") for folder in folders)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severities": (6,)}, r"'severities\.0' cannot be 6"),
        ({"units": 3, "unit_ids": (1,)}, "--units and --unit-ids cannot be given together"),
        ({"units": "some"}, "'units"),
        ({"repeats": 0}, "'repeats' cannot be 0"),
        ({"images": 1}, "'images' cannot be 1"),
        ({"weights": "my.pt"}, "--weights needs --model"),
        ({"model": "timm:test_vit", "strip_prefix": "module."}, "--strip-prefix needs --weights"),
        ({"pooling": "median"}, "'pooling' cannot be 'median'"),
        ({"seed": -1}, "'seed' cannot be -1"),
        ({"device": "gpu"}, "must be auto, cpu, mps, cuda or cuda:NUMBER, not 'gpu'"),
        ({"corruptions": "publishd"}, "Did you mean 'published'"),
        ({"masks": "segmentr"}, "Did you mean 'segmenter'"),
        ({"ray_address": "ray://head:10001"}, "auto or HOST:PORT, not 'ray://head:10001': Ray Client is not supported"),
        ({"workers": 0}, "'workers' cannot be 0"),
        ({"tasks": ()}, "'tasks'"),
        ({"methods": ()}, "'methods'"),
        ({"sed": 1}, "unknown field 'sed'. Did you mean 'seed'"),
    ],
)
def test_values_out_of_range_are_sentences(change, message):
    with pytest.raises(UserError, match=message):
        parse(RunOptions, {"tasks": TASK} | change, "the command line")


def test_settings_alone_follow_the_rules_of_a_run():
    assert settings_from("fixed", "raw", 2) == Settings("repaired", "raw", 2.0)
    for values, said in (
        (("publishd", "scaled", 0.0), "field 'corruptions' cannot be 'publishd'. Did you mean 'published'?"),
        (("published", "raw", -1.0), "field 'feather' cannot be -1.0"),
        (("published", "raw", float("nan")), "field 'feather' cannot be nan"),
    ):
        with pytest.raises(UserError) as own:
            settings_from(*values)
        assert said in str(own.value)
        named = dict(zip(("corruptions", "lengths", "feather"), values, strict=True))
        with pytest.raises(UserError) as whole:
            parse(RunOptions, {"tasks": TASK, **named}, "the command line")
        assert str(own.value) == str(whole.value)
