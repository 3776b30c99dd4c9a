"""Submissions: what is accepted without a model, and the forgeries that are refused."""

from __future__ import annotations

import json
import re
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forging import forge, members, write_zip
from small_runs import write_run

from leaderboard.board import submission as submissions
from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from leaderboard.board.submission import OF_UNITS, check, read_submission, write_submission
from leaderboard.pages import write_site
from leaderboard.pages.board_files import as_frame
from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("few_resamples")

METHODS = {"alpha": 0.05, "clip_dissect": 0.4}
SUITES = {"gaussian_blur": (("gaussian_blur", 3),), "weather": (("fog", 3),)}
CONTACT = "someone@example.org"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("runs") / "toy", METHODS, suites=SUITES, comparisons=False, units=8)
    folder = RunFolder(path)
    # Made-up runs draw for each method what in real ones the images decide.
    frame = folder.read_table("scores")
    same = {name: frame[name].where(frame["dead"], 1.0) for name in OF_UNITS if "overlap" in name or "corr" in name}
    folder.write_table("scores", frame.assign(**same))
    folder.write_table("summary", submissions.summarise(frame.assign(**same), 0))
    return path


@pytest.fixture(scope="module")
def pack(run, tmp_path_factory):
    return write_submission(run, CONTACT, out=tmp_path_factory.mktemp("packs") / "toy.clear.zip")


def refusal(pack, tmp_path):
    with pytest.raises(StoreError) as caught:
        check(read_submission(pack, tmp_path / "unpacked"))
    assert str(pack) in str(caught.value)
    assert str(tmp_path / "unpacked") not in str(caught.value)
    return str(caught.value)


def test_a_submission_is_a_packed_run_with_a_contact(run, pack, tmp_path):
    found = read_submission(pack, tmp_path / "again")
    check(found)
    assert found.info["facts"]["submission"] == {"contact": CONTACT, "note": ""}
    assert found.info["identity"] == RunFolder(run).info()["identity"]
    pd.testing.assert_frame_equal(found.folder.read_table("scores"), RunFolder(run).read_table("scores"))
    again = write_submission(run, CONTACT, out=tmp_path / "again.clear.zip")
    assert again.read_bytes() == pack.read_bytes()


def test_rounding_of_another_machine_is_no_forgery(pack, tmp_path):
    def noise(frame):
        numbers = frame.select_dtypes(float).columns.difference(["severity"])
        return frame.assign(**{name: frame[name] * (1 - 1e-9) for name in numbers})

    check(read_submission(forge(pack, tmp_path / "p.clear.zip", noise, summary=False), tmp_path / "x"))


def relabel(frame):
    place = frame.index[~frame["dead"] & frame["perturbation"].eq("clean") & frame["repeat"].eq(0)][0]
    return frame.assign(label=frame["label"].where(frame.index != place, "another"))


def swap(frame):
    """The results of two units of one method, exchanged."""
    other = {0: 2, 2: 0}
    mine = frame["method"].eq("alpha")
    return frame.assign(
        unit=[other.get(unit, unit) if own else unit for unit, own in zip(frame["unit"], mine, strict=True)]
    )


def best_case(column):
    return lambda frame: frame.assign(**{column: frame[column].where(frame["method"].ne("alpha"), 0.99)})


def without_a_unit(frame):
    return frame.loc[~(frame["unit"].eq(1) & frame["method"].eq("alpha") & frame["perturbation"].eq("fog"))]


def of_method(name):
    return lambda frame: frame.assign(method=frame["method"].replace("alpha", name))


def dead_when_wrong(frame):
    lost = frame["method"].eq("alpha") & frame["unit"].eq(3)
    gone = {name: frame[name].where(~lost) for name in frame.columns[7:] if name not in ("dead", "missing")}
    return frame.assign(**gone, dead=frame["dead"] | lost)


