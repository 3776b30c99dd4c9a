"""The faithfulness of stored labels: on the real miniature at reduced size, and on fakes for the edge cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from baselines.linear.method import split
from benchmark.core.display import Display
from benchmark.core.faithfulness import measure_run, wanted_images
from benchmark.core.label_images import PROMPT, draw
from benchmark.core.presence import Presence
from benchmark.core.work import Work
from leaderboard.store.run_folder import CellKey, RunFolder
from leaderboard.store.schema import FAITHFULNESS
from tasks.cache.blobs import BlobStore
from tasks.catalogue import load_task
from tasks.common.seeding import integer_seed
from tasks.observe import CLEAN, Condition
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.view import View

MEASURES = ["cosy_auc", "cosy_mad", "dma", "activation_rate", "f1", "iou", "correlation", "cosine", "auprc"]
BLUR = Condition("gaussian_blur", 3)
QUIET = Display("quiet")

Labels = Mapping[int, str]


def work(units: tuple[int, ...], images: int, methods: tuple[str, ...], **changes) -> Work:
    task = load_task(changes.pop("task", "resnet50_fc"))
    values = {"conditions": (CLEAN, BLUR), "repeats": 2} | changes
    return Work(task=task, profile="miniature", methods=methods, images=images, units=units, **values)


def filled(
    path: Path, work: Work, labels: Mapping[str, Labels], dead: tuple[int, ...] = (), condition: Condition = CLEAN
) -> RunFolder:
    """A run folder as the sweep leaves it, with labels of our own; a second call replaces what it names again."""
    folder = RunFolder(path)
    folder.create_or_continue({"test": path.name}, {})
    key = work.observation_key(CLEAN)
    evidence = pd.DataFrame({"unit": [0], "rank": 1, "image": "none", "activation": 0.0})
    for old in folder.path.glob(f"parts/evidence/{key.name}*"):
        old.unlink()
    folder.write_evidence(key, evidence, {"dead": list(dead)})
    for method, own in labels.items():
        cell = CellKey(work.task.name, work.profile, method, condition.name, condition.severity, 0)
        ranks = [1] * len(own) + [2] * len(own)
        frame = pd.DataFrame({"unit": [*own, *own], "rank": ranks, "label": [*own.values(), *["runner-up"] * len(own)]})
        for old in folder.path.glob(f"parts/labels/{cell.name}*"):
            old.unlink()
        folder.write_cell(cell, frame.assign(score=1.0))
    return folder


# ---- the miniature ----


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


IMAGES = 100
UNITS = (0, 3, 6, 12, 17, 26, 29, 36, 40, 44)


@pytest.fixture(scope="module")
def named(roles: Roles) -> dict[str, dict[int, str]]:
    names = roles.class_names()
    assert names is not None
    # A label wanders to the next unit, so that both methods give the same labels.
    shuffled = dict(zip(UNITS, [names[unit] for unit in (*UNITS[1:], UNITS[0])], strict=True))
    return {"right": {unit: names[unit] for unit in UNITS}, "shuffled": shuffled}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, roles: Roles, named: dict) -> pd.DataFrame:
    mine = work(UNITS, IMAGES, ("right", "shuffled"))
    folder = filled(tmp_path_factory.mktemp("faith") / "run", mine, named)
    return measure_run(folder, [mine], roles, 0, "clean", QUIET, count=5)


@pytest.mark.parametrize(
    ("measure", "gap"),
    [
        ("cosy_auc", 0.3),
        ("cosy_mad", 1),
        ("dma", 0.2),
        ("activation_rate", 0.2),
        ("simulation_by_annotation", 0.5),
        ("f1", 0.3),
        ("iou", 0.2),
        ("correlation", 0.5),
        ("cosine", 0.4),
        ("auprc", 0.2),
    ],
)
def test_true_names_of_class_units_beat_shuffled_ones(measured: pd.DataFrame, measure: str, gap: float) -> None:
    means = measured.groupby("method")[measure].mean()
    assert means["right"] - means["shuffled"] > gap
    assert not measured[measure].isna().any()


def test_names_of_the_world_are_looked_up_in_the_annotation(measured: pd.DataFrame) -> None:
    assert set(measured["presence"]) == {"annotation"}
    assert list(measured.columns) == [column.name for column in FAITHFULNESS.columns]
    assert len(measured) == 2 * len(UNITS)


@pytest.mark.parametrize("batch_size", [64, 4])
def test_no_number_depends_on_order_other_labels_or_batches(
    measured: pd.DataFrame, roles: Roles, named: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    mine = work(UNITS, IMAGES, ("right", "other"))
    some = {unit: named["right"][unit] for unit in reversed(UNITS[::3])}
    folder = filled(tmp_path / "run", mine, {"other": {3: "giraffe"}, "right": some})
    monkeypatch.setattr(roles.target("resnet50"), "batch_size", batch_size)
    again = measure_run(folder, [mine], roles, 0, "clean", QUIET, count=5)
    again = again[again["method"] == "right"].set_index("unit")[MEASURES]
    before = measured[measured["method"] == "right"].set_index("unit").loc[again.index, MEASURES]
    assert len(again) == len(some)
    # Another batch size may change the last digits of an activation.
    tolerance = 0 if batch_size == 64 else 1e-4
    np.testing.assert_allclose(again.to_numpy(), before.to_numpy(), rtol=tolerance, atol=tolerance)


def test_clip_finds_concepts_about_where_the_annotation_has_them(roles: Roles) -> None:
    probing = roles.probing_set("scenes", IMAGES, roles.view("resnet50"))
    names = probing.concepts
    by_clip = Presence(replace(probing, concepts=()), roles)
    found = [by_clip.of(name) for name in names[::3]]
    assert {how for _, how in found} == {"clip"}
    agreement = [f1_score(probing.presence[:, 3 * index], shown) for index, (shown, _) in enumerate(found)]
    assert np.mean(agreement) > 0.85


# ---- fakes ----


class ColourNetwork:
    """Its units are the mean of red, green and blue, and one that never moves."""

    def __init__(self) -> None:
        self.images = 0

    def read(self, images: torch.Tensor, layers: Mapping[str, str]) -> dict[str, SimpleNamespace]:
        self.images += len(images)
        pooled = torch.cat([images.double().mean((2, 3)), torch.zeros(len(images), 1)], dim=1)
        return {layer: SimpleNamespace(pooled=pooled) for layer in layers}


class Painter:
    """Fills images with a colour of the text's own, by the seed."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, str]] = []

    def generate(self, concept: str, count: int, seed: int, template: str = "{concept}") -> torch.Tensor:
        self.asked.append((concept, count, seed, template))
        colours = np.random.default_rng(seed).integers(0, 256, (count, 3, 1, 1), dtype=np.uint8)
        return torch.from_numpy(colours).expand(count, 3, 8, 8)


