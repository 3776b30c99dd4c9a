"""The renderer against a rasteriser written here, and its annotation against the scene graph."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from drawn_scenes import drawn, inside
from scipy.ndimage import binary_dilation, gaussian_filter
from skimage.draw import polygon2mask

from tasks.miniature.backgrounds import paint_background
from tasks.miniature.render import GRAIN, _grain, outline, render
from tasks.miniature.scene import Scene, Thing, scene_at
from tasks.miniature.shapes import PIECES
from tasks.miniature.vocabulary import BACKGROUNDS, COLOURS, KINDS, PARTS, PARTS_OF, PATTERNS, SIZE

FINE = 6


def a_scene(*things, background="cloudy sky", light=1.0):
    return Scene(background=background, things=things, light=light, light_angle=0.3, seed=5)


def a_thing(kind, **changes):
    settings = {"colour": "red", "pattern": "solid", "parts": PARTS_OF.get(kind, ()), "x": 112.0, "y": 112.0}
    settings |= {"radius": 60.0, "angle": 0.1, "pattern_scale": 20.0, "pattern_angle": 0.5}
    return Thing(kind=kind, **(settings | changes))


def test_the_rasteriser_of_the_tests_agrees_with_scikit_image():
    for kind in ("star", "fish", "cup"):
        for polygon, _ in outline(a_thing(kind, x=30.3, y=28.6, radius=22.0)):
            expected = polygon2mask((56, 56), np.asarray(polygon)[:, ::-1] - 0.5)
            own = inside(polygon, 56, 1)
            assert (own != expected).sum() <= 2
            assert own.sum() > 5


def test_foreground_agrees_with_an_independent_rasteriser():
    overlaps = []
    for scene, picture in drawn():
        covered = np.zeros((SIZE * FINE, SIZE * FINE), bool)
        for thing in scene.things:
            for polygon, _ in outline(thing):
                covered |= inside(polygon, SIZE, FINE)
        truth = covered.reshape(SIZE, FINE, SIZE, FINE).mean((1, 3)) >= 0.5
        overlaps.append((truth & picture.foreground).sum() / (truth | picture.foreground).sum())
    assert np.mean(overlaps) >= 0.99
    assert np.min(overlaps) >= 0.98


def test_parts_and_paint_agree_with_painting_the_polygons_back_to_front():
    right = {"part": [], "colour": []}
    for scene, picture in drawn():
        part = np.zeros((SIZE, SIZE), int)
        colour = np.zeros((SIZE, SIZE), int)
        for thing in scene.things:
            for polygon, piece in outline(thing):
                where = inside(polygon, SIZE, 1)
                part[where] = 1 + PARTS.index(piece.part) if piece.part else 0
                colour[where] = 0 if piece.paint else 1 + list(COLOURS).index(thing.colour)
        right["part"].append((part == picture.part)[picture.foreground].mean())
        right["colour"].append((colour == picture.colour)[picture.foreground].mean())
    assert np.mean(right["part"]) >= 0.98
    assert np.mean(right["colour"]) >= 0.98


def test_annotation_follows_the_scene_graph():
    for scene, picture in drawn():
        assert np.array_equal(picture.kind > 0, picture.foreground)
        assert set(np.unique(picture.kind)) - {0} == {1 + KINDS.index(thing.kind) for thing in scene.things}
        for layer in (picture.part, picture.colour, picture.pattern):
            assert not layer[~picture.foreground].any()
        assert np.array_equal(picture.colour > 0, picture.pattern > 0)
        for thing in scene.things:
            own = picture.kind == 1 + KINDS.index(thing.kind)
            assert set(np.unique(picture.colour[own])) - {0} == {1 + list(COLOURS).index(thing.colour)}
            assert set(np.unique(picture.pattern[own])) - {0} == {1 + PATTERNS.index(thing.pattern)}
            assert set(np.unique(picture.part[own])) - {0} == {1 + PARTS.index(part) for part in thing.parts}


def test_the_picture_shows_the_colours():
    """The relief goes both ways about an object's colour, and patterns are coarser than it."""
    named = np.array(list(COLOURS.values()))
    for place, colour in enumerate(COLOURS):
        picture = render(a_scene(a_thing("circle", colour=colour)))
        centre = picture.image[72:152, 72:152].reshape(-1, 3).mean(0)
        assert np.linalg.norm(named - centre, axis=1).argmin() == place, colour
        assert np.abs(centre - named[place]).max() < 26, colour
        striped = render(a_scene(a_thing("circle", colour=colour, pattern="striped", pattern_scale=30.0)))
        spread, plain = (
            gaussian_filter(item.image[72:152, 72:152].astype(float), (5, 5, 0)).std((0, 1)).max()
            for item in (striped, picture)
        )
        assert spread > plain + 8, colour


