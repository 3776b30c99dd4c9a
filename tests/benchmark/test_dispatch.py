"""The dispatcher under made-up events: nothing is lost, done twice without need, or drawn twice at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.core.items import Item
from benchmark.execution import simulate
from benchmark.execution.dispatch import LOSSES, Action, Dispatcher, Give, Replace, Stop
from leaderboard.store.parts import CellKey

CONDITIONS = ("clean", "blur", "fog")
RUNS = settings(max_examples=60, deadline=None, derandomize=True)


def made(blocks: int = 3, conditions: int = 3) -> list[Item]:
    items = []
    for name in CONDITIONS[:conditions]:
        cell = Item("block", 0, name, cell=CellKey("task", "profile", "dnd", name, 0, 0))
        items += [Item("pass", 0, name), *cell.blocks(range(4 * blocks), size=4)]
    return items


def wanted(block: Item) -> set[str]:
    """Concepts in two rounds, shared by blocks and conditions in part."""
    return {f"word {unit % 5}" for unit in block.units} | {f"{block.condition} {unit // 3}" for unit in block.units}


class World:
    """Workers that do what they are told, in an order that the test chooses, and faults."""

    def __init__(self, items: list[Item], names: list[str]) -> None:
        self.dispatcher = Dispatcher(items)
        self.items = items
        self.busy: dict[str, Item] = {}
        self.idle: set[str] = set()
        self.zombies: list[tuple[str, Item]] = []
        self.drawn: set[str] = set()
        self.given: list[tuple[str, Item]] = []
        self.completed: list[Item] = []
        self.stopped: set[str] = set()
        self.replaced = 0
        for name in names:
            self.idle.add(name)
            self.act(self.dispatcher.ready(name))

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Give):
                assert action.worker in self.idle
                self.idle.discard(action.worker)
                flying = {draw for item in self.busy.values() for draw in item.draws}
                assert not flying & {*action.item.draws}, "a concept is drawn twice at once"
                self.busy[action.worker] = action.item
                self.given.append((action.worker, action.item))
            elif isinstance(action, Stop):
                self.idle.discard(action.worker)
                self.stopped.add(action.worker)
            else:
                self.replaced += 1
                self.idle.add(action.worker + "'")
        if any(isinstance(action, Replace) for action in actions):
            for name in [name for name in self.idle if name.endswith("'") and name not in self.busy]:
                self.act(self.dispatcher.ready(name))

    def complete(self, worker: str) -> None:
        item = self.busy.pop(worker)
        self.idle.add(worker)
        lacking = wanted(item) - self.drawn if item.kind == "block" else set()
        if lacking:
            self.act(self.dispatcher.park(worker, item, sorted(lacking)))
            return
        self.drawn.update(item.draws)
        self.completed.append(replace(item, epoch=0))
        self.act(self.dispatcher.finish(worker, item))

    def lose(self, worker: str) -> None:
        self.zombies.append((worker, self.busy.pop(worker)))
        self.act(self.dispatcher.lose(worker))

    def wake(self) -> None:
        """A worker that was thought to be lost finishes its item after all."""
        worker, item = self.zombies.pop()
        if item.kind != "block" or not wanted(item) - self.drawn:
            self.drawn.update(item.draws)
            self.act(self.dispatcher.finish(worker, item))

    def fail(self, worker: str) -> None:
        item = self.busy.pop(worker)
        self.idle.add(worker)
        self.act(self.dispatcher.fail(worker, item, "ValueError: no"))

    def settled(self) -> set[Item]:
        return {item for item in {*self.dispatcher.done, *self.dispatcher.failed} if item.kind != "draw"}


@RUNS
@given(workers=st.integers(1, 7), choices=st.lists(st.integers(0, 99), max_size=200))
def test_without_faults_every_item_is_done_once_and_every_concept_drawn_once(workers, choices):
    world = World(made(), [f"worker {number}" for number in range(workers)])
    for step in range(500):
        if not world.busy:
            break
        names = sorted(world.busy)
        world.complete(names[choices[step % len(choices)] % len(names)] if choices else names[0])
    assert sorted(map(repr, world.items)) == sorted(repr(item) for item in world.completed if item.kind != "draw")
    drawn = [draw for item in world.completed for draw in item.draws]
    assert sorted(drawn) == sorted(set().union(*(wanted(item) for item in world.items)))
    assert world.dispatcher.failed == {}
    assert world.stopped == {f"worker {number}" for number in range(workers)}


@RUNS
@given(
    workers=st.integers(1, 5),
    faults=st.lists(st.tuples(st.sampled_from(["complete", "lose", "wake", "fail"]), st.integers(0, 99)), max_size=120),
)
def test_whatever_happens_every_item_ends_done_or_failed(workers, faults):
    world = World(made(), [f"worker {number}" for number in range(workers)])
    for what, choice in faults:
        names = sorted(world.busy)
        if what == "wake" and world.zombies:
            world.wake()
        elif names and what != "wake":
            getattr(world, what)(names[choice % len(names)])
        waiting = world.idle - world.stopped
        # Nobody waits while there is something to do: the busy ones hold all that can be done now.
        assert not (waiting and not world.busy and not world.dispatcher.finished)
    for _ in range(500):
        if world.dispatcher.finished:
            break
        world.complete(min(world.busy))
    assert world.settled() == set(world.items)
    assert not world.dispatcher.done & set(world.dispatcher.failed)
    for item in world.dispatcher.done:
        assert item.kind != "block" or wanted(item) <= world.drawn
    if not any(what in ("lose", "fail") for what, _ in faults):
        assert world.dispatcher.failed == {}


@RUNS
@given(st.permutations([f"worker {number}" for number in range(5)]))
def test_the_order_does_not_depend_on_the_names_of_workers(names):
    def items(named):
        world = World(made(), list(named))
        for step in range(500):
            if not world.busy:
                break
            world.complete(list(world.busy)[step * 7 % len(world.busy)])
        return [item for _, item in world.given]

    assert items(names) == items([f"worker {number}" for number in range(5)])


def test_draws_come_before_blocks_and_blocks_before_passes():
    world = World(made(conditions=2), ["a"])
    kinds = []
    while world.busy:
        kinds.append((world.busy["a"].kind, world.busy["a"].condition))
        world.complete("a")
    first = kinds.index(("pass", "blur"))
    assert kinds[:2] == [("pass", "clean"), ("block", "clean")]
    assert {name for _, name in kinds[:first]} == {"clean", ""}
    blocks = [place for place, (kind, _) in enumerate(kinds) if kind == "block"]
    # A block that lacks concepts is followed by their draws, and then finished, before another one is begun.
    assert kinds[blocks[0] + 1][0] == "draw"
    assert blocks[1] == max(place for place, (kind, _) in enumerate(kinds[: blocks[1]]) if kind == "draw") + 1


class Undrawn:
    """Items that need no concepts: a pass takes 20 seconds, a block three."""

    items = made(blocks=8)

    def draws(self, block: Item) -> tuple[str, ...]:
        return ()

    def seconds(self, item: Item, again: bool) -> float:
        return 20.0 if item.kind == "pass" else 3.0


@pytest.mark.parametrize(("speeds", "foreign"), [((1, 1, 1), 0), ((1, 1, 4), 3), ((1, 1, 1, 1), 5)])
def test_blocks_go_to_the_worker_that_made_their_pass_and_nobody_waits_for_that(
    speeds: tuple[int, ...], foreign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker that is free takes them too, and has to get the images first."""
    given: list[tuple[str, Item]] = []

    class Watched(Dispatcher):
        def _actions(self) -> list[Action]:
            actions = super()._actions()
            given.extend((action.worker, action.item) for action in actions if isinstance(action, Give))
            return actions

    monkeypatch.setattr(simulate, "Dispatcher", Watched)
    took = simulate.makespan(Undrawn(), simulate.Cluster(speeds))
    shown: dict[str, str] = {}
    fetched = 0
    for worker, item in given:
        fetched += item.kind == "block" and shown.get(worker) != item.condition
        shown[worker] = item.condition
    assert fetched == foreign
    # As much is left for others as one item: list scheduling.
    assert took <= (3 * 20 + 24 * 3) / sum(speeds) + 20


