"""Files of labels in each released format, made here; traps of the released files, one test each."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.external.files import COLUMNS, FORMATS, Source, gather, read_labels
from benchmark.external.files.network_dissection import words
from benchmark.external.files.rows import source_of
from tasks.catalogue import load_task
from tasks.common.errors import UserError

HOSTILE = [text for text in json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())]
CATEGORIES = ("color", "object", "part", "material", "scene", "texture")
PARTS = ("label", "truth", "activation", "intersect", "iou")


def written(path: Path, *rows: object, end: str = "\n", encoding: str = "utf-8", final: bool = True) -> Path:
    """A CSV file as the authors' scripts write it."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)  # type: ignore[arg-type]
    path.write_bytes(text.getvalue().removesuffix("" if final else end).encode(encoding))
    return path


def best(path: Path, **options: object) -> dict[int, str | None]:
    """Unit → its rank-1 label."""
    frame = read_labels(path, **options).frame  # type: ignore[arg-type]
    frame = frame[frame["rank"] == 1]
    return dict(zip(frame["unit"].tolist(), frame["label"].tolist(), strict=True))


def tallies(label: str, iou: float, activation: int = 40_000) -> list[object]:
    """One category's cells: truth chosen so that the IoU follows from the counts of pixels, to the digits printed."""
    intersect = 1_000
    truth = round(intersect / iou) + intersect - activation if iou else 90_000
    kept = intersect if iou else 0
    return [label, truth, activation, kept, f"{kept / (truth + activation - kept):.9f}"]


def dissected(path: Path, units: list[tuple[int, str, str]], activation: int = 40_000) -> Path:
    """A table of Network Dissection: (number in the file, category, label), best IoU 0.02 for even units, else 0.01."""
    header = ["unit", "category", "label", "score"] + [f"{name}-{part}" for name in CATEGORIES for part in PARTS]
    rows = []
    for unit, category, label in units:
        cells: list[object] = []
        for place, name in enumerate(CATEGORIES):
            iou = (0.02 if unit % 2 == 0 else 0.01) if name == category else 0.001 * (place + 1)
            cells += tallies(label if name == category else f"other {name}", iou, activation)
        rows.append([unit, category, label, max(cells[4::5], key=float), *cells])
    return written(path, header, *rows)


# --- one test a format -----------------------------------------------------------------------------------------------


def test_dnd_with_runners_up_where_a_space_stands_for_none(tmp_path: Path) -> None:
    path = written(
        tmp_path / "resnet50_layer4.csv",
        ["Neuron ID", "Label 1", "Label 2", "Label 3"],
        [29, "spiral shapes", "circles", "round things"],
        [50, "green snakes", " ", " "],
    )
    found = read_labels(path)
    assert found.facts.format == "dnd"
    rows = list(zip(found.frame["unit"], found.frame["rank"], found.frame["label"], strict=True))
    assert rows == [(29, 1, "spiral shapes"), (29, 2, "circles"), (29, 3, "round things"), (50, 1, "green snakes")]
    assert tuple(found.frame.columns) == COLUMNS
    assert set(found.frame["condition"]) == {"clean"}


def test_trap_28_the_fc_file_without_a_final_line_end_has_1000_rows(tmp_path: Path) -> None:
    rows = [[unit, f"label {unit}"] for unit in range(1000)]
    path = written(tmp_path / "fc.csv", ["Neuron ID", "label"], *rows, final=False)
    assert not path.read_bytes().endswith(b"\n")
    found = best(path)
    assert len(found) == 1000
    assert found[999] == "label 999"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_trap_28_line_breaks_inside_labels_leave_2048_rows(tmp_path: Path, end: str) -> None:
    rows = [[unit, f"fishing{end}(rivers, or lakes)", "", f'"{unit}"'] for unit in range(2048)]
    path = written(tmp_path / "eurosat.csv", ["Neuron ID", "Label 1", "Label 2", "Label 3"], *rows, end=end)
    found = read_labels(path)
    assert found.facts.rows == 2048
    assert best(path)[2047] == f"fishing{end}(rivers, or lakes)"
    assert found.frame.loc[found.frame["rank"] == 3, "label"].tolist()[5] == '"5"'


