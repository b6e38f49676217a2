"""The hook `prompting`: which version of which prompt, and what else changes in the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pointsman_wit.imports.types import Message, PromptRef, RequestHead

from .errors import Rejection

if TYPE_CHECKING:
    from pointsman_wit.imports.request_data import Request


class Prompting:
    """A plugin that chooses prompts, or edits requests."""

    def check(self) -> None:
        """As in `Routing`."""

    def select(self, head: RequestHead, request: Request) -> PromptChoice | Rewrite | Rejection | None:
        """What is to be rendered into this request, or changed in it. None: no opinion."""
        raise NotImplementedError


@dataclass
class PromptChoice:
    """A version of a prompt in the configuration's `[prompts]` folder."""

    prompt: PromptRef
    experiment: tuple[str, str] | None = None
    labels: list[tuple[str, str]] = field(default_factory=list)

    @staticmethod
    def of(name: str, version: str | None = None) -> PromptChoice:
        """No version: the pinned one, or else the newest."""
        return PromptChoice(PromptRef(name, version))

    def arm(self, experiment: str, arm: str) -> PromptChoice:
        """The experiment that it was chosen by, and its arm. Both are recorded with the answer."""
        self.experiment = (experiment, arm)
        return self

    def label(self, name: str, value: str) -> PromptChoice:
        """Recorded with the exchange, and seen by later plugins through `request.metadata`."""
        self.labels.append((name, value))
        return self


@dataclass(frozen=True)
class Edit:
    """One change. Indexes count the client's messages as they are at that moment; a prompt's own come before them all."""

    kind: str
    value: Message | str | int | tuple[int, str] | tuple[str, str]

    @staticmethod
    def prepend(message: Message) -> Edit:
        """A message before the others."""
        return Edit("Prepend", message)

    @staticmethod
    def append(message: Message) -> Edit:
        """A message after the others."""
        return Edit("Append", message)

    @staticmethod
    def replace_system(text: str) -> Edit:
        """The text of the first system or developer message; there is one then."""
        return Edit("ReplaceSystem", text)

    @staticmethod
    def replace(index: int, text: str) -> Edit:
        """The text of one message."""
        return Edit("Replace", (index, text))

    @staticmethod
    def remove(index: int) -> Edit:
        """One message less."""
        return Edit("Remove", index)

    @staticmethod
    def set_parameter(name: str, json: str) -> Edit:
        """A top-level field and its value as JSON text; not model, messages, prompt, stream or stream_options."""
        return Edit("SetParameter", (name, json))


@dataclass
class Rewrite:
    """Changes in the request, applied in order."""

    edits: list[Edit]
    choice: PromptChoice | None = None

    @staticmethod
    def by(*edits: Edit) -> Rewrite:
        """These changes."""
        return Rewrite(list(edits))

    def of(self, choice: PromptChoice) -> Rewrite:
        """The prompt that is rendered before the edits; one that the registry does not have is recorded only."""
        self.choice = choice
        return self
