"""From the summariser's replies to candidate concepts: Describe-and-Dissect's clean-up rules, in a stable order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from baselines.base import Mode

BACKGROUND_WORDS = frozenset({"design", "designs", "graphic", "graphics"})
"""A concept that ends in one of these also yields the candidate "<concept> background"."""


def clean_reply(reply: str, summarise_again: Callable[[list[str]], str]) -> str:
    """Reduce one reply of the summariser to a concept.

    Of a reply with a colon, the text between the first and second one is kept ("Label: red things" → "red things"); a
    reply with commas is a list instead of one concept, so its items are summarised again.

    Args:
        summarise_again: Summarises the items of a list.
    """
    concept = _after_colon(reply)
    if "," not in concept:
        return concept.strip()
    pieces = [piece.strip() for piece in concept.split(",") if piece.strip()]
    return _after_colon(summarise_again(pieces)).strip() if pieces else ""


def candidate_concepts(replies: Iterable[str], mode: Mode = "fixed") -> list[str]:
    """Clean replies into distinct candidates, in the order of their first appearance.

    Lower case; one trailing full stop dropped; "<concept> background" added after a concept that ends in "design(s)" or
    "graphic(s)". In ``code`` mode that last word is checked before the stop is dropped, so "graphic design." gets no
    background, as in the release; in ``fixed`` mode it does. Empty replies are dropped. (The release de-duplicates with
    an unordered set, so its order follows the hash seed; neither mode repeats that.)

    Args:
        replies: Concepts, one per summary.
        mode: ``fixed`` or ``code``.
    """
    found: dict[str, None] = {}
    for reply in replies:
        lowered = " ".join(reply.lower().split())
        concept = lowered.removesuffix(".").strip()
        if not concept:
            continue
        found[concept] = None
        tested = concept if mode == "fixed" else lowered
        if tested.split()[-1] in BACKGROUND_WORDS:
            found[f"{concept} background"] = None
    return list(found)


def _after_colon(reply: str) -> str:
    return reply.split(":")[1] if ":" in reply else reply
