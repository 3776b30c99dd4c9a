"""The language model of a run: problems are reported before models are loaded, and usage is counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baselines.base import Method
from benchmark.core.display import Display
from benchmark.core.prepare import asked_roles
from benchmark.core.work import Work
from leaderboard.store.run_folder import RunFolder
from tasks.common.offline import opens_no_socket
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile


def check_key(methods: Mapping[str, Method], profile: Profile) -> None:
    """Check that requests would be possible if a method needs a language model; sends none.

    Args:
        profile: Specifies the language model.

    Raises:
        UserError: There is no usable key, no package, or no price for the model's price cap.
    """
    for role in ("summariser", "describer"):
        source = getattr(profile, role)
        if isinstance(source, OpenAISource) and role in asked_roles(methods) and not opens_no_socket():
            OpenAIChat(source).check()


def build_summariser(folder: RunFolder, works: Sequence[Work], methods: Mapping[str, Method], roles: Roles) -> None:
    """Build the summariser if an unfinished cell needs it, so that its errors appear before large models load.

    Raises:
        UserError: The summariser cannot be built.
    """
    needing = {name for name, method in methods.items() if "summariser" in asked_roles({name: method})}
    keys = (key for work in works for condition in work.conditions for key in work.cells(condition))
    if any(key.method in needing and not folder.is_done(key) for key in keys):
        _ = roles.summariser


def say_usage(folder: RunFolder, roles: Roles, display: Display) -> None:
    """Record and show the language model's usage and cost over all sessions of a run."""
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
