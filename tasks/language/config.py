"""What a profile file may hold for its language model; strict, and read without torch or openai."""

from __future__ import annotations

import ipaddress
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.language.picture import MOST_EDGE
from tasks.language.prompts import VERSION, Mode

DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _looks_like_key(name: str) -> bool:
    """Keys that could be names: long, with digits and small letters, or with a known beginning."""
    mixed = re.search("[0-9]", name) and re.search("[a-z]", name)
    return name.lower().startswith("sk_") or (len(name) >= 20 and bool(mixed))


class PriceEntry(BaseModel):
    """A model's price.

    Attributes:
        input: USD for a million tokens read, without discounts.
        output: USD for a million tokens written.
        as_of: The day the price was read or published.
        source: Where.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    as_of: date
    source: str


class _Source(BaseModel):
    """What both kinds of language model share.

    Attributes:
        mode: ``fixed`` validates replies; ``code`` treats them as the release of Describe-and-Dissect does; ``llama2``
            asks and cuts as its variant for Llama-2-7b-chat.
        temperature: Of sampling; 0.3 as published.
        max_tokens: Most tokens of a reply. Models that think aloud before they answer need thousands.
        licence: Of the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    runtime: ClassVar[frozenset[str]]

    mode: Mode = "fixed"
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.3
    max_tokens: Annotated[int, Field(ge=8, le=32_768)] = 256
    licence: str

    def identity(self) -> dict[str, Any]:
        """What labels depend on, JSON-able: where the model runs and what it costs is no part of it."""
        return {"version": VERSION, **self.model_dump(mode="json", exclude=set(self.runtime))}


class OpenAISource(_Source):
    """A model on an OpenAI-compatible server: OpenAI, vLLM, Ollama, llama.cpp, ``transformers serve``.

    Attributes:
        loader: ``openai``.
        base_url: Where the server is; most end in ``/v1``.
        model: The model's name there.
        key_variable: Environment variable that holds the key. A server on this machine gets a key only if another
            variable than ``OPENAI_API_KEY`` is named, so that a key for OpenAI is not handed to it by accident.
        token_limit: The request field that carries ``max_tokens``: OpenAI's newer models take only
            ``max_completion_tokens``, some servers know only ``max_tokens``.
        send_seed: Whether requests carry a seed; a few servers refuse it. Without it the replies to equal requests are
            samples all the same.
        timeout_seconds: Longest wait for one answer.
        attempts: Most requests for one answer.
        total_seconds: Longest time for one answer, all attempts and waits together.
        requests_per_second: Most requests a second from this process; None sets no limit.
        price_cap_usd: No request is made that could bring the spending above this.
        price: The model's price, where the table in ``prices.yaml`` lacks it or is out of date.
    """

    runtime: ClassVar[frozenset[str]] = frozenset(
        {"base_url", "key_variable", "token_limit", "timeout_seconds", "attempts", "total_seconds"}
        | {"requests_per_second", "price_cap_usd", "price", "licence"}
    )

    loader: Literal["openai"]
    base_url: str = "https://api.openai.com/v1"
    model: Annotated[str, Field(min_length=1)]
    key_variable: str | None = DEFAULT_KEY_VARIABLE
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # noqa: S105
    send_seed: bool = True
    timeout_seconds: Positive = 60.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 6
    total_seconds: Positive = 300.0
    requests_per_second: Positive | None = None
    price_cap_usd: Positive | None = None
    price: PriceEntry | None = None

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the address cannot be read; write it like http://127.0.0.1:8000/v1") from None
        if "@" in parts.netloc:
            # Without the address itself: it holds a secret.
            raise ValueError("the address must hold no user name or password; name a key_variable instead")
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise ValueError("write the address like http://127.0.0.1:8000/v1, without anything after the path")
        return value.rstrip("/")

    @field_validator("key_variable", mode="before")
    @classmethod
    def _name_not_key(cls, value: Any) -> str | None:
        # The sentence must not repeat it.
        if value is not None and (not isinstance(value, str) or not _NAME.fullmatch(value) or _looks_like_key(value)):
            raise ValueError(
                "this looks like a key, or like no name of an environment variable; write the name of the variable "
                "that holds the key (letters, digits and underscores), and take a key out of the file"
            )
        return value

    @property
    def sent_key(self) -> str | None:
        """The variable whose key is sent; None where requests go without one."""
        return None if self.on_this_machine and self.key_variable == DEFAULT_KEY_VARIABLE else self.key_variable

    @property
    def on_this_machine(self) -> bool:
        """Whether the server is reached over the loopback interface."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class TransformersSource(_Source):
    """A model that runs in this process by transformers.

    Attributes:
        loader: ``transformers``.
        path: A local folder with config, tokenizer (with a chat template) and safetensors weights, relative to the
            profile file.
        name: A model on the hub, instead of ``path``.
        revision: Of ``name``: a commit, tag or branch.
        weights: The weights file inside ``path``, for its hash.
        sha256: Of that file; a missing hash is not checked.
        dtype: Number format of the weights; ``auto`` takes that of the checkpoint.
    """

    # A revision and a hash say what the model is; a folder only where it lies.
    runtime: ClassVar[frozenset[str]] = frozenset({"path", "licence"})

    loader: Literal["transformers"]
    path: Path | None = None
    name: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    revision: str | None = None
    weights: str = "model.safetensors"
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def identity(self) -> dict[str, Any]:
        """See above; without a hash, the folder has to say which model it is."""
        place = {} if self.sha256 else self.model_dump(mode="json", include={"path"})
        return {**super().identity(), **place}

    @model_validator(mode="after")
    def _one_place(self) -> TransformersSource:
        if (self.path is None) == (self.name is None):
            raise ValueError("a transformers model needs either 'path' (a local folder) or 'name' (on the hub)")
        if self.path is not None and self.revision is not None:
            raise ValueError("'revision' belongs to 'name'; a local folder has none")
        return self


class _Vision(_Source):
    """What both kinds of vision-language model share.

    Attributes:
        max_tokens: Most tokens of a reply; 300 as published.
        picture_px: Pixels of a picture's longer side; larger ones are reduced. Servers that count tiles of 512 px count
            such a picture once.
    """

    max_tokens: Annotated[int, Field(ge=8, le=32_768)] = 300
    picture_px: Annotated[int, Field(ge=32, le=MOST_EDGE)] = MOST_EDGE

    @field_validator("mode")
    @classmethod
    def _no_text_mode(cls, value: Mode) -> Mode:
        if value == "llama2":
            raise ValueError("llama2 is a mode for captions; a model that sees pictures has fixed and code")
        return value


class VisionOpenAISource(_Vision, OpenAISource):
    """A vision-language model on an OpenAI-compatible server."""


class VisionTransformersSource(_Vision, TransformersSource):
    """A vision-language model (image-text-to-text) that runs in this process by transformers.

    A local folder holds a processor too, with the chat template.
    """


LanguageModelSource: TypeAlias = Annotated[OpenAISource | TransformersSource, Field(discriminator="loader")]
"""The field of a profile: ``loader`` tells which of the two it is."""
VisionModelSource: TypeAlias = Annotated[VisionOpenAISource | VisionTransformersSource, Field(discriminator="loader")]
"""The same of the role that looks at pictures."""
