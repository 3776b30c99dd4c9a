"""Strict parsing of a chat completion's body: a server may send anything with status 200."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tasks.language.chat import BadReplyError, NoAnswerError, Reply
from tasks.language.retry import TransientError


def read_completion(text: str, model: str, clean: Callable[[str], str]) -> Reply:
    """The reply in a response body.

    Args:
        text: The body.
        model: The model that was asked, for the message.
        clean: Takes out of each text what must not be kept.

    Raises:
        TransientError: Broken JSON (the connection was cut), or an error reported inside a success, by the answer or by
            its choice.
        BadReplyError: A web page, or JSON that is no chat completion.
        NoAnswerError: No choice, a refusal, the call of a tool, an empty reply, or one cut off at the token limit.
    """
    content = _parse(text)
    if not isinstance(content, dict) or "choices" not in content:
        if isinstance(content, dict) and content.get("error"):
            raise TransientError("reports an error inside a success")
        raise BadReplyError(
            f"The server's answer for the model {model!r} is JSON, but no chat completion; check base_url (most end in "
            "/v1)."
        )
    choices = content["choices"]
    choice = choices[0] if isinstance(choices, list) and choices else None
    if isinstance(choice, dict) and (choice.get("error") or choice.get("finish_reason") == "error"):
        raise TransientError("reports an error inside a success")
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise NoAnswerError(f"The model {model!r} gave no choice.")
    said, finish = _text(message.get("content")), choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        raise NoAnswerError(f"The model {model!r} refused.")
    if message.get("tool_calls") or message.get("function_call") or finish in ("tool_calls", "function_call"):
        raise NoAnswerError(f"The model {model!r} called a tool instead of answering.")
    if finish == "length":
        raise NoAnswerError(f"The reply of the model {model!r} was cut off at the token limit; raise max_tokens.")
    if not isinstance(said, str) or not said.strip():
        raise NoAnswerError(f"The reply of the model {model!r} is empty.")
    prompt_tokens, completion_tokens = tokens_of(text)
    name, mark = (_name(content.get(field), clean) for field in ("model", "system_fingerprint"))
    return Reply(clean(said), prompt_tokens, completion_tokens, name or model, mark)


def tokens_of(text: str) -> tuple[int | None, int | None]:
    """Tokens read and written according to a response body, None where it does not say (or is not a completion)."""
    try:
        usage = json.loads(text).get("usage")
        counts = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, AttributeError, RecursionError):
        return None, None
    # No model reads as many; larger numbers do not fit into the file of requests, or their sum does not.
    first, second = (count if type(count) is int and 0 <= count < 2**31 else None for count in counts)
    return first, second


def _text(content: Any) -> Any:
    """The text of a message; some servers send it in parts, with the thoughts in parts of their own."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "".join(part for part in parts if isinstance(part, str))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith("<"):
            raise BadReplyError(
                "The language model server answered with a web page instead of JSON; check base_url (most end in /v1) "
                "and any proxy in between."
            ) from None
        raise TransientError("answered with broken JSON") from None


def _name(value: Any, clean: Callable[[str], str]) -> str | None:
    return clean(value)[:200] if isinstance(value, str) and value else None