class FakeClip:
    """Embeds an image by its redness, and any text as (1, 0); a blank image is like every text."""

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        red = images.float().mean((2, 3))[:, 0] / 255
        return torch.stack([red, (1 - red**2).clamp(0).sqrt()], dim=1)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]] * len(texts))


class FakeRoles:
    def __init__(self, images: torch.Tensor, presence: np.ndarray | None = None, generator: object = None) -> None:
        self.profile = SimpleNamespace(name="mine", knows_only_scenes=False, simulator=None, generator=generator)
        self.generator = generator
        self.clip = FakeClip()
        self.simulator = None
        self.network = ColourNetwork()
        known = () if presence is None else ("red", "fish")
        self._probing = SimpleNamespace(
            images=images,
            ids=tuple(f"{number:02}" for number in range(len(images))),
            digest="images",
            load=lambda part: images[list(part)],
            concepts=known,
            presence=presence,
        )

    def simulated_by(self, encoder: object, scale: float = 9.0, shift: float = -0.4) -> FakeRoles:
        self.simulator = encoder
        self.profile.simulator = SimpleNamespace(scale=scale, shift=shift)
        return self

    def view(self, model: str) -> View:
        return View(8)

    def probing_set(self, name: str, count: int, view: View) -> SimpleNamespace:
        return self._probing

    def target(self, name: str) -> ColourNetwork:
        return self.network

    def synonyms(self) -> dict[str, tuple[str, ...]]:
        return {"red": ("crimson",)}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture
def shown(images: torch.Tensor) -> np.ndarray:
    red = images[:, 0].double().mean((1, 2)).numpy()
    return np.stack([red > np.median(red), np.arange(40) % 4 == 0], axis=1)


@pytest.fixture
def fake(images: torch.Tensor, shown: np.ndarray) -> FakeRoles:
    return FakeRoles(images, shown, Painter())


