"""What a run asks of its models, counted while it runs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import Any

from tasks.models.target import TargetModel
from tasks.profiles.build import Roles
from tasks.roles import Captioner, ImageGenerator, ImageTextEncoder


class CountedRoles(Roles):
    """The roles of a profile; how many images each was given is counted, not what text.

    Attributes:
        tally: ``target``, ``clip``, ``captioned`` and ``generated`` images so far. What a cache gave is not in it, but
            for generated images.
    """

    tally: Counter[str]

    def __init__(self, *args: Any, **named: Any) -> None:
        self.tally = Counter()
        super().__init__(*args, **named)

    def target(self, name: str) -> TargetModel:
        """See ``Roles.target``."""
        built = name in self._targets
        found = super().target(name)
        if not built:
            # On the network itself, so that it does not matter who reads it.
            found.network.register_forward_pre_hook(lambda _, inputs: self.tally.update(target=len(inputs[0])))
        return found

    @cached_property
    def clip(self) -> ImageTextEncoder:
        """See ``Roles.clip``."""
        return self._counting(super().clip, "encode_images", lambda images: {"clip": len(images)})

    @cached_property
    def captioner(self) -> Captioner | None:
        """See ``Roles.captioner``."""
        return self._counting(super().captioner, "caption", lambda images: {"captioned": len(images)})

    @cached_property
    def generator(self) -> ImageGenerator | None:
        """See ``Roles.generator``."""
        return self._counting(super().generator, "generate", lambda concept, count, *_: {"generated": count})

    def _counting(self, whole: Any, method: str, counted: Callable[..., dict[str, int]]) -> Any:
        if whole is None:
            return None
        # What a cache gives was not computed: the model behind it is watched.
        role = getattr(whole, "plain", whole)
        plain = getattr(role, method)

        @functools.wraps(plain)
        def counting(*args: Any, **named: Any) -> Any:
            answer = plain(*args, **named)
            self.tally.update(counted(*args, **named))
            return answer

        setattr(role, method, counting)  # the object stays of its class, which some look at
        return whole
