"""Scores of labels that were made elsewhere: by hand-sized encoders, and once through the command line for real."""

from __future__ import annotations

import hashlib
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.metrics.pairwise import cosine_similarity
from transformers import BertConfig, BertModel, BertTokenizerFast
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.core.scoring import LabelEmbeddings
from benchmark.external import score as module
from benchmark.external.agreement import agreement, cross_chance
from benchmark.external.files import gather
from benchmark.external.reference_scores import most_frequent
from benchmark.external.references import class_references, profile_references, read_references
from benchmark.external.score import ScoredLabels, score_labels, write_scored_labels
from leaderboard.store.frames import read_parquet, to_pandas
from leaderboard.store.schema import LABELS, SCORES, SUMMARY
from leaderboard.view.terminal import terminal_tables
from metrics.bertscore import BertScorer
from metrics.stability import chance, clip_similarity, noise_floor, stability
from report.agreement import scored_label_tables
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.vocabulary import CONCEPTS, SYNONYMS
from tasks.models.planted_facts import PlantedUnit
from tasks.probing.imagenet_classes import imagenet_names
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import Target

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(texts: list[str], power: float) -> np.ndarray:
    """An embedding that is easy to compute again: how often each letter occurs."""
    return np.array([[1.0 + text.lower().count(letter) ** power for letter in LETTERS] for text in texts])


class Clip:
    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.from_numpy(letters(texts, 1.0))

    def over_limit(self, texts: list[str]) -> np.ndarray:
        return np.array([len(text) > 60 for text in texts])


class Sentences(Clip):
    def encode(self, texts: list[str]) -> np.ndarray:
        return letters(texts, 2.0)


class SmallRoles:
    """A profile whose classes are red, blue and fish."""

    def __init__(self, profile: object, device: object) -> None:
        entry = Target.model_construct(loader="timm", classes=3)
        self.profile = types.SimpleNamespace(name="small", target=lambda name: entry)
        self.clip, self.sentence_encoder = Clip(), Sentences()

    def class_names(self, outputs: int | None) -> tuple[str, ...] | None:
        return ("red", "blue", "fish") if outputs == 3 else None

    def synonyms(self) -> dict[str, tuple[str, ...]]:
        return {"red": ("crimson",)}

    def rivals(self, concept: str) -> tuple[str, ...]:
        return {"red": ("blue",), "blue": ("red",)}.get(concept, ())

    def planted(self, name: str) -> dict[int, PlantedUnit]:
        measured = dict.fromkeys(("share", "auroc", "strict_auroc", "iou", "cell_iou"), 0.5)
        return {
            2048: PlantedUnit(op="and", concepts=("red", "fish"), **measured),
            2049: PlantedUnit(op="single", concepts=("red",), **measured),
        }