def test_clip_dissect_has_scores_and_layers(tmp_path: Path) -> None:
    path = written(
        tmp_path / "descriptions.csv",
        ["layer", "unit", "description", "similarity"],
        ["conv1", 0, "red", 0.25616455],
        ["layer4", 0, "tench, Tinca tinca", 0.5],
    )
    frame = read_labels(path).frame
    assert frame["layer"].tolist() == ["conv1", "layer4"]
    assert frame["score"].tolist() == [0.25616455, 0.5]
    assert frame["method"].unique().tolist() == ["clip_dissect"]


def test_milan_has_no_scores(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["layer", "unit", "description"], ["fc", 3, "Neon green"])
    found = read_labels(path)
    assert found.facts.format == "milan"
    assert found.frame["score"].isna().all()


def test_trap_30_the_file_name_alone_says_which_milan_and_which_network(tmp_path: Path) -> None:
    header, row = ["layer", "unit", "description"], ["layer4", 3, "Buildings"]
    path = written(tmp_path / "MILAN_results_m_base_resnet18_places365.csv", header, row)
    found = read_labels(path)
    assert found.facts.source == Source("m_base", "resnet18", "places365", None)
    assert found.frame["method"].tolist() == ["milan_m_base"]
    notes = gather(load_task("resnet18_layer4"), [path], "auto")[0].facts.notes
    assert notes == ("The file's name says trained on places365, but the task's weights are IMAGENET1K_V1.",)
    right = written(tmp_path / "MILAN_results_m_base_resnet18_imagenet.csv", header, row)
    assert gather(load_task("resnet18_layer4"), [right], "auto")[0].facts.notes == ()
    assert any("resnet18" in note for note in gather(load_task("resnet50_layer4"), [right], "auto")[0].facts.notes)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("DnD_results_rn50_results_resnet50_imagenet_broden_fc", (None, "resnet50", "imagenet", "fc")),
        ("m_places365_resnet152_imagenet", ("m_places365", "resnet152", "imagenet", None)),
        ("vit_b_16_imagenet_encoder", (None, "vit_b_16", "imagenet", None)),
        ("my labels", (None, None, None, None)),
    ],
)
def test_names_of_released_files(name: str, source: tuple[str | None, ...]) -> None:
    assert tuple(source_of(Path(f"{name}.csv"))) == source


def test_trap_1_network_dissection_counts_units_from_1(tmp_path: Path) -> None:
    path = dissected(tmp_path / "nd.csv", [(1, "part", "body"), (2, "texture", "freckled"), (3, "object", "person")])
    assert best(path) == {0: "body", 1: "freckled", 2: "person"}
    assert read_labels(path).facts.first_unit == 1
    assert all(entry.first_unit == 0 for name, entry in FORMATS.items() if name != "network_dissection")


def test_trap_1_a_unit_0_there_is_refused(tmp_path: Path) -> None:
    path = dissected(tmp_path / "nd.csv", [(0, "part", "body"), (1, "part", "arm")])
    with pytest.raises(UserError, match="unit 0 does not exist, as this format counts units from 1"):
        read_labels(path)


def test_trap_1_without_its_tallies_the_format_is_still_known(tmp_path: Path) -> None:
    path = written(tmp_path / "nd.csv", ["unit", "category", "label", "score"], [1, "part", "body", 0.04])
    assert best(path) == {0: "body"}


def test_trap_2_the_identities_hold_and_the_score_is_the_largest_iou(tmp_path: Path) -> None:
    found = read_labels(dissected(tmp_path / "nd.csv", [(1, "part", "body"), (2, "scene", "street-s")]))
    assert found.facts.notes == ("0 of 2 units have an IoU above 0.04.",)
    assert found.frame["score"].tolist() == pytest.approx([0.01, 0.02], abs=1e-6)


