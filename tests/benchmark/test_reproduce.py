from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.external.published import ledger as module
from benchmark.external.published.label_files import Encoders, Released, from_label_file
from benchmark.external.published.ledger import Entry, counts, ledger, read_targets
from benchmark.external.published.networks import class_name_accuracy
from benchmark.external.published.target import Missing, Target
from metrics import faithfulness
from report.ledger import ledger_tables
from tasks.common.errors import UserError
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

CORRELATION = Target(
    "LE-0", "resnet", "layer4", "NetDissect", "mean of column sim correlation", 0.2, 5e-05, "label file alone",
    "them/theirs:results/baselines/NetDissect/resnet_layer4.csv", "read",
)  # fmt: skip


def target(quantity, path="data/NetDissect/resnet_layer4.csv", method="them", layer="layer4"):
    return replace(CORRELATION, quantity=quantity, source=f"them/theirs:{path}", method=method, layer=layer)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def simulated():
    return [entry for entry in ledger() if entry.ours is not None]


# ---- simulation ----


def test_the_papers_simulation_is_reproduced_but_for_ranks_of_single_draws(simulated):
    assert len(simulated) == 196
    differing = {entry.target.method for entry in simulated if entry.verdict == "differs"}
    assert differing <= {"Spearman", "Spearman T&R", "Spearman Correlation top-and-random"}
    assert counts(simulated)["reproduced"] >= 187


@pytest.mark.parametrize(
    ("name", "changed", "rows"),
    [
        ("f1", lambda active, presence: 2 * faithfulness.iou(active, presence), {"F1-score"}),
        ("cosine", lambda activations, presence: faithfulness.correlation(activations, presence) / 2, {"Cosine"}),
        ("auprc", lambda active, presence: active.T @ presence / active.sum(axis=0)[:, None], {"AUPRC"}),
    ],
)
def test_a_changed_formula_makes_its_rows_differ_and_no_other(monkeypatch, simulated, name, changed, rows):
    before = {entry.target.id for entry in simulated if entry.verdict == "differs"}
    monkeypatch.setattr(faithfulness, name, changed)
    after = [entry for entry in ledger() if entry.verdict == "differs" and entry.target.id not in before]
    assert {entry.target.method for entry in after} == rows
    assert after


def test_ours_does_not_follow_the_published_number(monkeypatch, simulated):
    moved = [replace(one, published=one.published + 1000) for one in read_targets()]
    monkeypatch.setattr(module, "read_targets", lambda: moved)
    entries = [entry for entry in ledger() if entry.ours is not None]
    assert [entry.ours for entry in entries] == [entry.ours for entry in simulated]
    assert counts(entries)["reproduced"] == 0


# ---- the data ----


def test_every_row_has_a_source_and_a_number_and_no_id_occurs_twice():
    targets = read_targets()
    assert len({one.id for one in targets}) == len(targets) == 461
    assert all(one.source and one.needs and one.status and np.isfinite(one.published) for one in targets)
    assert sum(one.needs == "label file alone" for one in targets) == 104


def test_second_hand_rows_are_shown_and_never_counted():
    quoted = replace(CORRELATION, status="second hand; may be mislabelled")
    entries = [Entry(quoted, quoted.published), Entry(CORRELATION, CORRELATION.published), Entry(quoted, None, "it")]
    assert counts(entries) == {"reproduced": 1, "differs": 0, "missing": 0}
    compared, missing, counted = ledger_tables([entry.as_json() for entry in entries])
    assert [row.cells[3].text for row in compared.rows] == ["reproduced, second hand", "reproduced"]
    assert missing.rows[0].cells[2].text == "second hand: it"
    assert [cell.value for cell in counted.rows[-1].cells] == [1, 0, 0, 2]


def test_a_number_beyond_its_tolerance_differs():
    assert Entry(CORRELATION, 0.20005).verdict == "reproduced"
    assert Entry(CORRELATION, 0.2001).verdict == "differs"


# ---- label files ----


def test_a_file_is_found_by_its_path_or_by_one_name_but_never_by_the_last_part_alone(tmp_path):
    wrong = write(tmp_path / "a" / "resnet_layer4.csv", "")
    with pytest.raises(Missing, match="not in"):
        Released(tmp_path).find(CORRELATION)
    wrong.rename(tmp_path / "MILAN_resnet_layer4.csv")
    flat = write(tmp_path / "NetDissect_resnet_layer4.csv", "")
    assert Released(tmp_path).find(CORRELATION) == flat
    tree = write(tmp_path / "clone" / "results" / "baselines" / "NetDissect" / "resnet_layer4.csv", "")
    assert Released(tmp_path).find(CORRELATION) == tree


def test_the_mean_of_a_column_leaves_out_empty_cells(tmp_path):
    write(tmp_path / "NetDissect" / "resnet_layer4.csv", "unit,description,sim correlation\n0,a,0.1\n1,b,\n2,c,0.3\n")
    assert from_label_file(CORRELATION, Released(tmp_path), nobody()) == pytest.approx(0.2)
    with pytest.raises(UserError, match="no column 'metric'"):
        from_label_file(target("mean of its own AUC (column metric)", CORRELATION.path), Released(tmp_path), nobody())