def hidden(text):
    return lambda frame: frame.assign(label=frame["label"] + text)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"scores": relabel}, "not those of its labels", id="f38-label-in-scores"),
        pytest.param({"labels": lambda f: f.assign(label="dog")}, "not those of its labels", id="f38-label"),
        pytest.param({"scores": swap}, "differs between methods|not those of its labels", id="f38-swapped-units"),
        pytest.param({"scores": best_case("stability"), "summary": False}, "does not follow", id="f38-score"),
        pytest.param({"scores": best_case("evidence_overlap")}, "differs between methods", id="f38-overlap"),
        pytest.param({"scores": dead_when_wrong}, "dead of one unit differs", id="f38-dead-when-wrong"),
        pytest.param({"scores": without_a_unit}, "other units than the rest", id="f38-hard-unit-left-out"),
        pytest.param({"scores": of_method("beta")}, "no cell of its settings", id="f38-method-nobody-ran"),
        pytest.param({"scores": lambda f: f.assign(profile="paper")}, "another task or profile", id="f38-profile"),
        pytest.param({"faithfulness": lambda f: f.assign(label="dog")}, "of other labels", id="f38-faithfulness"),
        pytest.param({"labels": hidden("\u202e")}, "hidden characters", id="f38-label-turns-the-line"),
        pytest.param({"labels": hidden("\x1b[2J")}, "hidden characters", id="f38-label-clears-the-terminal"),
        pytest.param({"labels": hidden("a" * 5000)}, "hidden characters or more than", id="f38-endless-label"),
    ],
)
def test_forged_tables_are_refused(pack, tmp_path, changes, reason):
    found = refusal(forge(pack, tmp_path / "p.clear.zip", **changes), tmp_path)
    assert re.search(reason, found)
    assert found.isprintable()


def set_facts(name, value):
    return lambda run: run["facts"].update({name: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            set_facts("validation", {"methods": {"alpha": "verified"}}), "of itself whether", id="f38-claims-verified"
        ),
        pytest.param(set_facts("submission", {"contact": " "}), "no contact", id="f38-no-contact"),
        pytest.param(set_facts("submission", {"contact": "a\u200b@b"}), "hidden characters", id="f38-contact"),
        pytest.param(set_facts("methods", {"alpha\n": {}}), "hidden characters", id="f38-method-name"),
        pytest.param(lambda run: run["identity"]["content"].pop("conditions"), "damaged", id="f38-no-conditions"),
        pytest.param(lambda run: run["identity"].update(repeats=1), "no cell of its settings", id="f38-repeats"),
        pytest.param(lambda run: run.update(schema_version=99), "newer than this version", id="f38-newer-schema"),
    ],
)
def test_forged_settings_are_refused(pack, tmp_path, change, reason):
    assert reason in refusal(forge(pack, tmp_path / "p.clear.zip", run=change), tmp_path)


def test_f38_edited_tables_without_new_hashes_are_refused(pack, tmp_path):
    contents = members(forge(pack, tmp_path / "forged.clear.zip", relabel))
    old = members(pack)["run.json"]
    path = write_zip(tmp_path / "p.clear.zip", contents | {"run.json": old})
    assert "not the one that the run finished with" in refusal(path, tmp_path)
    unsealed = json.loads(old)
    unsealed["facts"]["finished"] = {}
    path = write_zip(path, contents | {"run.json": json.dumps(unsealed).encode()})
    with pytest.raises(StoreError, match="does not list exactly its tables"):
        check(read_submission(path, tmp_path / "unsealed"))


@pytest.mark.parametrize(
    "name", ["../../escape.txt", "/etc/passwd", "a/run.json", "..\\run.json", "notes.txt", "run.JSON"]
)
def test_f38_no_member_decides_where_it_is_written(pack, tmp_path, name):
    path = write_zip(tmp_path / "p.clear.zip", {**members(pack), name: b"x"})
    assert "which no submission has" in refusal(path, tmp_path)
    assert not (tmp_path / "unpacked").exists()


