from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from tasks.catalogue import DEFINITIONS, load_task, profile_path, task_names
from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.common.yamlfile import read_yaml
from tasks.schema import Task


@pytest.fixture
def definition() -> dict:
    return read_yaml(DEFINITIONS / "resnet50_layer4.yaml")


@pytest.mark.parametrize(
    ("name", "model", "layer", "total", "label", "truth"),
    [
        ("resnet50_layer4", "resnet50", "layer4", 2048, 32, "best_concept"),
        ("resnet50_layer3", "resnet50", "layer3", 1024, 32, "best_concept"),
        ("resnet50_fc", "resnet50", "fc", None, "all", "class_names"),
        ("resnet18_layer4", "resnet18", "layer4", 512, 32, "best_concept"),
        ("vit_tiny_block", "vit_tiny", "blocks.2.mlp.act", 512, 32, "best_concept"),
        ("resnet50_planted", "resnet50_planted", "layer4", 2148, "all", "planted"),
    ],
)
def test_shipped_tasks(name, model, layer, total, label, truth):
    task = load_task(name)
    assert (task.model, task.layer, task.truth) == (model, layer, truth)
    assert (task.units.total, task.units.label) == (total, label)
    assert task.severities == (3,)


def test_every_definition_loads_and_is_named_after_its_file():
    assert len(task_names()) >= 4
    for name in task_names():
        assert load_task(name).name == name
        assert 20 <= len((DEFINITIONS / f"{name}.yaml").read_text().splitlines()) <= 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sverities": [1]}, r"unknown field 'sverities'\. Did you mean 'severities'\? Fields: name, version"),
        ({"units": {"totl": 3}}, r"unknown field 'units\.totl'\. Did you mean 'total'\?"),
        ({"pooling": "men"}, r"'pooling' cannot be 'men'\. Did you mean 'mean'\? Allowed: 'mean', 'max', 'cls'"),
        ({"library": "keras"}, r"'library' cannot be 'keras'.*'torchvision', 'timm', 'factory'"),
        ({"truth": "labels"}, r"'truth' cannot be 'labels'.*'class_names'"),
        ({"suites": ["gaussian_blr"]}, r"'suites': Unknown suite 'gaussian_blr'. Did you mean gaussian_blur"),
        ({"suites": []}, "'suites'"),
        ({"suites": ["imagenet_c", "imagenet_c"]}, "given twice"),
        ({"severities": [0]}, r"'severities\.0' cannot be 0"),
        ({"severities": [6]}, r"'severities\.0' cannot be 6"),
        ({"severities": [True]}, r"'severities\.0'"),
        ({"severities": [3, 3]}, "given twice: 3, 3"),
        ({"images": 1}, "'images' cannot be 1"),
        ({"version": "1"}, "'version' cannot be '1'"),
        ({"units": {"total": 8, "label": 9}}, "the layer has 8 units"),
        ({"units": {"total": 8, "first": 8, "label": "all"}}, "units.first is 8, but the layer has units 0 to 7"),
        ({"units": {"total": 8, "first": 6, "label": 3}}, "units.label is 3, but the layer has 2 units from unit 6 on"),
        ({"units": {"first": -1}}, r"'units\.first' cannot be -1"),
        ({"units": {"label": "some"}}, r"'units\.label'.*or 'all', not 'some'"),
        ({"layer": "x;import os"}, "'layer' cannot be 'x;import os'"),
        ({"layer": "layer4."}, "'layer'"),
        ({"name": "../x"}, "'name'"),
    ],
)
def test_mistakes_are_sentences_with_field_and_allowed_values(definition, change, message):
    with pytest.raises(UserError, match=f"^In mine.yaml: .*{message}"):
        parse(Task, {**definition, **change}, "mine.yaml")


@pytest.mark.parametrize(
    "field", ["name", "model", "layer", "pooling", "probing_set", "suites", "licences", "citation"]
)
def test_required_fields(definition, field):
    del definition[field]
    with pytest.raises(UserError, match=f"field '{field}' is missing"):
        parse(Task, definition, "mine.yaml")