@pytest.fixture
def miniature() -> None:
    """For tests that want the real encoders."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "miniature" not in request.fixturenames:
        monkeypatch.setattr(module, "Roles", SmallRoles)


def csv_file(path: Path, **columns: list[object]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def scored(task: str, *paths: Path, **options: object) -> ScoredLabels:
    loaded = load_task(task)
    return score_labels(loaded, gather(loaded, paths, "auto"), "miniature", device="cpu", **options)  # type: ignore[arg-type]


def embeddings(*texts: str) -> LabelEmbeddings:
    return LabelEmbeddings(SmallRoles(None, None), texts)  # type: ignore[arg-type]


CLEAN = ["red fish", "blue cup", "green leaf", "old house"]
AGAIN = ["red fish", "blue cups", "green leaves", "old home"]
FOG = ["red fish", "grey cup", "", "white fog"]


def perturbed_file(path: Path) -> Path:
    rows = [("clean", 0, 0, CLEAN), ("clean", 0, 1, AGAIN), ("fog", 3, 0, FOG)]
    flat = [
        (name, severity, repeat, unit, text) for name, severity, repeat, said in rows for unit, text in enumerate(said)
    ]
    names = ("perturbation", "severity", "repeat", "unit", "label")
    return csv_file(path, **{name: list(column) for name, column in zip(names, zip(*flat, strict=True), strict=True)})


def test_stability_is_that_of_a_run(tmp_path: Path) -> None:
    result = scored("resnet50_layer4", perturbed_file(tmp_path / "mine.csv"))
    rows = result.scores[result.scores["perturbation"] == "fog"].set_index("unit")
    clean, fog = letters(CLEAN, 1.0), letters([text or "x" for text in FOG], 1.0)
    fog[2] = np.nan
    similarity, luck = clip_similarity(fog, clean), chance(clean)
    np.testing.assert_allclose(rows["clip_similarity"], similarity)
    np.testing.assert_allclose(rows["stability"], stability(similarity, luck))
    np.testing.assert_allclose(rows["noise_floor"], noise_floor(letters(AGAIN, 1.0)[None], clean))
    np.testing.assert_allclose(
        rows["sentence_similarity"].to_numpy()[[0, 1, 3]],
        np.diag(cosine_similarity(letters(CLEAN, 2.0), letters([text or "x" for text in FOG], 2.0)))[[0, 1, 3]],
    )
    assert rows["missing"].tolist() == [False, False, True, False]
    assert rows["exact"].tolist()[:2] == [True, False]
    assert rows["stability"].isna().tolist() == [False, False, True, False]
    assert result.perturbed
    summary = result.summary[(result.summary["perturbation"] == "fog") & (result.summary["severity"] == "3")].iloc[0]
    assert (summary["units"], summary["missing"]) == (3, 1)
    assert summary["stability"] == pytest.approx(np.nanmean(stability(similarity, luck)))


def test_what_takes_images_is_absent_and_said_to_be(tmp_path: Path) -> None:
    result = scored("resnet50_layer4", perturbed_file(tmp_path / "mine.csv"))
    assert (
        result.scores[["evidence_overlap", "rank_biased_overlap", "activation_correlation", "truth"]]
        .isna()
        .all(axis=None)
    )
    told = result.facts["not_scored"]
    assert len(told) == 3
    assert told[0].startswith("Accuracy is not scored: what these units respond to is found by a pass over")
    assert any("Agreement" in sentence for sentence in told)
    assert not any("Stability" in sentence for sentence in told)


def test_class_names_of_the_profile(tmp_path: Path) -> None:
    labels = ["a crimson thing", "blue and red", ""]
    result = scored("resnet50_fc", csv_file(tmp_path / "x.csv", unit=[0, 1, 2], label=labels))
    assert result.scores["truth"].tolist() == ["red", "blue", "fish"]
    assert [None if pd.isna(verdict) else verdict for verdict in result.scores["right"]] == [True, False, None]
    own = result.naming.iloc[0]
    assert (own["units"], own["missing"]) == (3, 1)
    assert own["concept"] == pytest.approx(1 / 3)  # a missing label is wrong
    expected = np.diag(cosine_similarity(letters(labels[:2], 1.0), letters(["red, crimson", "blue"], 1.0)))
    assert own["clip"] == pytest.approx(expected.mean())  # but has no cosine
    assert result.summary.iloc[0]["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "profile"),
    [("resnet50_fc", "miniature"), ("resnet50_fc", "open"), ("efficientnet_lite0_classes", "photo")],
)
def test_the_classes_of_a_published_network_are_known_without_it(name: str, profile: str) -> None:
    roles = Roles(load_profile(profile), torch.device("cpu"))
    known = profile_references(load_task(name), roles)
    assert known is not None
    texts = [reference.text for reference in known.of_unit.values()]
    if profile == "miniature":
        assert texts == [", ".join((name, *SYNONYMS.get(name, ()))) for name in CONCEPTS]
        return
    assert texts == list(imagenet_names())
    shark = known.of_unit[texts.index(next(text for text in texts if text.startswith("great white shark, ")))]
    assert shark.truth == "great white shark"
    assert shark.exact("White shark")
    assert shark.matches("a white shark under water")


def test_planted_units_take_both_concepts_of_an_and(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "x.csv", unit=[0, 2048, 2049], label=["dog", "red boat", "crimson"])
    result = scored("resnet50_planted", path)
    assert result.scores["truth"].tolist()[1:] == ["red and fish", "red"]
    assert result.scores["right"].tolist()[1:] == [False, True]
    assert pd.isna(result.scores["right"].iloc[0])
    assert result.naming.iloc[0]["units"] == 2


def test_trap_18_constant_labels_stand_beside_every_method(tmp_path: Path) -> None:
    first = csv_file(tmp_path / "a.csv", unit=[0, 1, 2], label=["fish", "red", "fish"])
    second = csv_file(tmp_path / "b.csv", unit=[0, 1, 2], label=["red", "blue", "fish"])
    naming = scored("resnet50_fc", first, second).naming
    assert naming["method"].tolist() == ["a"] * 3 + ["b"] * 3
    assert naming["text"].dropna().tolist() == ["fish", "depiction", "red", "depiction"]
    assert naming["exact"].tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1, 1 / 3, 0])
    assert naming["units"].tolist() == [3] * 6
    constant = cosine_similarity(letters(["depiction"], 1.0), letters(["red, crimson", "blue", "fish"], 1.0)).mean()
    assert naming["clip"].iloc[[2, 5]].tolist() == pytest.approx([constant] * 2)


def test_the_most_frequent_label_of_several_is_that_of_the_lowest_unit() -> None:
    assert most_frequent({5: "b", 1: "a", 2: "b", 3: "a"}) == "a"


def test_trap_17_a_string_where_the_list_of_references_belongs() -> None:
    with pytest.raises(ValueError, match="must be a list of lines, not one string"):
        class_references("tench", "here", "0")


def test_references_with_all_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("tench, Tinca tinca\r\ncrane\r\ncafé, coffee shop".encode("latin-1"))
    known = read_references(path)
    assert known.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [reference.text for reference in known.of_unit.values()] == [
        "tench, Tinca tinca",
        "crane",
        "café, coffee shop",
    ]
    tench = known.of_unit[0]
    assert all(map(tench.exact, ("Tench", "tinca-tinca", "tench, tinca tinca")))
    assert not tench.exact("a tench")
    assert tench.matches("a tench in a net")
    assert known.of_unit[2].matches("coffee shops")
    assert not tench.matches("a fish")


@pytest.mark.parametrize(
    ("text", "sentence"), [("a\n\nb", "line 2: no class name"), ("a\n,\n", "line 2"), ("\n", "empty")]
)
def test_a_line_without_a_name_would_shift_the_classes(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_references(path)


def test_references_stand_in_for_the_profiles_classes(tmp_path: Path) -> None:
    labels = csv_file(tmp_path / "x.csv", unit=[0, 3], label=["tench", "hen"])
    classes = tmp_path / "classes.txt"
    classes.write_text("tench, Tinca tinca\ngoldfish\nshark\nhen\n")
    result = scored("resnet50_fc", labels, references=classes)
    assert result.facts["references"] == {
        "source": str(classes),
        "sha256": hashlib.sha256(classes.read_bytes()).hexdigest(),
        "units": 4,
    }
    assert result.naming.iloc[0]["exact"] == 1
    with pytest.raises(UserError, match=r"unit 3, but fc in profile miniature has the units 0 to 2. --references FILE"):
        scored("resnet50_fc", labels)
    classes.write_text("tench\n")
    with pytest.raises(UserError, match="labels unit 3, but the list of classes"):
        scored("resnet50_fc", labels, references=classes)
    with pytest.raises(UserError, match="the units of layer4 are not classes"):
        scored("resnet50_layer4", labels, references=classes)


def test_a_hidden_layer_has_no_truth_without_images() -> None:
    assert profile_references(load_task("resnet50_layer4"), SmallRoles(None, None)) is None  # type: ignore[arg-type]


def test_agreement_against_a_count_by_hand() -> None:
    said = {"a": {0: "red fish", 1: "blue cup", 2: "house", 9: "x"}, "b": {0: "fish", 1: "Blue cup.", 2: "old house"}}
    row = agreement(said, embeddings(*said["a"].values(), *said["b"].values()), 0).iloc[0]
    table = cosine_similarity(letters(list(said["a"].values())[:3], 1.0), letters(list(said["b"].values()), 1.0))
    assert (row["first"], row["second"], row["units"], row["first_only"], row["second_only"]) == ("a", "b", 3, 1, 0)
    assert row["clip"] == pytest.approx(np.diag(table).mean())
    assert row["clip_low"] <= row["clip"] <= row["clip_high"]
    assert row["clip_chance"] == pytest.approx(table[~np.eye(3, dtype=bool)].mean())
    assert row["equal"] == pytest.approx(1 / 3)
    assert row["sentence"] == pytest.approx(
        np.diag(
            cosine_similarity(letters(list(said["a"].values())[:3], 2.0), letters(list(said["b"].values()), 2.0))
        ).mean()
    )


def test_a_method_agrees_with_itself_and_a_constant_one_by_chance_alone() -> None:
    units = {unit: f"{LETTERS[unit]}{LETTERS[unit + 1]}" for unit in range(20)}
    constant = dict.fromkeys(units, "depiction")
    found = agreement({"a": units, "b": dict(units), "c": constant}, embeddings(*units.values(), "depiction"), 0)
    same, against, _ = found.to_dict("records")
    assert (same["clip"], same["equal"]) == (1, 1)
    assert against["clip"] == pytest.approx(against["clip_chance"])
    assert len(found) == 3


def test_methods_without_a_unit_in_common_have_no_agreement() -> None:
    row = agreement({"a": {0: "red"}, "b": {1: "red"}}, embeddings("red"), 0).iloc[0]
    assert row["units"] == 0
    assert row[["clip", "clip_chance", "equal"]].isna().all()
    assert np.isnan(cross_chance(np.ones((1, 2)), np.ones((1, 2))))


def test_pairs_of_files_on_one_layer(tmp_path: Path) -> None:
    milan = csv_file(tmp_path / "m.csv", layer=["layer4"] * 2, unit=[0, 1], description=["Red fish", "dogs"])
    path = csv_file(
        tmp_path / "nd.csv", unit=[1, 2], category=["object"] * 2, label=["red_fish", "cat"], score=[0.1, 0.1]
    )
    found = scored("resnet50_layer4", milan, path).agreement.iloc[0]
    assert (found["first"], found["second"], found["units"]) == ("milan", "network_dissection", 2)
    assert found["equal"] == 0.5  # unit 1 of the file is unit 0


def test_everything_is_written_whole_and_reads_back(tmp_path: Path) -> None:
    hostile = "=HYPERLINK(1)\x1b[31m"
    first = csv_file(tmp_path / "a.csv", unit=[0, 1, 2], label=[hostile, hostile, "red"])
    second = csv_file(tmp_path / "b.csv", unit=[0, 1], label=["red", "blue"])
    result = scored("resnet50_fc", first, second)
    out = tmp_path / "out"
    write_scored_labels(result, out)
    for schema, frame in ((LABELS, result.labels), (SCORES, result.scores), (SUMMARY, result.summary)):
        stored = to_pandas(schema, read_parquet((out / f"{schema.name}.parquet").read_bytes()))
        assert len(stored) == len(frame) > 0
    assert pd.read_csv(out / "agreement.csv")["units"].tolist() == [2]
    assert pd.read_csv(out / "naming.csv")["text"].tolist()[1] == "'=HYPERLINK(1)[31m"
    known = result.facts["references"]
    assert (out / "references.sha256").read_text() == f"{known['sha256']}  {known['source']}\n"
    assert json.loads((out / "score.json").read_text()) == result.facts
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_scored_labels(scored("resnet50_fc", first, second), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_run_folder_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    result = scored("resnet50_fc", csv_file(tmp_path / "a.csv", unit=[0], label=["red"]))
    with pytest.raises(UserError, match="contains a run"):
        write_scored_labels(result, tmp_path)


def test_a_runs_own_labels_can_be_scored_again(tmp_path: Path) -> None:
    first = scored("resnet50_layer4", perturbed_file(tmp_path / "mine.csv"))
    write_scored_labels(first, tmp_path / "out")
    again = scored("resnet50_layer4", tmp_path / "out" / "labels.parquet")
    pd.testing.assert_frame_equal(again.scores, first.scores)


def test_the_terminal_shows_labels_as_text_only(tmp_path: Path) -> None:
    hostile = "[red]x[/red]\x1b[31m"
    first = csv_file(tmp_path / "a.csv", unit=[0, 1], label=[hostile, hostile])
    second = csv_file(tmp_path / "b.csv", unit=[0, 1], label=["red", ""])
    result = scored("resnet50_fc", first, second)
    console = Console(width=120, file=open(tmp_path / "out.txt", "w"))  # noqa: SIM115
    with console.file:
        for part in terminal_tables(scored_label_tables(result.facts, result.naming, result.agreement)):
            console.print(part)
    shown = (tmp_path / "out.txt").read_text()
    assert "always “[red]x[/red][31m”" in shown
    assert "\x1b[31m" not in shown
    assert result.facts["references"]["sha256"] in shown.replace("\n", "").replace(" ", "")
    assert "a / b" in shown


@pytest.mark.parametrize(
    ("choice", "said"),
    [({"device": "gpu"}, "field 'device': must be auto, cpu"), ({"seed": -1}, "field 'seed' cannot be -1")],
)
def test_a_device_or_seed_that_is_none_gets_a_sentence(tmp_path: Path, choice: dict[str, Any], said: str) -> None:
    task = load_task("resnet50_fc")
    files = gather(task, [csv_file(tmp_path / "a.csv", unit=[0], label=["red"])], "auto")
    with pytest.raises(UserError, match=said) as caught:
        score_labels(task, files, "miniature", **choice)
    assert "task" not in str(caught.value)


def call(*arguments: object):
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_command_line_names_mistakes_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("layer,unit,summary\n")
    result = call("--task", "resnet50_layer4", "--labels", path)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "none of the known formats" in result.stderr
    assert call("--labels", path).exit_code == 2


@pytest.mark.usefixtures("miniature")
def test_the_miniatures_classes_through_the_command_line(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "x.csv", unit=[0, 12, 13], label=["a disc", "eyes", "tail fin"])
    result = call("--task", "resnet50_fc", "--labels", path, "--device", "cpu", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    own = told["naming"][0]
    assert own["concept"] == pytest.approx(2 / 3)  # tail fin names two parts
    assert own["sentence"] > told["naming"][2]["sentence"]
    assert "miniature" in told["note"]
    text = call("--task", "resnet50_fc", "--labels", path, "--device", "cpu").stdout
    assert told["note"] in text.replace("\n", " ")
    assert "always “depiction”" in text


@pytest.mark.usefixtures("miniature")
def test_bertscore_with_a_language_model_of_ones_own(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "disc", "eyes", "tail", "fin", "circle", "ball", ","]
    BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path / "bert")
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(tmp_path / "bert")
    path = csv_file(tmp_path / "x.csv", unit=[0, 12], label=["a disc", "eyes"])
    asked = ("--task", "resnet50_fc", "--labels", path, "--device", "cpu", "--bertscore", tmp_path / "bert")
    result = call(*asked, "--bert-layer", 2, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["naming"]
    known = profile_references(load_task("resnet50_fc"), Roles(load_profile("miniature"), torch.device("cpu")))
    texts = [known.of_unit[unit].text for unit in (0, 12)]
    expected = BertScorer(tmp_path / "bert", 2).score(["a disc", "eyes"], texts).f1.mean()
    assert rows[0]["bertscore"] == pytest.approx(expected)
    refused = call(*asked)  # the model has no layer 17
    assert refused.exit_code == 1
    assert refused.stderr.startswith("--bertscore: layer must be 1 to 2")
