"""A chat model behind an OpenAI-compatible server; no error or malformed response can become a label.

The key is read from the environment at the first request and is used only in the request's header.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.language.chat import AccessError, LanguageModelError, Message, NoAnswerError, Reply
from tasks.language.completion import read_completion, tokens_of
from tasks.language.config import OpenAISource
from tasks.language.prices import Spending
from tasks.language.replies import ReplyStore
from tasks.language.retry import Clock, RateLimit, RetryPolicy, TransientError, retry_after, within
from tasks.language.secret import Hidden

if TYPE_CHECKING:
    import openai

_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_FILTERED = ("content_filter", "content_policy_violation")
# Servers read a seed as a signed 32-bit number, and llama.cpp reads the highest unsigned one as "random".
_SEEDS = 2**31 - 1


class OpenAIChat:
    """A client for one model on one server; see ``OpenAISource`` for the settings.

    429 (rate limit), 408, 409, 5xx, timeouts, broken connections and broken JSON are retried, bounded in attempts and
    in time; the client's own retries are off. Exhausted quota, 401, 402, 403 and 404 are never retried. Redirects are
    not followed, so that neither prompt nor key reaches another address.

    Args:
        source: Server, model and limits.
        store: Books requests for counting and for the price cap.
        offline: Refuse to open a connection.
        environment: Where the key is looked up; the process's own by default.

    Raises:
        PriceCapError: A price cap is set for a model of unknown price.
    """

    def __init__(
        self,
        source: OpenAISource,
        store: ReplyStore | None = None,
        *,
        offline: bool = False,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.source = source
        self.offline = offline
        self._environment = os.environ if environment is None else environment
        self._clock = clock or Clock()
        self._limit = RateLimit(source.requests_per_second, self._clock)
        self._policy = RetryPolicy(source.attempts, source.total_seconds, self._clock)
        self._spending = Spending(store or ReplyStore(), source.model, source.price, source.price_cap_usd)
        self._client: openai.OpenAI | None = None
        self._without_key = Hidden("")
        self._making = threading.Lock()

    @property
    def identity(self) -> str:
        """The model's name."""
        return self.source.model

    def check(self) -> None:
        """Check that a request could be made, without making one.

        Raises:
            LanguageModelError: ``openai`` is not installed, or there is no usable key.
        """
        _import_openai()
        read_key(self.source, self._environment)

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer the last message; see ``tasks.language.chat.ChatModel``.

        Raises:
            NoAnswerError: A refusal, an empty reply, or one cut off at ``max_tokens``.
            AccessError: No quota, wrong key, no permission, no such model, or ``offline``.
            PriceCapError: The request could exceed the price cap.
            UnavailableError: All attempts, or all time, were used up.
            BadReplyError: The answer is not a chat completion.
        """
        if self.offline:
            raise AccessError(
                f"--offline: the model {self.source.model!r} at {self.source.base_url} cannot be asked, and the reply "
                "is not in the store; run without --offline, or choose a profile whose language model is local."
            )
        body: dict[str, Any] = {
            "model": self.source.model,
            "messages": [{"role": message.role, "content": _content(message)} for message in messages],
            "temperature": temperature,
            self.source.token_limit: max_tokens,
        }
        if self.source.send_seed:
            body["seed"] = seed % _SEEDS

        # First, because it takes seconds: those whose turn comes meanwhile would otherwise ask all at once.
        self._connect()

        def attempt(seconds_left: float) -> Reply:
            self._limit.wait()
            booking = self._spending.book(messages, max_tokens)
            text = self._send(body, min(self.source.timeout_seconds, seconds_left), booking)
            self._spending.settle(booking, *tokens_of(text))
            return read_completion(text, self.source.model, self._without_key)

        return self._policy.run(attempt, self.source.base_url)

    def _send(self, body: dict[str, Any], timeout: float, booking: int) -> str:
        """One request; the body of a successful response as text."""
        client, openai = self._connect(), _import_openai()
        ask = client.chat.completions.with_raw_response.create
        try:
            return within(timeout, lambda: ask(**body, timeout=timeout).http_response.text)
        except (openai.APITimeoutError, TimeoutError):
            failure: Exception = TransientError(f"did not answer within {timeout:.3g} s")
        except openai.APIConnectionError:
            failure = TransientError("could not be reached, or broke the connection")
        except openai.APIStatusError as error:
            # The server answered, so it did no work that it could bill.
            self._spending.settle(booking, 0, 0)
            failure = self._refusal(error)
        # Raised out here, so that it does not carry along the client's error, which holds the server's whole response.
        raise failure

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        status, marks = error.status_code, {error.code, error.type}
        said = self._said(error)
        model, where = repr(self.source.model), self.source.base_url
        if status == 402 or marks & set(_NO_QUOTA) or (status == 429 and "insufficient_quota" in str(error.body)):
            return AccessError(
                f"The account behind {self._key_name()} has no quota left at {where}; check the plan and the billing "
                f"page of the provider.{said}"
            )
        if status == 401:
            check = self.source.sent_key or "key_variable in the profile"
            return AccessError(f"The server at {where} refused {self._key_name()} (401); check {check}.{said}")
        if status == 403:
            return AccessError(
                f"The server at {where} gives {self._key_name()} no access to the model {model} (403); check the "
                f"project's permissions on the provider's page.{said}"
            )
        if status == 404:
            return AccessError(
                f"There is no model {model} at {where}, or no chat server (404); check 'model' and 'base_url' in the "
                f"profile.{said}"
            )
        if marks & set(_FILTERED):
            return NoAnswerError(f"The server at {where} refused one request by its content filter.{said}")
        if status in (408, 409, 425, 429) or status >= 500:
            reason = "limits the rate" if status == 429 else "failed"
            return TransientError(f"{reason} ({status})", retry_after(error.response.headers, self._clock.date()))
        return LanguageModelError(
            f"The server at {where} does not accept the request ({status}); check the profile's settings for the "
            f"language model.{said}"
        )

    def _said(self, error: openai.APIStatusError) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        message = body.get("message") or body.get("detail")
        words = " ".join(self._without_key(message).split()) if isinstance(message, str) else ""
        printable = "".join(letter for letter in words if letter.isprintable())
        return f" The server says: {printable[:200]}" if printable else ""

    def _key_name(self) -> str:
        return f"the key in {self.source.sent_key}" if self.source.sent_key else "a request without a key"

    def _connect(self) -> openai.OpenAI:
        with self._making:
            if self._client is not None:
                return self._client
            library = _import_openai()
            # A server without authentication ignores the word; the client insists on one.
            key = read_key(self.source, self._environment) or "none"
            self._without_key = Hidden(key)
            self._client = client = library.OpenAI(
                api_key=key,
                base_url=self.source.base_url,
                max_retries=0,
                http_client=library.DefaultHttpxClient(
                    follow_redirects=False,
                    trust_env=not self.source.on_this_machine,
                    event_hooks={"response": [self._guard]},
                ),
            )
            return client

    def _guard(self, response: Any) -> None:
        """Bound a body in size and in time: a server that sends byte after byte would never hit a read timeout."""
        from tasks.language.body import BoundedBody

        seconds = response.request.extensions["timeout"]["read"]
        response.stream = BoundedBody(response.stream, seconds, self._clock)


def _content(message: Message) -> str | list[dict[str, Any]]:
    """Plain text if there are no images: some servers do not accept content parts."""
    if not message.pictures:
        return message.content
    shown = [{"type": "image_url", "image_url": {"url": picture.data_url()}} for picture in message.pictures]
    return [{"type": "text", "text": message.content}, *shown]


def read_key(source: OpenAISource, environment: Mapping[str, str]) -> str | None:
    """The key for a server, stripped of white space; None for a server on this machine that needs none.

    Raises:
        AccessError: The variable is not set or is not a valid key; the message never contains its value.
    """
    variable = source.sent_key
    if variable is None:
        return None
    key = environment.get(variable, "").strip()
    if not key:
        raise AccessError(
            f"The model {source.model!r} at {source.base_url} needs a key: set the environment variable {variable}, or "
            "write 'key_variable: null' in the profile for a server that needs none."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise AccessError(
            f"The key in {variable} holds a space, a line break or a letter that no key has; copy it again."
        )
    return key


def _import_openai() -> Any:
    try:
        import openai
        import tenacity  # noqa: F401 - so that a missing package is not mistaken for a failed request
    except ImportError as error:
        raise LanguageModelError(
            f'A language model on a server needs the package {error.name}: pip install "clear-benchmark[openai]".'
        ) from None
    return openai
