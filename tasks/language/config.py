"""A profile's language model settings; strict, and readable without torch or openai."""

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
        input: USD per million input tokens, without discounts.
        output: USD per million output tokens.
        as_of: The day the price was read or published.
        source: Where the price is published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    as_of: date
    source: str


class _Source(BaseModel):
    """What both kinds of language model share.

    Attributes:
        mode: ``fixed`` validates replies; ``code`` processes them as the release of Describe-and-Dissect does;
            ``llama2`` prompts and cuts as its variant for Llama-2-7b-chat does.
        temperature: Sampling temperature; 0.3 as published.
        max_tokens: Maximum number of tokens of a reply. Reasoning models need thousands.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    runtime: ClassVar[frozenset[str]]

    mode: Mode = "fixed"
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.3
    max_tokens: Annotated[int, Field(ge=8, le=32_768)] = 256
    licence: str

    def identity(self) -> dict[str, Any]:
        """What labels depend on, JSON-serialisable; where the model runs and what it costs are not part of it."""
        return {"version": VERSION, **self.model_dump(mode="json", exclude=set(self.runtime))}


class OpenAISource(_Source):
    """A model on an OpenAI-compatible server: OpenAI, vLLM, Ollama, llama.cpp, ``transformers serve``.

    Attributes:
        base_url: The server's address; most end in ``/v1``.
        model: The model's name on the server.
        key_variable: Environment variable that holds the key. A server on this machine is sent a key only if a variable
            other than ``OPENAI_API_KEY`` is named, so that a key for OpenAI is not sent to it by accident.
        token_limit: The request field that carries ``max_tokens``: OpenAI's newer models accept only
            ``max_completion_tokens``, some servers only ``max_tokens``.
        send_seed: Whether requests carry a seed; a few servers refuse it. Without it the replies to equal requests are
            still samples.
        timeout_seconds: Longest wait for one answer.
        attempts: Maximum number of requests for one answer.
        total_seconds: Longest time for one answer, including all attempts and waits.
        requests_per_second: Maximum rate of requests from this process; None sets no limit.
        price_cap_usd: No request is made that could raise the spending above this.
        price: The model's price, if the table in ``prices.yaml`` lacks it or is out of date.
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
        """The variable whose key is sent; None if requests are sent without one."""
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
    """A model that runs in this process with transformers.

    Attributes:
        path: A local folder with config, tokenizer (with a chat template) and safetensors weights, relative to the
            profile file.
        name: A model on the hub, instead of ``path``.
        revision: Of ``name``: a commit, tag or branch.
        weights: The weights file inside ``path``, for its hash.
        sha256: Hash of that file; not checked if missing.
        dtype: Number format of the weights; ``auto`` uses that of the checkpoint.
        size: Of the weights in bytes, for ``doctor``.
    """

    # A revision and a hash identify the model; a folder only says where it is.
    runtime: ClassVar[frozenset[str]] = frozenset({"path", "size", "licence"})

    loader: Literal["transformers"]
    path: Path | None = None
    name: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    revision: str | None = None
    weights: str = "model.safetensors"
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    size: Annotated[int, Field(ge=0)] | None = None

    def identity(self) -> dict[str, Any]:
        """See the base class; without a hash, the folder identifies the model."""
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
        max_tokens: Maximum number of tokens of a reply; 300 as published.
        picture_px: Pixels of an image's longer side; larger images are reduced. Servers that count tiles of 512 px
            count such an image once.
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
    """A vision-language model (image-text-to-text) that runs in this process with transformers.

    A local folder needs a processor too, with the chat template.
    """


LanguageModelSource: TypeAlias = Annotated[OpenAISource | TransformersSource, Field(discriminator="loader")]
"""The profile field of a language model; ``loader`` selects the kind."""
VisionModelSource: TypeAlias = Annotated[VisionOpenAISource | VisionTransformersSource, Field(discriminator="loader")]
"""The same for the vision-language model."""