def test_every_mistake_is_listed(definition):
    with pytest.raises(UserError, match=r"'pooling'.*'images'"):
        parse(Task, {**definition, "pooling": "men", "images": 0}, "mine.yaml")


def test_a_task_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_task("resnet50_layer4").layer = "layer3"


def test_unknown_task_has_a_suggestion():
    with pytest.raises(UserError, match=r"Unknown task 'resnet50-layer4'\. Did you mean .*resnet50_layer4"):
        load_task("resnet50-layer4")


def test_unknown_profile_and_missing_files():
    with pytest.raises(UserError, match="Unknown profile 'nowhere'"):
        profile_path("nowhere")
    with pytest.raises(UserError, match="no profile file"):
        profile_path("missing/profile.yaml")
    with pytest.raises(UserError, match=r"There is no file missing/task\.yaml"):
        load_task("missing/task.yaml")


def test_a_task_of_the_users(tmp_path, definition):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**definition, "name": "mine", "layer": "features.7.conv"}))
    assert load_task(str(path)).layer == "features.7.conv"


def test_a_task_of_the_users_cannot_take_a_shipped_name(tmp_path, definition):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(definition))
    with pytest.raises(UserError, match="belongs to a task of CLEAR's own"):
        load_task(str(path))
    assert load_task(str(DEFINITIONS / "resnet50_layer4.yaml")).name == "resnet50_layer4"


BOMB = "a: &a [x]\n" + "".join(f"{new}: &{new} [{f'*{old}, ' * 9}]\n" for old, new in pairwise("abcdefghi")) + "k: *i\n"


def test_a_whole_number_of_thousands_of_digits_is_named_and_not_printed(tmp_path, definition):
    path = tmp_path / "mine.yaml"
    text = yaml.safe_dump({key: value for key, value in definition.items() if key != "layer"})
    path.write_text(f"{text}\nlayer: 0x{'f' * 5000}\n")
    with pytest.raises(UserError, match="cannot be a number that long"):
        load_task(str(path))


@pytest.mark.parametrize("place", ["fifo", "/dev/zero", "folder"])
def test_what_is_no_file_is_not_read(tmp_path, place):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"is no ordinary file|Is a directory"):
        read_yaml(tmp_path / place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", r"key 'name' is given twice \(line 2\)"),
        ("units:\n  total: 1\n  total: 2\n", r"key 'total' is given twice \(line 3\)"),
        ("base: &base {a: 1}\nname:\n  <<: *base\n", r"merge keys \('<<'\) are not read; .* \(line 3\)"),
        ("<<: {name: a}\n", "merge keys"),
        ("name: [a\n", "not valid YAML"),
        ("- a\n- b\n", "holds list"),
        ("", "holds NoneType"),
        ("a: !!python/object/apply:os.system ['touch pwned']\n", "could not determine a constructor"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
        ("seed: " + "1" * 5000 + "\n", "not valid YAML: Exceeds the limit"),
        ("day: 2024-99-99\n", "not valid YAML: month must be"),
        ("name: &n [*n]\n", r"shared by \*name"),
        (BOMB, r"shared by \*name make it larger"),
        ("a: &a " + "x" * 9999 + "\nb: [" + "*a, " * 999 + "]\n", r"shared by \*name make it larger"),
        (BOMB.replace("k: *i", "? *i\n: 1"), "not valid YAML"),
    ],
)
def test_yaml_mistakes_are_sentences(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()


def test_a_value_may_be_shared_by_an_anchor(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("first: &shared {a: 1}\nsecond: *shared\n'<<': quoted, so a name like any other\n")
    assert read_yaml(path) == {"first": {"a": 1}, "second": {"a": 1}, "<<": "quoted, so a name like any other"}


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a UTF-8 text file"):
        read_yaml(path)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    path.write_bytes(b"a: " + b"x" * 1_100_000)
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_yaml(path)


def test_the_catalogue_imports_no_torch():
    code = (
        "import sys, tasks.catalogue as c; [c.load_task(n) for n in c.task_names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