def test_kinds_differ_in_their_surface_alone():
    """On the same outline the surfaces of two kinds are two pictures; the relief turns with its object."""
    thing = a_thing("circle", parts=())
    picture = render(a_scene(thing)).image.astype(int)
    assert picture[72:152, 72:152].std((0, 1)).min() > 15
    turned = render(a_scene(replace(thing, angle=thing.angle + 0.5))).image.astype(int)
    coarser = render(a_scene(replace(thing, grain=1.4))).image.astype(int)
    for other in (turned, coarser):
        assert np.abs(picture - other)[72:152, 72:152].mean() > 15


def test_grain_is_faint_or_strong_and_a_little_larger_than_a_pixel():
    fields = [_grain(np.random.default_rng(seed)) for seed in range(100)]
    strengths = np.array([field.std() for field in fields])
    assert 0.5 * GRAIN < strengths.max() < GRAIN
    assert strengths.min() < 0.1 * GRAIN
    assert max(np.abs(field.mean((0, 1))).max() for field in fields) < 0.05 * GRAIN
    for field in fields[:20]:
        # 0.5² of the variance is lightness and 0.7² colour.
        assert np.corrcoef(field[..., 0].ravel(), field[..., 2].ravel())[0, 1] == pytest.approx(0.25 / 0.74, abs=0.05)
        beside, apart = (np.corrcoef(field[:, :-step].ravel(), field[:, step:].ravel())[0, 1] for step in (1, 5))
        assert beside > 0.4
        assert abs(apart) < 0.05


def test_outlines_are_bent_and_squeezed_within_their_radius():
    for kind in KINDS:
        still = a_thing(kind)
        reach = [np.linalg.norm(points - (112, 112), axis=1).max() for points, _ in outline(still)]
        assert max(reach) <= still.radius + 1e-9
        for changes in ({"bend": 0.2, "waves": (0.3, 2.0, 4.0, 5.0)}, {"squeeze": (0.6, 1.0)}):
            moved = outline(replace(still, **changes))
            assert max(np.linalg.norm(points - (112, 112), axis=1).max() for points, _ in moved) <= still.radius + 1e-9
            far = [np.abs(now - before).max() for (now, _), (before, _) in zip(moved, outline(still), strict=True)]
            assert max(far) > 0.1 * still.radius


def test_the_greys_of_parts_are_drawn_but_eyes_stay_eyes():
    thing = a_thing("fish", colour="orange")
    first, second = (render(a_scene(replace(thing, trim=trim))) for trim in ((0.1, 0.5, 0.9), (0.9, 0.2, 0.4)))
    assert np.array_equal(first.image, second.image)
    thing = a_thing("house", colour="orange")
    first, second = (render(a_scene(replace(thing, trim=trim))) for trim in ((0.1, 0.5, 0.9), (0.9, 0.2, 0.4)))
    changed = (first.image != second.image).any(2)
    assert changed[first.part > 0].mean() > 0.95
    assert changed[first.colour > 0].mean() < 0.1
    assert np.array_equal(first.part, second.part)