def measure(folder: RunFolder, mine: Work, fake: FakeRoles, scope: str = "clean", **more) -> pd.DataFrame:
    return measure_run(folder, [mine], fake, 7, scope, QUIET, **more)  # pyright: ignore[reportArgumentType]


def test_numbers_are_those_of_the_reference_implementations(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "crimson", 1: "depiction"}})
    rows = measure(folder, mine, fake, count=6).set_index("unit")
    clean = fake.network.read(fake.probing_set("", 40, View(8)).images, {"fc": "mean"})["fc"].pooled.numpy()
    for unit, text in ((0, "crimson"), (1, "depiction")):
        drawn = Painter().generate(text, 6, integer_seed(7, "faithfulness", text))
        synthetic = fake.network.read(drawn, {"fc": "mean"})["fc"].pooled.numpy()
        both = np.concatenate([clean[:, unit], synthetic[:, unit]])
        assert rows["cosy_auc"][unit] == pytest.approx(roc_auc_score([0] * 40 + [1] * 6, both))
        mad = (synthetic[:, unit].mean() - clean[:, unit].mean()) / clean[:, unit].std(ddof=1)
        assert rows["cosy_mad"][unit] == pytest.approx(mad)
        assert rows["dma"][unit] == pytest.approx(synthetic[:, unit].mean() / clean[:, unit].max())
        # One per cent of forty images is rounded up to one.
        assert rows["activation_rate"][unit] == (synthetic[:, unit] > np.sort(clean[:, unit])[-2]).mean()
    active = clean[:, 0] >= np.sort(clean[:, 0])[-2]
    present = fake.probing_set("", 40, View(8)).presence[:, 0]
    assert rows["f1"][0] == pytest.approx(f1_score(active, present))
    assert rows["iou"][0] == pytest.approx(jaccard_score(active, present))
    assert rows["auprc"][0] == pytest.approx(average_precision_score(active, present))
    assert rows["correlation"][0] == pytest.approx(np.corrcoef(clean[:, 0], present)[0, 1])
    assert list(rows["presence"]) == ["annotation", "clip"]


# ---- simulation ----


class SecondClip:
    """Embeds an image by its blueness; "blue" lies along it, every other text across."""

    def __init__(self) -> None:
        self.images = 0

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        blue = images.float().mean((2, 3))[:, 2] / 255
        return torch.stack([blue, (1 - blue**2).clamp(0).sqrt()], dim=1)

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0] if text == "blue" else [0.0, 1.0] for text in texts])


def summed(folder: RunFolder, mine: Work, sums: Mapping[int, object], text: str = "red", bias: object = 0.5) -> None:
    """Cells of a method that notes weighted sums."""
    cell = CellKey(mine.task.name, mine.profile, "sums", "clean", 0, 0)
    frame = pd.DataFrame({"unit": [*sums], "rank": 1, "label": text, "score": 1.0})
    folder.write_cell(cell, frame, {"units": {str(u): {"sum": one, "bias": bias} for u, one in sums.items()}})


def test_labels_and_sums_are_simulated_by_annotation_on_the_images_that_nothing_was_fitted_to(
    fake: FakeRoles, shown: np.ndarray, tmp_path: Path
) -> None:
    mine = work((0, 1), 40, ("a", "sums"))
    folder = filled(tmp_path / "run", mine, {"a": {0: "crimson", 1: "depiction"}})
    summed(folder, mine, {0: [["red", 2.0], ["fish", -0.5]], 1: [["red", 1.0], ["a word", 1.0]]})
    rows = measure(folder, mine, fake, count=2).set_index(["method", "unit"])["simulation_by_annotation"]
    test = split(fake.probing_set("", 40, View(8)).ids, 7)[2]
    assert len(test) == 8
    red = fake.probing_set("", 40, View(8)).images[:, 0].double().mean((1, 2)).numpy()[test]
    assert rows["a", 0] == pytest.approx(np.corrcoef(red, shown[test, 0])[0, 1])
    assert rows["sums", 0] == pytest.approx(np.corrcoef(red, 2.0 * shown[test, 0] - 0.5 * shown[test, 1])[0, 1])
    # Neither the label nor a word of the sum is annotated.
    assert np.isnan(rows["a", 1])
    assert np.isnan(rows["sums", 1])


