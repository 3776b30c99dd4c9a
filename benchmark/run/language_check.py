"""The language model of a run: what keeps it from working is said before models are loaded, and its use is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baselines.base import Method
from benchmark.run.display import Display
from benchmark.run.prepare import asked_roles
from benchmark.run.work import Work
from leaderboard.store.run_folder import RunFolder
from tasks.common.offline import opens_no_socket
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile


def check_key(methods: Mapping[str, Method], profile: Profile) -> None:
    """See that a server could be asked, where a method needs one; nothing is asked yet.

    Args:
        methods: Those of a run, by name.
        profile: Names the language model.

    Raises:
        UserError: There is no usable key, no package, or no price for the model's price cap.
    """
    for role in ("summariser", "describer"):
        source = getattr(profile, role)
        if isinstance(source, OpenAISource) and role in asked_roles(methods) and not opens_no_socket():
            OpenAIChat(source).check()


def build_summariser(folder: RunFolder, works: Sequence[Work], methods: Mapping[str, Method], roles: Roles) -> None:
    """Build the summariser if a cell that is not done needs it, so that its mistakes come before large models load.

    Raises:
        UserError: It cannot be built.
    """
    needing = {name for name, method in methods.items() if "summariser" in asked_roles({name: method})}
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
