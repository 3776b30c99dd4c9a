"""The interface of every chat model: messages in, one reply out, or an error that says what to do."""

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
        role: Who speaks. ``system`` is used only where a release uses it: several model families have no such role.
        pictures: Images shown after the text, for vision-language models.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    pictures: tuple[Picture, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What a reply depends on, JSON-serialisable; images by their SHA-256."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        return {**said, "pictures": [picture.sha256 for picture in self.pictures]} if self.pictures else said


@dataclass(frozen=True)
class Reply:
    """A usable reply: it ended by itself and is not empty. Its texts have a UTF-8 form, whatever they are made of.

    Attributes:
        prompt_tokens: Tokens read, as counted by the model; None if a server does not say.
        completion_tokens: Tokens written, likewise.
        model: The name the model reports, which may be more specific than the one requested.
        fingerprint: The server's name for its configuration, if given.
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
        """What the replies depend on besides the request: the model's name, not where it is served."""
        ...

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer the last message.

        Args:
            messages: Turns; the first and the last are the user's.
            temperature: Sampling temperature, at least 0; 0 decodes greedily.
            max_tokens: Maximum number of tokens of the reply.
            seed: In [0, 2³²); a different seed may give a different reply.

        Raises:
            NoAnswerError: The model gave nothing usable, for this request only.
            LanguageModelError: Any failure that would also affect the next request.
        """
        ...


class LanguageModelError(UserError):
    """A language model cannot be used; the message says why and what to check."""


class AccessError(LanguageModelError):
    """The server refuses: no quota, a wrong key, no permission, or no such model. Retrying is useless."""


class UnavailableError(LanguageModelError):
    """The server could not be reached or kept failing, for as long as the configuration allows."""


class BadReplyError(LanguageModelError):
    """The server answered, but not with a chat completion."""


class PriceCapError(LanguageModelError):
    """The next request could cost more than what is left under the price cap."""


class NoAnswerError(LanguageModelError):
    """A refusal, an empty reply, or one cut off at the token limit: this request has no answer, others may."""