@pytest.mark.parametrize(("column", "value"), [("score", 0.9), ("category", "object"), ("label", "tail")])
def test_trap_2_columns_that_do_not_belong_together_are_refused(tmp_path: Path, column: str, value: object) -> None:
    path = dissected(tmp_path / "nd.csv", [(1, "part", "body"), (2, "part", "arm")])
    table = pd.read_csv(path)
    table[column] = table[column].astype(object)
    table.loc[1, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match="line 3: the score is not the largest IoU"):
        read_labels(path)


def test_trap_2_a_broken_iou_is_counted_and_told(tmp_path: Path) -> None:
    path = dissected(tmp_path / "nd.csv", [(1, "part", "body"), (2, "part", "arm")])
    table = pd.read_csv(path)
    table.loc[0, "scene-truth"] += 50_000
    table.to_csv(path, index=False)
    assert any(note.startswith("1 IoUs of categories are not") for note in read_labels(path).facts.notes)
    assert any("0 of them the best" in note for note in read_labels(path).facts.notes)


@pytest.mark.parametrize(("activation", "told"), [(112 * 112 * 3, True), (112 * 112 * 3 + 1, False)])
def test_trap_3_an_iou_of_whole_images_is_told(tmp_path: Path, activation: int, told: bool) -> None:
    path = dissected(tmp_path / "nd.csv", [(1, "texture", "scaly"), (2, "part", "arm")], activation)
    assert any("retrieval of images" in note for note in read_labels(path).facts.notes) == told


def test_names_of_broden_become_words() -> None:
    assert words("wine_cellar-bottle_storage-s", "scene") == "wine cellar, bottle storage"
    assert words("red-c", "color") == "red color"
    assert words("t-shirt", "object") == "t-shirt"


def le_row(layer: str, unit: int, concepts: list[tuple[float, str]], val: float, sim: float) -> list[object]:
    padded = [*concepts, *[(0.0, "0")] * (10 - len(concepts))]
    return [layer, unit, val, *[cell for pair in padded for cell in pair], 0.3, sim]


def test_trap_29_linear_explanations_score_is_the_sim_correlation(tmp_path: Path) -> None:
    pairs = [name for place in range(10) for name in (f"weight{place}", f"concept{place}")]
    header = ["layer", "unit", "val correlation", *pairs, "bias", "sim correlation"]
    path = written(
        tmp_path / "le.csv",
        header,
        le_row("layer4", 0, [(0.7, "toiletry"), (0.9, "wolfhound")], val=0.3097, sim=0.2285),
        le_row("layer4", 1, [], val=0.2, sim=0.1),
    )
    frame = read_labels(path).frame
    assert frame["label"].tolist() == ["wolfhound", "toiletry", None]
    assert frame["rank"].tolist() == [1, 2, 1]
    np.testing.assert_array_equal(frame["score"], [0.2285, np.nan, 0.1])


def test_trap_29_without_it_there_is_no_score(tmp_path: Path) -> None:
    path = written(tmp_path / "le.csv", ["unit", "val correlation", "weight0", "concept0"], [0, 0.31, 0.7, "dog"])
    found = read_labels(path)
    assert found.frame["score"].isna().all()
    assert "val correlation" in found.facts.notes[0]


def test_other_methods_scored_by_linear_explanations_count_from_0(tmp_path: Path) -> None:
    header = ["unit", "description", "sim correlation", "sim ablation(norm)", "sim ablation(optim)"]
    path = written(tmp_path / "nd.csv", header, [0, "body", -0.0063, 0.0004, 0.002], [1, "red color", 0.1, 0, 0])
    found = read_labels(path)
    assert found.facts.format == "linear_explanations"
    assert best(path) == {0: "body", 1: "red color"}
    assert found.frame["score"].tolist() == [-0.0063, 0.1]