def test_f38_doubled_members_and_cells_are_refused(pack, tmp_path):
    contents = members(pack)
    path = write_zip(tmp_path / "p.clear.zip", contents)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("run.json", b"{}")
    assert "a file twice" in refusal(path, tmp_path)
    table = pq.read_table(pa.BufferReader(contents["scores.parquet"]))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), sink)
    path = forge(write_zip(path, contents | {"scores.parquet": sink.getvalue().to_pybytes()}), tmp_path / "q.clear.zip")
    with pytest.raises(StoreError, match="duplicate rows"):
        check(read_submission(path, tmp_path / "doubled"))


def test_f38_bombs_and_large_files_are_not_unpacked(pack, tmp_path, monkeypatch):
    path = write_zip(tmp_path / "p.clear.zip", {"run.json": bytes(3 * 2**20)})
    assert path.stat().st_size < 2**16
    with pytest.raises(StoreError, match="more than any submission has"):
        read_submission(path, tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(submissions, "_UNPACKED", 2**20)
        path = write_zip(path, members(pack) | {"scores.parquet": bytes(2**20)})
        with pytest.raises(StoreError, match="more than any submission has"):
            read_submission(path, tmp_path / "b")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"label": pa.array(["x"]).take(pa.array(np.zeros(6_000_000, dtype=np.int8)))}), sink)
    path = write_zip(path, members(pack) | {"scores.parquet": sink.getvalue().to_pybytes()})
    assert path.stat().st_size < 2**18
    with pytest.raises(StoreError, match="6,000,000 rows"):
        read_submission(path, tmp_path / "c")
    monkeypatch.setattr(submissions, "LARGEST", 1000)
    with pytest.raises(StoreError, match="the most that a submission may have"):
        read_submission(pack, tmp_path / "d")


def test_f38_truncated_and_other_files_are_a_sentence(pack, tmp_path):
    data = pack.read_bytes()
    for number, content in enumerate((data[: len(data) // 2], data[:-1], b"", b"PK", data[100:], bytes(1000))):
        path = tmp_path / f"{number}.clear.zip"
        path.write_bytes(content)
        assert "zip file" in refusal(path, tmp_path)
    with pytest.raises(StoreError, match="No such file"):
        read_submission(tmp_path / "nowhere", tmp_path / "x")


def test_submit_says_what_it_needs(run, pack, tmp_path):
    with pytest.raises(StoreError, match="--contact"):
        write_submission(run, " ", out=tmp_path / "x")
    with pytest.raises(StoreError, match="hidden characters"):
        write_submission(run, "a\u202eb", out=tmp_path / "x")
    with pytest.raises(StoreError, match="not a run folder"):
        write_submission(tmp_path, CONTACT, out=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_board_says_what_was_verified(pack, tmp_path):
    """Of two runs with rows of one method, the less believable decides."""
    for name, status in (("own", {}), ("one", {"alpha": "verified", "clip_dissect": "verified"}), ("two", None)):
        found = read_submission(pack, tmp_path / "runs" / name)
        if status is None:
            status = {"alpha": "verified", "clip_dissect": "self-reported"}
        facts = found.info["facts"] | ({"validation": {"methods": status}} if status else {})
        atomic.write_json(found.folder.path / "run.json", {**found.info, "facts": facts})
    board = build_board(merge_runs(tmp_path / "runs"))
    said = as_frame(board).groupby("method")["validation"].unique()
    assert {name: list(values) for name, values in said.items()} == {
        "alpha": ["verified"],
        "clip_dissect": ["self-reported"],
    }
    write_site(board, tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert '<span class="sub">self-reported</span>' in page
    assert CONTACT not in page
    plain = build_board(merge_runs(tmp_path / "runs" / "own"))
    write_site(plain, tmp_path / "plain")
    assert "self-reported" not in (tmp_path / "plain" / "index.html").read_text()
