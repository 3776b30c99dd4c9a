"""The bar charts of single decisions show the store's numbers."""

from __future__ import annotations

import pytest
from bottleneck_tables import decision, decisions, thumbnails

from leaderboard.board.facts import RunFacts
from report.figures.bottleneck import CONCEPTS, FLIPS, Panel, decision_figures, panels

NOTED = RunFacts(note="Measured in a garden.")


def drawn(own=None, pictures=None):
    (found,) = decision_figures(
        decisions() if own is None else own, thumbnails() if pictures is None else pictures, NOTED
    ).values()
    return found


def charts(drawing):
    return {axes.get_label(): axes for axes in drawing.figure.axes if axes.get_label()}


def test_bars_are_the_strongest_concepts_and_the_rest_together():
    part = decision("a", "fog", 3, "plant", "shape")
    clean, perturbed = Panel(part, False).bars(), Panel(part, True).bars()
    assert [name for name, _ in clean] == ["c0", "NOT c1", "c2", "NOT c3", "c4", "NOT c5", "all others"]
    assert [value for _, value in clean[:2]] == [2.0, -1.0]
    assert sum(value for _, value in clean) == pytest.approx(part["clean_contribution"].sum())
    assert perturbed[0] == ("NOT c0", -1.0)
    assert sum(value for _, value in perturbed) == pytest.approx(part["contribution"].sum())


def test_few_concepts_have_no_rest_and_zeros_no_bar():
    part = decision("b", "clean", 0, "shape", "shape", concepts=3)
    part.loc[2, "clean_contribution"] = 0.0
    assert [name for name, _ in Panel(part, False).bars()] == ["c0", "NOT c1"]


def test_rows_are_two_that_stay_then_flips_of_other_classes_first():
    rows = [[(p.told["image"], *p.condition, p.decision) for p in row] for row in panels(decisions(), FLIPS)]
    assert rows[0] == [("a", "clean", 0, "plant"), ("b", "clean", 0, "shape")]
    assert rows[1] == [("a", "clean", 0, "plant"), ("a", "fog", 3, "shape")]
    assert rows[2] == [("b", "clean", 0, "shape"), ("b", "unseen_background", 0, "plant")]
    assert len(rows) == 1 + FLIPS


def test_the_drawn_bars_are_those_numbers_on_one_scale():
    axes = charts(drawn())
    widths = [bar.get_width() for bar in axes["a fog 3"].patches]
    assert widths == pytest.approx(
        [value for _, value in Panel(decision("a", "fog", 3, "plant", "shape"), True).bars()]
    )
    assert len(widths) == CONCEPTS + 1
    assert len({one.get_xlim() for one in axes.values()}) == 1
    names = [label.get_text() for label in axes["a fog 3"].get_yticklabels()]
    assert names[:2] == ["NOT c0", "c1"]


def test_titles_say_whether_the_decision_is_right():
    texts = [text.get_text() for text in drawn().figure.texts]
    assert "clean: plant (right)" in texts
    assert "fog 3: shape (wrong: plant)" in texts
    assert "unseen background: plant (wrong: shape)" in texts


def test_pictures_are_shown_where_there_are_some():
    assert sum(len(axes.images) for axes in drawn().figure.axes) == 5
    assert sum(len(axes.images) for axes in drawn(pictures=thumbnails().iloc[:0]).figure.axes) == 0
    broken = thumbnails().assign(webp=b"x")
    assert drawn(pictures=broken).data("png")


def test_the_alternative_says_what_flips_and_why():
    words = drawn().alternative
    assert "Under fog 3 a decision moves from plant to shape, mostly because of c8 (+8.0)." in words
    assert "A clean image is called plant, most for c0 (+2.0)." in words


def test_the_same_rows_in_any_order_give_the_same_bytes():
    shuffled = decisions().sample(frac=1, random_state=0)
    assert drawn().data("png") == drawn(own=shuffled).data("png")


def test_no_decisions_no_figure():
    assert decision_figures(decisions().iloc[:0], thumbnails(), NOTED) == {}