def test_invert(tmp_path: Path) -> None:
    path = written(
        tmp_path / "i.csv", ["neuron", "concept", "concept_id", "metric"], [0, "lhasa", "n02098413", "0.9336"]
    )
    found = read_labels(path)
    assert found.facts.format == "invert"
    assert found.frame[["unit", "label", "score"]].to_numpy().tolist() == [[0, "lhasa", 0.9336]]


def test_cosy_results_that_a_second_run_appended_to(tmp_path: Path) -> None:
    header = ["neuron", "concept", "auc", "U1", "p", "mad"]
    path = written(tmp_path / "c.csv", header, [114, "owl", 0.9, 5, 0.1, 2.0], header, [114, "owl", 0.91, 5, 0.1, 2.1])
    found = read_labels(path)
    assert found.facts.skipped == {"the header once more": 1, "said before, with the same label": 1}
    assert found.frame["score"].tolist() == [0.9]


def test_falcon_takes_the_first_noun_phrase_of_single_units(tmp_path: Path) -> None:
    header = ["group", "Unnamed: 0", "concept_set_words", "concept_set_noun_phrases"]
    path = written(
        tmp_path / "f.csv",
        header,
        [6, 6, "[('brass', 0.1)]", "[('tuba', 0.05), (\"ship's bell\", 0.03)]"],
        ["(6, 25)", 7, "[]", "[('tuba', 0.05)]"],
        [25, 25, "[]", "[]"],
        [30, 30, "[]", "__import__('os').system('exit 3')"],
    )
    found = read_labels(path)
    assert best(path) == {6: "tuba", 25: None}
    assert found.frame["label"].tolist() == ["tuba", "ship's bell", None]
    assert found.facts.skipped == {"a group of several units": 1, "no list of (phrase, score)": 1}


def test_own_format_as_csv_and_as_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "task": ["a", "a", "b"],
            "method": ["m", "m", "m"],
            "perturbation": ["clean", "fog", "clean"],
            "severity": [0, 3, 0],
            "repeat": [0, 0, 0],
            "unit": [7, 7, 1],
            "rank": [1, 1, 1],
            "label": ["dog", "cat", "cup"],
            "score": [0.5, np.nan, 0.5],
        }
    )
    frame.to_parquet(tmp_path / "labels.parquet")
    frame.to_csv(tmp_path / "labels.csv", index=False)
    read = [read_labels(tmp_path / f"labels.{suffix}", task="a") for suffix in ("csv", "parquet")]
    pd.testing.assert_frame_equal(read[0].frame, read[1].frame)
    assert read[0].frame[["condition", "severity", "label"]].to_numpy().tolist() == [
        ["clean", 0, "dog"],
        ["fog", 3, "cat"],
    ]
    assert read[0].facts.skipped == {"of another task": 1}
    with pytest.raises(UserError, match="no labels of task c, only of a, b"):
        read_labels(tmp_path / "labels.csv", task="c")


def test_own_format_needs_no_more_than_unit_and_label(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.csv", ["unit", "label"], [3, "red"])
    frame = read_labels(path).frame
    assert frame["method"].tolist() == ["mine"]
    assert frame["layer"].tolist() == [None]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (["clean", 2, 1], "severity 2 of 'clean'"),
        (["fog", "", 1], "severity 0 of 'fog'"),
        (["fog", 6, 1], "severity 6 of 'fog'"),
        (["fog", 3, 0], "ranks from 1"),
        (["fog", "high", 1], "the severity 'high' is not a whole number"),
    ],
)
def test_own_format_out_of_range(tmp_path: Path, row: list[object], sentence: str) -> None:
    path = written(tmp_path / "x.csv", ["perturbation", "severity", "rank", "unit", "label"], [*row, 1, "red"])
    with pytest.raises(UserError, match=sentence):
        read_labels(path)


# --- what every format has in common ---------------------------------------------------------------------------------