def test_a_second_encoder_simulates_what_the_annotation_cannot(fake: FakeRoles, tmp_path: Path) -> None:
    encoder = SecondClip()
    mine = work((0, 2), 40, ("a", "sums"))
    folder = filled(tmp_path / "run", mine, {"a": {0: "blue", 2: "blue"}})
    summed(folder, mine, {2: [["blue", 3.0], ["red", -1.0]]})
    without = measure(folder, mine, fake, count=2)
    assert without["simulation_correlation"].isna().all()
    table = measure(folder, mine, fake.simulated_by(encoder), count=2)
    assert table["simulation_correlation"].isna().all(), (
        "the table was stored for a profile that is part of the identity"
    )
    other = filled(tmp_path / "other", mine, {"a": {0: "blue", 2: "blue"}})
    summed(other, mine, {2: [["blue", 3.0], ["red", -1.0]]})
    rows = measure(other, mine, fake, count=2).set_index(["method", "unit"])["simulation_correlation"]
    test = split(fake.probing_set("", 40, View(8)).ids, 7)[2]
    assert encoder.images == len(test)
    pixels = fake.probing_set("", 40, View(8)).images[test].double().mean((2, 3)).numpy()
    blue = pixels[:, 2] / 255
    along, across = (1 / (1 + np.exp(-9 * (cosine - 0.4))) for cosine in (blue, np.sqrt(1 - blue**2)))
    for unit in (0, 2):
        assert rows["a", unit] == pytest.approx(np.corrcoef(pixels[:, unit], along)[0, 1], abs=1e-5)
    assert rows["sums", 2] == pytest.approx(np.corrcoef(pixels[:, 2], 3 * along - across)[0, 1], abs=1e-5)


def test_a_constant_prediction_is_worth_nothing_and_a_silent_unit_has_no_value(
    images: torch.Tensor, tmp_path: Path
) -> None:
    nowhere = np.stack([np.zeros(40, bool), np.arange(40) % 2 == 0], axis=1)
    mine = work((0, 3), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 3: "fish"}})
    rows = measure(folder, mine, FakeRoles(images, nowhere)).set_index("unit")["simulation_by_annotation"]
    assert rows[0] == 0.0
    assert np.isnan(rows[3])


@pytest.mark.parametrize(
    ("noted", "bias"),
    [
        ("red", 0.0),
        ([["red", "much"]], 0.0),
        ([["red"]], 0.0),
        ({"red": 1}, 0),
        ([["red", 1e400]], 0),
        ([["red", 1]], None),
        (7, 0),
    ],
)
def test_a_note_of_another_form_is_no_sum(
    fake: FakeRoles, shown: np.ndarray, tmp_path: Path, noted: object, bias: object
) -> None:
    mine = work((0,), 40, ("sums",))
    folder = filled(tmp_path / "run", mine, {})
    summed(folder, mine, {0: noted}, text="fish", bias=bias)
    row = measure(folder, mine, fake, count=2).iloc[0]
    test = split(fake.probing_set("", 40, View(8)).ids, 7)[2]
    red = fake.probing_set("", 40, View(8)).images[:, 0].double().mean((1, 2)).numpy()[test]
    assert row["simulation_by_annotation"] == pytest.approx(np.corrcoef(red, shown[test, 1])[0, 1])


def test_each_text_is_drawn_once_whoever_gives_it(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a", "b"))
    other = work((2,), 40, ("a", "b"), task="resnet18_layer4")
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "red"}, "b": {0: "red", 1: "fish"}})
    filled(tmp_path / "run", other, {"a": {2: "red"}})
    table = measure_run(folder, [mine, other], fake, 7, "clean", QUIET, count=3)  # pyright: ignore[reportArgumentType]
    assert fake.generator.asked == [
        (text, 3, integer_seed(7, "faithfulness", text), PROMPT) for text in ("fish", "red")
    ]
    assert len(table) == 5
    # Two networks read the probing images; one of them reads "fish".
    assert fake.network.images == 2 * 40 + 2 * 3 + 3