def test_a_slow_worker_keeps_neither_itself_nor_others_waiting():
    world = World(made(blocks=6), ["slow", "quick"])
    slow = world.busy["slow"]
    while "quick" in world.busy:
        world.complete("quick")
    assert world.busy == {"slow": slow}
    assert world.idle == {"quick"}
    while not world.dispatcher.finished:
        world.complete(sorted(world.busy)[0])
    assert {worker for worker, _ in world.given} == {"slow", "quick"}
    assert world.settled() == set(world.items)


def test_a_lost_item_is_begun_again_by_whoever_is_free_first_though_it_has_images_of_others():
    dispatcher, items = Dispatcher(made(blocks=3, conditions=2)), {}
    passes, blocks = ([item for item in made(conditions=2) if item.kind == kind] for kind in ("pass", "block"))
    for worker in ("one", "two"):
        dispatcher.ready(worker)
    for worker, own in zip(("one", "two"), passes, strict=True):
        items[worker] = next(action.item for action in dispatcher.finish(worker, own) if isinstance(action, Give))
    lost = items["two"]
    assert lost in blocks
    dispatcher.lose("two")
    assert dispatcher.finish("one", items["one"]) == [Give("one", replace(lost, epoch=1))]


def test_an_item_that_takes_its_workers_along_fails_alone():
    world = World(made(), ["a", "b"])
    poison = next(item for item in world.items if item.kind == "block")
    for _ in range(500):
        if world.dispatcher.finished:
            break
        worker = min(world.busy)
        if replace(world.busy[worker], epoch=0) == poison:
            world.lose(worker)
        else:
            world.complete(worker)
    assert world.dispatcher.failed == {poison: f"{LOSSES + 1} workers were lost with it"}
    assert world.replaced == LOSSES + 1
    assert [item.epoch for _, item in world.given if replace(item, epoch=0) == poison] == [0, 1, 2, 3]