def test_bom_crlf_blank_lines_and_spreadsheet_commas(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbfunit,label\r\n0,red,,\r\n\r\n1,blue\r\n")
    assert best(path) == {0: "red", 1: "blue"}
    assert read_labels(path).facts.encoding == "UTF-8"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (gzip.compress(b"unit,label\n0,dog\n", mtime=0), "is compressed"),
        ("unit,label\n0,dog\n".encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04...", "ZIP"),
        (b"ARROW1\x00\x00", "save it as Parquet"),
        (b"unit;label\n0;dog\n", "separates its columns by ';'"),
        (b"unit\tlabel\n0\tdog\n", "save it with commas"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "labels.csv").write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        read_labels(tmp_path / "labels.csv")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.csv")
    for path in (tmp_path / "labels.csv", Path("/dev/zero")):
        with pytest.raises(UserError, match="no ordinary file"):
            read_labels(path)


def test_labels_as_bytes_are_decoded_and_too_many_rows_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"unit": [0, 1], "label": [b"circle", "caf\xe9".encode()]}).to_parquet(path)
    assert best(path) == {0: "circle", 1: "caf\xe9"}
    monkeypatch.setattr("benchmark.external.files.csv_table._MOST_ROWS", 1)
    with pytest.raises(UserError, match="has 2 rows"):
        read_labels(path)


@pytest.mark.parametrize("start", ["Unit,Label\n", "sep=,\nunit,label\n", "sep=,\r\nUNIT,label\r\n"])
def test_what_spreadsheets_make_of_the_header_is_read(tmp_path: Path, start: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(start + "0,circle\n1,star\n", newline="")
    assert read_labels(path).frame["label"].tolist() == ["circle", "star"]


def test_letters_of_windows_are_read_and_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("unit,label\n0,women’s dog – red\n".encode("cp1252"))
    found = read_labels(path)
    assert found.frame["label"].tolist() == ["women’s dog – red"]
    assert found.facts.encoding == "Windows-1252"


def test_half_a_letter_leaves_the_other_labels_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes("unit,label\n0,dog 🐕\n1,\ud83d cut\n".encode("utf-8", "surrogatepass"))
    found = read_labels(path)
    assert found.frame["label"].tolist() == ["dog 🐕", "\ufffd cut"]
    assert found.facts.encoding == "UTF-8"


def test_a_parquet_index_is_a_column_and_lists_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"unit": [0, 1], "label": ["circle", "star"]})
    frame.set_index("unit").to_parquet(tmp_path / "index.parquet")
    assert read_labels(tmp_path / "index.parquet").frame["label"].tolist() == ["circle", "star"]
    for value in (["circle", "x"], {"text": "circle"}):
        frame.assign(label=[value, value]).to_parquet(tmp_path / "lists.parquet")
        with pytest.raises(UserError, match="lists or records in its column 'label'"):
            read_labels(tmp_path / "lists.parquet")


def test_latin_1_is_read_and_told(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["unit", "label"], [0, "café"], encoding="latin-1")
    assert best(path) == {0: "café"}
    assert read_labels(path).facts.encoding == "Latin-1"


@pytest.mark.parametrize("word", ["nan", "NA", "null", "None", "inf", "0", "True", "1e5", "=1+1"])
def test_words_that_readers_take_for_values_stay_labels(tmp_path: Path, word: str) -> None:
    assert best(written(tmp_path / "x.csv", ["unit", "label"], [0, word]))[0] == word


def test_an_empty_label_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["Neuron ID", "label"], [0, "red"], [1, " "], [2, ""])
    assert best(path) == {0: "red", 1: None, 2: None}


def test_hostile_labels_come_through_as_they_are(tmp_path: Path) -> None:
    given = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    given = [text for text in given if len(text) < 100_000]
    path = written(tmp_path / "x.csv", ["unit", "label"], *enumerate(given))
    assert list(best(path).values()) == [text.strip() or None for text in given]


def test_an_unknown_header_lists_the_formats_and_their_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["layer", "unit", "summary"], ["layer3", 226, "a person"])
    with pytest.raises(UserError) as caught:
        read_labels(path)
    list_of_classes = written(tmp_path / "y.txt", ["tench", "Tinca tinca"], ["a", "b", "c"])
    with pytest.raises(UserError, match="none of the known formats"):
        read_labels(list_of_classes)
    for name, entry in FORMATS.items():
        assert f"{name} ({' + '.join(entry.columns[0])}" in str(caught.value)