def test_what_other_processes_drew_is_read_instead(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a", "b"))
    other = work((1, 2), 40, ("a", "b"), task="resnet18_layer4")
    labels = {"a": {0: "red", 1: "red"}, "b": {0: "ruby", 1: "fish"}}
    alone, together = (filled(tmp_path / name, mine, labels) for name in ("alone", "together"))
    for folder in (alone, together):
        filled(folder.path, other, {"a": {2: "red"}})
    roles, works = fake, [mine, other]
    given = works, roles, 7, "clean"
    measure_run(alone, *given, QUIET, count=3)  # pyright: ignore[reportArgumentType]
    asked = wanted_images(together, *given, 3)  # pyright: ignore[reportArgumentType]
    assert [(one.label, len(one.tasks)) for one in asked] == [("fish", 1), ("red", 2), ("ruby", 1)]
    drawn = BlobStore(tmp_path / "drawn")
    for some in (asked[:1], asked[1:]):  # each by another process; a lost one is drawn here
        for one, found in draw(some, works, roles, 7).items():  # pyright: ignore[reportArgumentType]
            if one.label != "ruby":
                drawn.put(one.facts(), {task: torch.from_numpy(values) for task, values in found.items()})
    fake.generator.asked = []
    measure_run(together, *given, QUIET, count=3, drawn=drawn)  # pyright: ignore[reportArgumentType]
    assert [text for text, *_ in fake.generator.asked] == ["ruby"]
    tables = [(folder.path / "faithfulness.parquet").read_bytes() for folder in (alone, together)]
    assert tables[0] == tables[1]
    assert wanted_images(together, *given, 3) == []  # pyright: ignore[reportArgumentType]


def test_tasks_of_one_network_share_its_passes(fake: FakeRoles, tmp_path: Path) -> None:
    mine, other = work((0,), 40, ("a",)), work((1,), 40, ("a",), task="resnet50_layer4")
    folder = filled(tmp_path / "run", mine, {"a": {0: "red"}})
    filled(tmp_path / "run", other, {"a": {1: "red"}})
    table = measure_run(folder, [mine, other], fake, 7, "clean", QUIET, count=3)  # pyright: ignore[reportArgumentType]
    assert set(table["task"]) == {"resnet50_fc", "resnet50_layer4"}
    assert fake.network.images == 40 + 3


def test_scopes_say_which_labels_are_measured(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    filled(tmp_path / "run", mine, {"a": {0: "red", 1: "cup"}}, condition=BLUR)
    folder.write_cell(
        CellKey(mine.task.name, mine.profile, "a", "clean", 0, 1),
        pd.DataFrame({"unit": [0], "rank": [1], "label": ["crimson"], "score": [1.0]}),
    )
    assert measure(folder, mine, fake, "none").empty
    assert not (folder.path / "faithfulness.parquet").exists()
    clean = measure(folder, mine, fake, "clean")
    assert list(clean["label"]) == ["red", "fish"]
    every = measure(folder, mine, fake, "all")
    assert list(every[["perturbation", "repeat", "label"]].itertuples(index=False, name=None)) == [
        ("clean", 0, "red"),
        ("clean", 0, "fish"),
        ("clean", 1, "crimson"),
        ("gaussian_blur", 0, "red"),
        ("gaussian_blur", 0, "cup"),
    ]
    # The unit is read on clean images, so the same label scores the same under any condition.
    by_label = every[every["label"] == "red"][MEASURES].to_numpy()
    assert np.array_equal(by_label[0], by_label[1])
    assert "runner-up" not in set(every["label"])


def test_dead_units_and_missing_labels_have_no_row(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1, 2, 3), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 2: " ", 3: "red"}}, dead=(3,))
    assert list(measure(folder, mine, fake)["unit"]) == [0]


def test_a_unit_that_never_moves_has_no_measure_of_response(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 3), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 3: "red"}})
    still = measure(folder, mine, fake).set_index("unit").loc[3]
    assert still[["f1", "iou", "correlation", "cosine", "auprc"]].isna().all()
    assert (still["cosy_auc"], still["cosy_mad"]) == (0.5, 0.0)


def test_a_run_without_labels_has_an_empty_table(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0,), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "  "}})
    assert measure(folder, mine, fake).empty
    assert folder.read_table("faithfulness").empty
    assert not fake.generator.asked


def test_without_a_generator_the_rest_is_measured_and_the_reason_kept(
    images: torch.Tensor, shown: np.ndarray, tmp_path: Path
) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    table = measure(folder, mine, FakeRoles(images, shown))
    assert table[["cosy_auc", "cosy_mad", "dma", "activation_rate"]].isna().all(axis=None)
    assert table[["f1", "iou", "correlation", "cosine", "auprc"]].notna().all(axis=None)
    assert facts(folder)["without_cosy"] == "The profile mine has no image generator."


