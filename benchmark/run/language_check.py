"""The language model of a run: what keeps it from working is said before models are loaded, and its use is counted."""

from __future__ import annotations

from collections.abc import Sequence

from baselines import registry
from benchmark.run.display import Display
from benchmark.run.work import Work
from leaderboard.store.run_folder import RunFolder
from tasks.common.offline import opens_no_socket
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile


def check_key(methods: Sequence[str], profile: Profile) -> None:
    """See that a server could be asked, where a method needs one; nothing is asked yet.

    Args:
        methods: Names of the methods of a run.
        profile: Names the language model.

    Raises:
        UserError: There is no usable key, no package, or no price for the model's price cap.
    """
    for role in ("summariser", "describer"):
        source = getattr(profile, role)
        if isinstance(source, OpenAISource) and _needing(methods, role) and not opens_no_socket():
            OpenAIChat(source).check()


def build_summariser(folder: RunFolder, works: Sequence[Work], roles: Roles) -> None:
    """Build the summariser if a cell that is not done needs it, so that its mistakes come before large models load.

    Raises:
        UserError: It cannot be built.
    """
    needing = _needing(works[0].methods, "summariser")
    keys = (key for work in works for condition in work.conditions for key in work.cells(condition))
    if any(key.method in needing and not folder.is_done(key) for key in keys):
        _ = roles.summariser


def say_usage(folder: RunFolder, roles: Roles, display: Display) -> None:
    """Record and say what a language model was asked in all sessions of a run, and what it cost."""
    usage = roles.language_usage()
    if usage is None:
        return
    folder.record("language_model", usage)
    cost = "cost unknown" if usage["usd"] is None else f"{usage['usd']:.4f} USD"
    display.message(
        f"language model {usage['model']}: {usage['requests']} requests, {usage['prompt_tokens']} tokens read, "
        f"{usage['completion_tokens']} written, {cost}"
    )
    for reason, count in sorted(roles.unusable_replies().items()):
        display.warning(f"{count} requests of this session got no answer that can be used: {reason}")


def _needing(methods: Sequence[str], role: str) -> list[str]:
    return [name for name in methods if role in registry.entry(name).needs]