def test_a_format_can_be_forced_and_must_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["unit", "category", "label", "score"], [1, "mine", "red", 0.5])
    assert best(path, format="own") == {1: "red"}
    with pytest.raises(UserError, match="not in the format milan"):
        read_labels(path, "milan")
    with pytest.raises(UserError, match=r"Unknown format 'miln'\. Did you mean milan"):
        read_labels(path, "miln")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"unit,label\n", "contains no label"),
        (b"unit,label\n0,\n", "contains no label"),
        (b'unit,label\n0,"red\n1,blue\n', "closed quotes"),
        (b"unit,label\n0,tench, Tinca tinca\n", "line 2: 3 cells under 2 columns"),
        (b"unit,label\nzero,red\n", "line 2: the unit 'zero' is not a whole number"),
        (b"unit,label\n-1,red\n", "counts units from 0"),
        (b"unit,label\n1.5,red\n", "'1.5' is not a whole number"),
        (b"unit,label,label\n1,red,blue\n", "two columns named 'label'"),
        (b"unit,label\n4,red\n4,blue\n", "lines 2 and 3: two labels of rank 1 for one unit, 'red' and 'blue'"),
        (b"PAR1 and then nothing", "damaged Parquet file"),
    ],
)
def test_files_that_cannot_be_used_get_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_labels(tmp_path / "absent.csv")


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["unit", "label"], [0, "red"])
    assert read_labels(path).facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_reading_needs_no_torch() -> None:
    code = "import sys, benchmark.external.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- several files for a task ----------------------------------------------------------------------------------------


def test_only_the_tasks_layer_is_taken(tmp_path: Path) -> None:
    header = ["layer", "unit", "description"]
    path = written(tmp_path / "x.csv", header, ["conv1", 0, "lines"], ["layer4", 5, "dogs"], ["4", 6, "cats"])
    file = gather(load_task("resnet50_layer4"), [path], "auto")[0]
    assert file.frame["label"].tolist() == ["dogs"]
    assert file.facts.skipped == {"of another layer": 2}
    assert gather(load_task("resnet50_layer4"), [path], "auto", "4")[0].frame["label"].tolist() == ["cats"]
    with pytest.raises(UserError, match="no labels of layer3, only of 4, conv1, layer4; --layer"):
        gather(load_task("resnet50_layer3"), [path], "auto")


def test_units_that_the_layer_does_not_have_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["unit", "label"], [0, "red"], [2048, "blue"])
    with pytest.raises(UserError, match=r"labels unit 2048, but layer4 of resnet50 has the units 0 to 2047\.$"):
        gather(load_task("resnet50_layer4"), [path], "auto")


def test_a_file_that_counts_from_1_is_told_so(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", ["unit", "label"], [1, "red"], [2048, "blue"])
    with pytest.raises(UserError, match="count units from 1"):
        gather(load_task("resnet50_layer4"), [path], "auto")


def test_two_files_of_one_method_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("label", "siglip"):
        (tmp_path / folder).mkdir()
        paths.append(written(tmp_path / folder / "x.csv", ["unit", "label"], [1, folder]))
    files = gather(load_task("resnet50_layer4"), paths, "auto")
    assert [file.frame["method"].tolist() for file in files] == [["x (label)"], ["x (siglip)"]]
    with pytest.raises(UserError, match="twice"):
        gather(load_task("resnet50_layer4"), [paths[0], paths[0]], "auto")


def test_perturbed_labels_need_clean_ones(tmp_path: Path) -> None:
    header = ["unit", "label", "perturbation", "severity"]
    path = written(tmp_path / "x.csv", header, [1, "red", "fog", 3], [1, "", "clean", 0])
    with pytest.raises(UserError, match="no label of x on clean images"):
        gather(load_task("resnet50_layer4"), [path], "auto")