def test_detectors_are_above_the_threshold_and_their_labels_are_counted_once(tmp_path):
    rows = "1,object,dog,0.04\n2,object,dog,0.05\n3,object,dog,0.06\n4,scene,sea-s,0.5\n"
    write(tmp_path / "data" / "NetDissect" / "resnet_layer4.csv", "unit,category,label,score\n" + rows)
    released = Released(tmp_path)
    assert from_label_file(target("units with score > 0.04"), released, nobody()) == 3
    assert from_label_file(target("distinct labels of units with score > 0.04"), released, nobody()) == 2


def test_ratings_are_averaged_over_both_raters(tmp_path):
    text = "Layer,Unit,Topk-Sq E1 Rating,Mean Caption E1 Rating,Topk-Sq E2 Rating\n1,0,1,5,2\n1,1,2,5,5\n"
    write(tmp_path / "human" / "ratings.csv", text)
    row = target("mean of two raters, 1-5", "human/ratings.csv", "DnD scoring TopK-Squared")
    assert from_label_file(row, Released(tmp_path), nobody()) == pytest.approx(2.5)


def test_labels_are_compared_with_their_own_class_in_their_own_layer(tmp_path):
    write(tmp_path / "imagenet_labels.txt", "cat, tabby\ndog\n")
    write(tmp_path / "m" / "m_base.csv", "layer,unit,description\nconv1,0,dog\nfc,0,dog\nfc,1,dog\n")
    vectors = {"dog": [1.0, 0.0], "cat, tabby": [0.0, 1.0]}
    encoders = SimpleNamespace(clip=lambda texts: np.array([vectors[text] for text in texts]))
    row = target("mean CLIP ViT-B/16 text cosine to imagenet_labels.txt", "m/m_base.csv", layer="fc")
    assert from_label_file(row, Released(tmp_path), encoders) == pytest.approx(0.5)


def test_another_encoder_than_the_papers_is_not_used():
    encoders = Encoders(Roles(load_profile("miniature"), torch.device("cpu")), None, 17, "cpu")
    with pytest.raises(Missing, match="miniature has another model"):
        encoders.clip(["dog"])
    with pytest.raises(Missing, match="--bertscore"):
        encoders.bert()


def nobody():
    return Encoders(None, None, 17, "cpu")


# ---- networks ----


def test_clip_dissect_on_class_names_counts_the_right_class_among_the_best(monkeypatch):
    names = ["red", "green", "blue"]
    images = torch.eye(3).repeat(40, 1)
    # Unit 0 responds to red; units 1 and 2 are exchanged, so that each has the other's name.
    activations = images[:, [0, 2, 1]].contiguous()
    roles = SimpleNamespace(
        target=lambda name: None,
        view=lambda name: None,
        probing_set=lambda name, count, view: None,
        class_names=lambda count: names,
        clip=SimpleNamespace(encode_text=lambda texts: torch.eye(3)),
    )
    observation = SimpleNamespace(activations=activations, clip_embeddings=images)
    monkeypatch.setattr(
        "benchmark.external.published.networks.probe_of", lambda probing, masked: SimpleNamespace(load=None)
    )
    monkeypatch.setattr("benchmark.external.published.networks.observe", lambda *args: {"fc": observation})
    frozen = Hashable(roles)
    assert class_name_accuracy(frozen, "resnet50", "fc", "scenes", "cos", 1) == pytest.approx(1 / 3)
    assert class_name_accuracy(frozen, "resnet50", "fc", "scenes", "cos", 3) == 1


class Hashable:
    def __init__(self, parts):
        self.__dict__.update(vars(parts))


def test_what_a_profile_lacks_is_said_row_by_row():
    entries = {entry.target.id: entry for entry in ledger(profile=load_profile("miniature"))}
    assert "no network" not in entries["CD-339"].missing
    assert "another CLIP" in entries["CD-339"].missing
    assert "the profile miniature has no probing set cifar100_val" in entries["CD-339"].missing
    assert "does not implement" in entries["CY-394"].missing


# ---- the command ----


def test_the_command_prints_and_writes_the_same_ledger(tmp_path):
    done = CliRunner().invoke(app, ["reproduce", "--json", "--out", str(tmp_path)])
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    assert said == json.loads((tmp_path / "ledger.json").read_text())
    assert len(said["rows"]) == 461
    assert sum(said["counts"].values()) == 461 - 40
    assert "NE-84" in (tmp_path / "ledger.md").read_text()
    assert r"\begin{tabular}" in (tmp_path / "ledger.tex").read_text()
    shown = CliRunner().invoke(app, ["reproduce"])
    assert shown.exit_code == 0
    assert "Verdicts by source" in shown.stdout


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    done = CliRunner().invoke(app, ["reproduce", "--labels", str(tmp_path / "absent")])
    assert done.exit_code == 1
    assert "takes a folder" in done.stderr
    assert "Traceback" not in done.output
