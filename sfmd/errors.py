"""The daemon's errors: one class, one catalogue. Every boundary maps from here (gRPC status, exit code, HTTP status).

A code is stable for ever: it is printed, documented in docs/troubleshooting.md, and answered offline by
`sfmctl explain CODE`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """The transport-neutral class of an error; its name is the gRPC status of the same name."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    ABORTED = "ABORTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CANCELLED = "CANCELLED"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue: what it means and what to type next."""

    code: str
    status: Status
    title: str
    next_step: str


class E:
    """The catalogue. Numbers are never reused; a new error gets the next free one."""

    DIMENSION = Code("SFM-MEM-001", Status.INVALID_ARGUMENT, "the vector has another dimension than the namespace",
                     "sfmctl memory namespace list")  # fmt: skip
    NOT_FINITE = Code("SFM-MEM-002", Status.INVALID_ARGUMENT, "a vector component is NaN or infinite",
                      "check the embedding step that made this vector")  # fmt: skip
    ZERO_VECTOR = Code("SFM-MEM-003", Status.INVALID_ARGUMENT, "the vector has length zero and cannot be normalised",
                       "leave such memories out, or store their text instead")  # fmt: skip
    PAYLOAD_NOT_JSON = Code("SFM-MEM-004", Status.INVALID_ARGUMENT, "the payload is not JSON as its content type says",
                            "sfmctl memory store --content-type text/plain …")  # fmt: skip
    TOO_LARGE = Code("SFM-MEM-005", Status.INVALID_ARGUMENT, "a field, payload or batch is over its limit",
                     "split it, or raise SOMA_LIMITS__… (docs/reference/settings.md)")  # fmt: skip
    EMPTY_TEXT = Code("SFM-MEM-006", Status.INVALID_ARGUMENT, "the text is empty or has no words to embed",
                      "give a text with at least one word, or a vector")  # fmt: skip
    NO_NAMESPACE = Code("SFM-MEM-007", Status.NOT_FOUND, "there is no such namespace",
                        "sfmctl memory namespace list")  # fmt: skip
    NO_MEMORY = Code("SFM-MEM-008", Status.NOT_FOUND, "there is no such memory",
                     "sfmctl memory list -n NAMESPACE")  # fmt: skip
    EXISTS = Code("SFM-MEM-009", Status.ALREADY_EXISTS, "the id or idempotency key exists with other content",
                  "sfmctl memory get ID, then store with --expected-version; of a used key: give another")  # fmt: skip
    VERSION = Code("SFM-MEM-010", Status.FAILED_PRECONDITION, "the memory is not at the expected version",
                   "sfmctl memory get ID, decide again, and send its present version")  # fmt: skip
    INVALID = Code("SFM-MEM-011", Status.INVALID_ARGUMENT, "a field has a value outside its range",
                   "correct the field that the message names")  # fmt: skip
    FINGERPRINT = Code("SFM-MEM-012", Status.FAILED_PRECONDITION,
                       "the namespace was made by another embedder than the daemon now has",
                       "start sfmd with the namespace's embedder, or embed anew: docs/how-to/move.md")  # fmt: skip
    NO_EMBEDDER = Code("SFM-MEM-013", Status.FAILED_PRECONDITION, "the namespace takes vectors only",
                       "send a vector, or make a namespace with an embedder")  # fmt: skip
    CLOCK = Code("SFM-MEM-014", Status.INVALID_ARGUMENT, "a time is outside the range that clocks can mean",
                 "give Unix seconds between 1900 and 2200")  # fmt: skip
    BEHIND_HORIZON = Code("SFM-MEM-015", Status.OUT_OF_RANGE, "the log no longer reaches back to that seq",
                          "sfmctl memory stats shows the horizon; ask for a later seq")  # fmt: skip
    FUTURE_SEQ = Code("SFM-MEM-016", Status.OUT_OF_RANGE, "that seq has not been written yet",
                      "ask for a seq that a reply has named")  # fmt: skip
    RECEIPT = Code("SFM-MEM-017", Status.FAILED_PRECONDITION, "the receipt does not belong to this request",
                   "replay with the request that the receipt was made for")  # fmt: skip
    NOTHING_TO_UNDO = Code("SFM-MEM-018", Status.FAILED_PRECONDITION, "there is no change that can be undone",
                           "sfmctl memory watch --from-seq 0 shows the log")  # fmt: skip
    PURGED = Code("SFM-MEM-019", Status.FAILED_PRECONDITION, "the content was purged and cannot be brought back",
                  "store it anew under another id")  # fmt: skip
    NAMESPACE_EXISTS = Code("SFM-MEM-020", Status.ALREADY_EXISTS, "the namespace exists with another configuration",
                            "sfmctl memory namespace configure NAMESPACE …")  # fmt: skip
    NO_TOKEN = Code("SFM-MEM-021", Status.UNAUTHENTICATED, "the call carries no valid bearer token",
                    "sfmd token create --principal NAME, then SFM_TOKEN_FILE=…")  # fmt: skip
    DENIED = Code("SFM-MEM-022", Status.PERMISSION_DENIED, "the token's principal may not do this",
                  "sfmd token create --namespace … --verb …")  # fmt: skip
    BUSY = Code("SFM-MEM-023", Status.RESOURCE_EXHAUSTED, "the daemon is at its limit and sheds load",
                "wait for the retry-after that the reply names, then try again")  # fmt: skip
    STORE_DOWN = Code("SFM-MEM-024", Status.UNAVAILABLE, "the store cannot be reached or written",
                      "sfmctl daemon status; check disk space and the daemon's log")  # fmt: skip
    CORRUPT = Code("SFM-MEM-025", Status.DATA_LOSS, "stored bytes do not match their digest",
                   "sfmd check, then sfmd restore from the last backup")  # fmt: skip
    DEADLINE = Code("SFM-MEM-026", Status.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready",
                    "give a longer deadline, or ask for less")  # fmt: skip
    CANCELLED = Code("SFM-MEM-027", Status.CANCELLED, "the caller cancelled the call", "nothing")  # fmt: skip
    STOPPING = Code("SFM-MEM-028", Status.UNAVAILABLE, "the daemon is stopping", "try again in a moment")  # fmt: skip
    MALFORMED = Code("SFM-MEM-029", Status.INVALID_ARGUMENT, "the request could not be read",
                     "build the request from proto/memory.proto")  # fmt: skip
    BUG = Code("SFM-MEM-030", Status.INTERNAL, "a bug in the daemon", "report it with the request id")  # fmt: skip
    LOCKED = Code("SFM-MEM-031", Status.FAILED_PRECONDITION, "another process has the data directory open",
                  "sfmctl daemon status; stop the other daemon first")  # fmt: skip
    CONFIG = Code("SFM-MEM-032", Status.FAILED_PRECONDITION, "a setting has no valid value",
                  "docs/reference/settings.md names every setting and its range")  # fmt: skip
    SCHEMA = Code("SFM-MEM-033", Status.FAILED_PRECONDITION, "the store's schema is not this version's",
                  "sfmd migrate")  # fmt: skip
    NOT_REACHED = Code("SFM-MEM-034", Status.UNAVAILABLE, "the daemon cannot be reached",
                       "sfmctl daemon start")  # fmt: skip
    UNTRUSTED = Code("SFM-MEM-035", Status.UNAVAILABLE, "the daemon's certificate is not trusted",
                     "give --ca-file FILE, or check that you reach the right daemon")  # fmt: skip


CATALOGUE: dict[str, Code] = {c.code: c for c in vars(E).values() if isinstance(c, Code)}


class Refused(Exception):
    """A refusal that the caller can act on: what happened, in words, and a code of the catalogue.

    The message never holds a payload, a token or another secret.
    """

    def __init__(
        self, code: Code, message: str = "", *, retry_after_s: float | None = None, next_step: str = ""
    ) -> None:
        super().__init__(message or code.title)
        self.code = code
        self.message = message or code.title
        self.next_step = next_step or code.next_step
        self.retry_after_s = retry_after_s
