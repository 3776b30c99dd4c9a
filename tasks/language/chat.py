"""What every chat model is to the rest: messages in, one reply out, or an error that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tasks.common.errors import UserError
from tasks.common.text import valid
from tasks.language.picture import Picture


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Attributes:
        role: Who speaks. ``system`` stands only where a release has it: several model families have no such role.
        content: What is said.
        pictures: What is shown after it, to models that see.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    pictures: tuple[Picture, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What a reply depends on, JSON-able; pictures by their SHA-256."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        return {**said, "pictures": [picture.sha256 for picture in self.pictures]} if self.pictures else said


@dataclass(frozen=True)
class Reply:
    """A usable reply: it ended by itself and is not empty. Its texts have a UTF-8 form, whatever they are made of.

    Attributes:
        text: What the model said.
        prompt_tokens: Tokens read, as the model counts them; None where a server does not say.
        completion_tokens: Tokens written, likewise.
        model: The model's own name for itself, which may be more exact than the one asked for.
        fingerprint: The server's name for its configuration, if it gives one.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", valid(self.text))
        object.__setattr__(self, "model", valid(self.model))
        object.__setattr__(self, "fingerprint", self.fingerprint and valid(self.fingerprint))


class ChatModel(Protocol):
    """A language model that answers a chat."""

    @property
    def identity(self) -> str:
        """What the replies depend on beside the request: the model's name, not where it is served."""
        ...

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer the last message.

        Args:
            messages: Turns, from the user's first to the user's last.
            temperature: Of sampling, at least 0; 0 takes the likeliest token.
            max_tokens: Most tokens of the reply.
            seed: In [0, 2³²); another seed may give another reply.

        Raises:
            NoAnswerError: The model gave nothing that could be used, for this request only.
            LanguageModelError: Anything that would meet the next request too.
        """
        ...


class LanguageModelError(UserError):
    """A language model cannot be used; the message says why and what to check."""


class AccessError(LanguageModelError):
    """The server refuses: no quota, a wrong key, no permission, or no such model. Asking again is no use."""


class UnavailableError(LanguageModelError):
    """The server could not be reached or kept failing, for as long as the configuration allows."""


class BadReplyError(LanguageModelError):
    """The server answered, but what it said is no chat completion."""


class PriceCapError(LanguageModelError):
    """The next request could cost more than the price cap leaves."""


class NoAnswerError(LanguageModelError):
    """A refusal, an empty reply, or one cut off at the token limit: this request has no answer, others may."""
