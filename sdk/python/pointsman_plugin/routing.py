"""The hook `routing`: which model answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pointsman_wit.imports.types import RequestHead, Target

from .errors import Rejection

if TYPE_CHECKING:
    from pointsman_wit.exports.routing import Attempt, Batch
    from pointsman_wit.imports.request_data import Chunk, Request, Response


class Routing:
    """A plugin that chooses models."""

    def check(self) -> None:
        """Is the configuration one to work with? Asked once, before this version takes traffic; what it raises keeps the one before it
        in place and is shown to whoever wrote the configuration."""

    def route(self, head: RequestHead, request: Request) -> Plan | Observe | Rejection | None:
        """Which models are to be tried for this request, in which order. None: no opinion."""
        raise NotImplementedError

    def after_attempt(
        self, head: RequestHead, request: Request, last: Attempt, answer: Response | None
    ) -> NextStep | Rejection:
        """What follows an attempt of a plan that wants to be asked (`Plan.reviewed`, `Plan.watched`): `answer` is the answer, or what of
        a stream has come; none if the attempt has failed. Without code of its own an answer is accepted, and a failure is followed by
        the next target."""
        return NextStep.accept() if last.failure is None else NextStep.fall_back()

    def on_chunk(
        self, head: RequestHead, request: Request, part: Batch, chunk: Chunk, state: bytes
    ) -> ChunkStep | Rejection:
        """May the client have this part of an answer? Asked batch after batch about answers that the plugin wants to observe
        (`Plan.observed`, `Observe`). `state` is what it gave back last (`ChunkStep.keeping`); what an instance keeps itself another one
        may not find."""
        return ChunkStep.enough()


@dataclass(frozen=True)
class Observe:
    """No opinion about the model: whoever answers, `on_chunk` is asked after each so many events, or so many milliseconds."""

    events: int | None = None
    ms: int | None = None


@dataclass
class Review:
    """What `after_attempt` is to be asked about; failures always are."""

    answers: bool
    logprobs: bool
    tokens: int | None


@dataclass
class Plan:
    """Models in the order in which they are tried. They have the names of the configuration's `[models]`."""

    targets: list[Target]
    headers: list[tuple[str, str]] = field(default_factory=list)
    reason: str = ""
    labels: list[tuple[str, str]] = field(default_factory=list)
    review: Review | None = None
    observe: Observe | None = None

    @staticmethod
    def to(model: str) -> Plan:
        """This model is tried first."""
        return Plan([Target(model, None, None)])

    def then(self, model: str) -> Plan:
        """This one is tried when those before it have failed. A plan has at most 8."""
        self.targets.append(Target(model, None, None))
        return self

    def within(self, ms: int) -> Plan:
        """Time for the whole answer of the model named last, in milliseconds."""
        self.targets[-1].timeout_ms = ms
        return self

    def first_byte_within(self, ms: int) -> Plan:
        """Time until the first byte of the answer of the model named last, in milliseconds."""
        self.targets[-1].first_byte_timeout_ms = ms
        return self

    def because(self, reason: str) -> Plan:
        """Why, in a few words. The client sees it as `x-pointsman-reason`."""
        self.reason = reason
        return self

    def header(self, name: str, value: str) -> Plan:
        """A header for the upstream. A plan has at most 16, and none that the host sets itself."""
        self.headers.append((name, value))
        return self

    def label(self, name: str, value: str) -> Plan:
        """Recorded with the exchange, and seen by later plugins through `request.metadata`."""
        self.labels.append((name, value))
        return self

    def reviewed(self, tokens: int) -> Plan:
        """`Routing.after_attempt` is asked about each attempt: about answers before the client gets any of them, and about failures. A
        stream is held back until so many tokens have come; 1 to 4096."""
        self.review = Review(True, self.review is not None and self.review.logprobs, tokens)
        return self

    def watched(self) -> Plan:
        """`Routing.after_attempt` is asked about attempts that have failed."""
        self.review = self.review or Review(False, False, None)
        return self

    def with_logprobs(self) -> Plan:
        """Models say how probable each token was, where they can (`Response.mean_logprob`)."""
        self.review = self.review or Review(True, True, None)
        self.review.logprobs = True
        return self


    def observed(self, events: int | None = None, ms: int | None = None) -> Plan:
        """`Routing.on_chunk` is asked about the answer, after each so many events, or so many milliseconds."""
        self.observe = Observe(events, ms)
        return self


@dataclass(frozen=True)
class NextStep:
    """What follows an attempt."""

    kind: str
    model: str = ""
    after_ms: int = 0

    @staticmethod
    def accept() -> NextStep:
        """The client gets this answer, or this failure."""
        return NextStep("accept")

    @staticmethod
    def fall_back() -> NextStep:
        """The plan's next target."""
        return NextStep("fall-back")

    @staticmethod
    def again(after_ms: int) -> NextStep:
        """The same target again, after so many milliseconds."""
        return NextStep("again", after_ms=after_ms)

    @staticmethod
    def escalate_to(model: str) -> NextStep:
        """This model is asked next."""
        return NextStep("escalate", model=model)


@dataclass(frozen=True)
class ChunkStep:
    """What becomes of a batch."""

    kind: str
    value: str = ""
    state: bytes = b""

    @staticmethod
    def go_on() -> ChunkStep:
        """The client gets it; the plugin is asked about the next one."""
        return ChunkStep("go-on")

    @staticmethod
    def enough() -> ChunkStep:
        """The client gets it and all that follows; the plugin is not asked again."""
        return ChunkStep("enough")

    @staticmethod
    def stop(ending: str = "content-filter") -> ChunkStep:
        """The client gets none of it: the answer ends before it, with `content-filter` or `length`."""
        return ChunkStep("stop", ending)

    @staticmethod
    def escalate_to(model: str) -> ChunkStep:
        """This model answers in its place. Only where nothing has gone to the client."""
        return ChunkStep("escalate", model)

    def keeping(self, state: bytes) -> ChunkStep:
        """The same, and what the plugin wants to find at its next batch of this answer: at most 4,096 bytes."""
        return ChunkStep(self.kind, self.value, state)