def test_a_label_that_no_image_shows_scores_nothing_rather_than_being_left_out(
    images: torch.Tensor, tmp_path: Path
) -> None:
    mine = work((0,), 40, ("a",))
    nowhere = np.stack([np.zeros(40, bool), np.arange(40) % 2 == 0], axis=1)
    folder = filled(tmp_path / "run", mine, {"a": {0: "red fish"}})
    row = measure(folder, mine, FakeRoles(images, nowhere)).iloc[0]
    assert tuple(row[["f1", "iou", "correlation", "cosine"]]) == (0.0, 0.0, 0.0, 0.0)
    assert row["auprc"] == pytest.approx(2 / 40)


def test_the_same_labels_are_not_measured_twice(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    first = measure(folder, mine, fake)
    data = (folder.path / "faithfulness.parquet").read_bytes()
    fake.network.images, fake.generator.asked = 0, []
    pd.testing.assert_frame_equal(measure(folder, mine, fake), first)
    assert (fake.network.images, fake.generator.asked) == (0, [])
    (folder.path / "faithfulness.parquet").write_bytes(data[:-20])
    pd.testing.assert_frame_equal(measure(folder, mine, fake), first)
    assert (folder.path / "faithfulness.parquet").read_bytes() == data


def test_other_labels_or_settings_are_measured_anew(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    first = measure(folder, mine, fake)
    filled(tmp_path / "run", mine, {"a": {0: "fish", 1: "fish"}})
    second = measure(folder, mine, fake)
    assert list(second["label"]) == ["fish", "fish"]
    third = measure(folder, mine, fake, count=4)
    assert second["cosy_mad"][0] != third["cosy_mad"][0]
    assert second["f1"].equals(third["f1"])
    assert facts(folder)["images_per_label"] == 4
    filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    pd.testing.assert_frame_equal(measure(folder, mine, fake), first)


def test_a_kill_between_table_and_key_leaves_nothing_that_is_trusted(
    fake: FakeRoles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = work((0, 1), 40, ("a",))
    folder = filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}})
    clean = measure(folder, mine, fake)
    filled(tmp_path / "run", mine, {"a": {0: "red", 1: "fish"}}, condition=BLUR)

    real = RunFolder.record
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "record", lambda self, name, noted: dies(noted) or real(self, name, noted))
        with pytest.raises(KeyboardInterrupt):
            measure(folder, mine, fake, "all")
    pd.testing.assert_frame_equal(measure(folder, mine, fake, "clean"), clean)


def test_a_count_below_one_is_refused(fake: FakeRoles, tmp_path: Path) -> None:
    mine = work((0,), 40, ("a",))
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        measure(filled(tmp_path / "run", mine, {"a": {0: "red"}}), mine, fake, count=0)


@pytest.mark.parametrize(("label", "columns"), [("red", [0]), ("a crimson FISH", [0, 1]), ("fishes", [1])])
def test_a_label_shows_where_all_its_concepts_do(
    fake: FakeRoles, shown: np.ndarray, label: str, columns: list[int]
) -> None:
    found, how = presence_of(fake, label)
    assert how == "annotation"
    assert np.array_equal(found, shown[:, columns].all(axis=1))


def test_other_labels_show_where_clip_finds_them_unusually_alike(images: torch.Tensor) -> None:
    red = images[:, 0].float().mean((1, 2)).numpy()
    found, how = presence_of(FakeRoles(images), "red")
    assert how == "clip"
    assert np.array_equal(found, red > red.mean() + red.std())
    assert 0 < found.sum() < 20


def test_where_all_images_are_alike_clip_finds_none() -> None:
    found, _ = presence_of(FakeRoles(torch.full((7, 3, 8, 8), 100, dtype=torch.uint8)), "anything")
    assert not found.any()


def presence_of(fake: FakeRoles, label: str) -> tuple[np.ndarray, str]:
    return Presence(fake.probing_set("", 40, View(8)), fake).of(label)  # pyright: ignore[reportArgumentType]


def facts(folder: RunFolder) -> dict:
    return json.loads((folder.path / "run.json").read_text())["facts"]["faithfulness"]


def dies(noted: Mapping[str, object]) -> None:
    if noted.get("scope"):
        raise KeyboardInterrupt