@pytest.mark.parametrize("pattern", ["striped", "dotted", "checked"])
def test_a_pattern_stays_in_its_object_and_repeats(pattern):
    plain = render(a_scene(a_thing("heart")))
    other = render(a_scene(a_thing("heart", pattern=pattern)))
    changed = (plain.image != other.image).any(2)
    assert not changed[~binary_dilation(plain.foreground, np.ones((5, 5)))].any()
    assert 0.15 < changed[plain.foreground].mean() < 0.85


def test_without_an_optional_part_its_paint_is_gone():
    whole = render(a_scene(a_thing("house")))
    bare = render(a_scene(a_thing("house", parts=("roof",))))
    window = 1 + PARTS.index("window")
    assert (whole.part == window).any()
    assert not (bare.part == window).any()
    assert (bare.image != whole.image).any(2)[whole.part == window].mean() > 0.95
    # The door ends where the house does: pixels at that edge may be covered a little more.
    assert (bare.foreground != whole.foreground).sum() <= 0.005 * whole.foreground.sum()


def test_the_shadow_is_background_and_darkens_it():
    scene = a_scene(a_thing("circle"), background="sandy beach")
    empty = render(a_scene(background="sandy beach"))
    picture = render(scene)
    change = picture.image.astype(int).sum(2) - empty.image.astype(int).sum(2)
    around = ~picture.foreground & (change != 0)
    assert around.sum() > 200
    assert change[around].mean() < 0
    assert not empty.foreground.any()


def test_every_kind_is_drawn_whole_in_every_part_table():
    assert set(PIECES) == set(KINDS)
    for kind, pieces in PIECES.items():
        assert {piece.part for piece in pieces} - {None} == set(PARTS_OF.get(kind, ())), kind
        assert max(np.linalg.norm(piece.polygon, axis=1).max() for piece in pieces) <= 1.1, kind


def test_rotation_and_place_move_the_mask():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        x, y = rng.uniform(80, 140, 2)
        picture = render(a_scene(a_thing(kind, x=x, y=y, radius=40.0)))
        rows, columns = np.nonzero(picture.foreground)
        assert abs((columns + 0.5).mean() - x) < 16
        assert abs((rows + 0.5).mean() - y) < 16
        turned = render(a_scene(a_thing(kind, x=x, y=y, radius=40.0, angle=0.6)))
        assert abs(int(turned.foreground.sum()) - len(rows)) < 0.02 * len(rows) + 8


def test_pixels_are_the_same_again_and_in_threads():
    scenes = [scene_at("probe", number) for number in range(8)]
    first = [render(scene) for scene in scenes]
    with ThreadPoolExecutor(4) as threads:
        again = list(threads.map(render, reversed(scenes)))
    for one, two in zip(first, reversed(again), strict=True):
        for name in ("image", "foreground", "kind", "part", "colour", "pattern"):
            assert np.array_equal(getattr(one, name), getattr(two, name))


def test_pictures_have_their_form():
    for _, picture in drawn():
        assert picture.image.shape == (SIZE, SIZE, 3)
        assert picture.image.dtype == np.uint8
        assert picture.foreground.dtype == bool
        assert 0.02 < picture.foreground.mean() < 0.5


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_backgrounds_vary_with_the_seed_and_stay_in_range(name):
    one, again, other = (paint_background(name, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == (SIZE, SIZE, 3)
    assert np.issubdtype(one.dtype, np.floating)
    assert np.array_equal(one, again)
    assert np.abs(one - other).mean() > 1
    assert one.min() > -40
    assert one.max() < 300
    assert one.std() > 3


def test_backgrounds_differ_from_each_other():
    means = [paint_background(name, np.random.default_rng(0)).mean((0, 1)) for name in BACKGROUNDS]
    texture = [
        np.abs(np.diff(paint_background(n, np.random.default_rng(0)).mean(2), axis=0)).mean() for n in BACKGROUNDS
    ]
    looks = np.column_stack([means, texture])
    gaps = np.linalg.norm(looks[:, None] - looks[None], axis=2)[~np.eye(len(BACKGROUNDS), dtype=bool)]
    assert gaps.min() > 5