def test_what_needs_a_failed_item_fails_with_it_and_nothing_else_does():
    world = World(made(), ["a"])
    world.complete("a")  # the pass of the clean images
    world.complete("a")  # a block that lacks concepts
    draw = world.busy["a"]
    assert draw.kind == "draw"
    world.fail("a")
    while world.busy:
        world.complete("a")
    lost = {item for item in world.items if item.kind == "block" and wanted(item) & {*draw.draws}}
    assert set(world.dispatcher.failed) == lost | {draw}
    other = World(made(), ["a"])
    other.fail("a")
    while other.busy:
        other.complete("a")
    assert set(other.dispatcher.failed) == {item for item in other.items if item.condition == "clean"}


def test_what_a_worker_does_that_was_thought_to_be_lost_counts():
    dispatcher = Dispatcher(made(conditions=1))
    assert dispatcher.ready("frozen") == [Give("frozen", Item("pass", 0, "clean"))]
    assert dispatcher.ready("other") == []
    again = Item("pass", 0, "clean", epoch=1)
    assert dispatcher.lose("frozen") == [Replace("frozen"), Give("other", again)]
    # It wakes: the store holds what it did; the other one's result is one more of the same.
    blocks = dispatcher.finish("frozen", Item("pass", 0, "clean"))
    assert blocks == []
    assert [action.item.kind for action in dispatcher.finish("other", again) if isinstance(action, Give)] == ["block"]


def test_what_is_left_is_counted_by_kind():
    dispatcher = Dispatcher(made(conditions=1))
    blocks = len(made(conditions=1)) - 1
    assert dispatcher.left == {"pass": 1, "block": blocks}
    (given,) = dispatcher.ready("a")
    (given,) = dispatcher.finish("a", given.item)
    assert dispatcher.left == {"block": blocks}
    dispatcher.park("a", given.item, ["cat", "dog"])
    assert dispatcher.left == {"block": blocks, "draw": 2}


def test_a_drained_dispatcher_hands_out_nothing_and_replaces_nobody():
    world = World(made(), ["a", "b"])
    world.act(world.dispatcher.drain())
    assert set(world.busy) == {"a"} | (set(world.busy) & {"b"})
    before = len(world.given)
    world.lose("b") if "b" in world.busy else None
    world.complete("a")
    assert len(world.given) == before
    assert world.replaced == 0
    assert "a" in world.stopped
    assert not world.dispatcher.finished


@pytest.mark.parametrize("item", [*made(), Item("draw", 1, draws=("ä \ud83d", "{}"), epoch=2)])
def test_items_travel_as_json(item):
    assert Item.of(json.loads(json.dumps(item.facts()))) == item


@pytest.mark.parametrize("size", [1, 7, 64])
def test_blocks_make_up_the_cell(size):
    cell = Item("block", 0, "clean", cell=CellKey("task", "profile", "dnd", "clean", 0, 0))
    blocks = cell.blocks(range(100, 200), size=size)
    assert [unit for block in blocks for unit in block.units] == list(range(100, 200))
    assert max(len(block.units) for block in blocks) == size
    assert {block.cell for block in blocks} == {cell.cell}
    assert cell.blocks(range(100, 200), "never", size) == [cell]


def test_what_was_drawn_while_a_worker_looked_is_not_drawn_again():
    first, second = made(blocks=2, conditions=1)[1:]
    dispatcher = Dispatcher([first, second])
    assert dispatcher.ready("a") + dispatcher.ready("b") == [Give("a", first), Give("b", second)]
    draw = Item("draw", 0, draws=("word",))
    assert dispatcher.park("a", first, ["word"]) == [Give("a", draw)]
    assert dispatcher.finish("a", draw) == [Give("a", first)]
    assert dispatcher.park("b", second, ["word"]) == [Give("b", second)]


def test_an_item_that_its_lost_worker_finished_is_not_handed_out_again():
    first, second = made(blocks=2, conditions=1)[1:]
    dispatcher = Dispatcher([first, second])
    assert dispatcher.ready("a") == [Give("a", first)]
    assert dispatcher.lose("a") == [Replace("a")]
    assert dispatcher.finish("a", first) == []
    assert dispatcher.ready("b") == [Give("b", second)]
