"""One recorded request and its answer: what tells it from others, what of it is kept, how it lies in the file."""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.dataset import content_hash
from langchain_finops.evals.recorded_dataset import RecordedDataset

__all__ = [
    "Asked",
    "Ended",
    "Recorded",
    "Slot",
    "dump",
    "dump_dataset",
    "dump_end",
    "head",
    "loads",
    "secrets_of",
    "without",
]

VERSION = 1
KEPT_HEADERS = frozenset({"content-encoding", "content-type", "location", "request-id", "x-request-id"})
"""All that is kept of an answer's headers. Nothing of a request's headers is kept."""
SECRET_HEADERS = re.compile(r"(?i).*(auth|cookie|key|password|secret|token).*|openai-(organization|project)")
SECRET_PARAMETERS = re.compile(r"(?i)^(key|code|sig|.*(api.?key|token|secret|signature|password).*|x-(amz|goog)-.*)$")
SECRET_FIELDS = re.compile(r"(?i)(.*[_-])?(token|secret|password|authorization)|.*api[_-]?key|.*[a-z](Token|Secret)")
SECRET_IN_PATH = re.compile(r"(?<=/bot)\d+:[\w-]+")  # Telegram's
TOKEN_ANSWERS = re.compile(r'("(?:access_token|refresh_token|id_token)"\s*:\s*")[^"\\]*(")')
REDACTED = "REDACTED"
TRY_AGAIN = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True)
class Slot:
    """What is tried, how it is set up, and for which time: answers of different slots never mix."""

    configuration: str
    task: str
    repeat: int
    scorer: str = ""
    """The scorer whose judge asks; "" for the target itself."""

    def __str__(self) -> str:
        judge = f", scorer {self.scorer!r}" if self.scorer else ""
        return f"configuration {self.configuration!r}, task {self.task!r}, repeat {self.repeat}{judge}"

    def fields(self) -> dict[str, object]:
        """As a line of a recording tells it."""
        named: dict[str, object] = {"configuration": self.configuration, "task": self.task, "repeat": self.repeat}
        return named | {"scorer": self.scorer} if self.scorer else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, without what differs from one machine or client version to the next: host, headers, null fields."""

    method: str
    path: str
    query: str | None = None
    """Hash of the query's parameters, those that look like secrets left out."""
    body: object = None
    """JSON without null fields; the hash of anything else; None if empty."""
    known_key: str | None = None
    """The key of what was asked, where a secret had to be blotted out of what is kept of it."""

    @classmethod
    def read(cls, method: str, uri: str, body: bytes | str | None) -> "Asked":
        """From what an HTTP client sends."""
        parts = urlsplit(uri)
        kept = sorted(pair for pair in parse_qsl(parts.query) if not SECRET_PARAMETERS.match(pair[0]))
        query = content_hash(kept) if kept else None
        path = SECRET_IN_PATH.sub(REDACTED, parts.path)
        return cls(method=method, path=path, query=query, body=_normalised(body))

    @property
    def key(self) -> str:
        """The same for requests that mean the same."""
        return self.known_key or content_hash([self.method, self.path, self.query, self.body])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A request that was sent, and what came back."""

    slot: Slot
    try_number: int
    """Which try of the slot, counted from 1."""
    asked: Asked
    retry: int = 0
    """Above 0: the HTTP client itself repeated a request that had failed."""
    status: int | None
    """HTTP status; None where no answer came: the connection failed, or the caller gave up."""
    headers: Mapping[str, str]
    answer: bytes
    """As the server meant it: what it compressed in transit is kept plain."""
    started_at: datetime
    first_token_s: float | None
    """From the start to the first bytes of a stream; None for answers that came in one piece."""
    duration_s: float
    gave_up: bool = False
    """The attempt was stopped while it waited for this answer: nothing had failed."""

    @property
    def failed(self) -> bool:
        """Whether a client would try again."""
        return self.status is None or self.status in TRY_AGAIN or self.status >= 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a try was stopped by its harness; of several lines of a try the last one holds."""

    slot: Slot
    try_number: int
    reason: str | None
    """None where a later recording of the same try was not stopped."""


def _normalised(body: bytes | str | None) -> object:
    if not body:
        return None
    raw = body.encode() if isinstance(body, str) else body
    try:
        return _without_nulls(json.loads(raw))
    except (ValueError, RecursionError):
        return {"sha256": hashlib.sha256(raw).hexdigest()}


def _without_nulls(value: object) -> object:
    """Without what client versions differ in: null fields, 0 or 0.0. And without secrets."""
    if isinstance(value, dict):
        kept = {name: _without_nulls(held) for name, held in value.items() if held is not None}
        # Here and not when it is written down, or the request of whoever replays would not match.
        return {name: REDACTED if SECRET_FIELDS.fullmatch(name) else held for name, held in kept.items()}
    if isinstance(value, list):
        return [_without_nulls(held) for held in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def secrets_of(headers: Mapping[str, str]) -> list[str]:
    """What must not reach the file, even if the server repeats it in an answer."""
    values = [str(value) for name, value in headers.items() if SECRET_HEADERS.fullmatch(name)]
    words = [word.strip(";,") for value in values for word in [value, *value.split()]]
    words += [word.partition("=")[2].strip('"') for word in words]  # A cookie's value.
    return sorted({word for word in words if len(word) >= 8}, key=len, reverse=True)


def kept_headers(headers: Mapping[str, Iterable[str] | str]) -> dict[str, str]:
    """The headers that a replay needs, by an allow-list, so that no secret of a server unknown to us is kept."""
    kept: dict[str, str] = {}
    for name, values in headers.items():
        value = values if isinstance(values, str) else next(iter(values), "")
        lower = name.lower()
        if lower in KEPT_HEADERS and not (lower == "location" and "?" in value):
            kept[lower] = value
    return kept


def plain(answer: bytes, headers: dict[str, str]) -> bytes:
    """The answer uncompressed, and the header gone that said it was not. Other encodings than zlib's stay."""
    if headers.get("content-encoding", "").lower() not in {"gzip", "deflate"}:
        return answer
    try:
        decoded = zlib.decompress(answer, zlib.MAX_WBITS | 32)
    except zlib.error:
        return answer
    del headers["content-encoding"]
    return decoded


def without(secrets: Iterable[str], body: object) -> object:
    """A request's body with the secrets blotted out wherever they stand."""
    return json.loads(_blotted(json.dumps(body), secrets))


def dump(call: Recorded, secrets: Iterable[str] = ()) -> str:
    """A line of the file, without its end. The secrets given are blotted out wherever they stand."""
    body = without(secrets, call.asked.body)
    line: dict[str, object] = {
        **call.slot.fields(),
        "try": call.try_number,
        "method": call.asked.method,
        "path": call.asked.path,
        "query": call.asked.query,
        "body": body,
        "key": None if body == call.asked.body else call.asked.key,
        "retry": call.retry or None,
        "status": call.status,
        "headers": dict(call.headers) or None,
        **_answer_fields(call.answer, secrets),
        "started_at": call.started_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "first_token_s": None if call.first_token_s is None else round(call.first_token_s, 6),
        "duration_s": round(call.duration_s, 6),
        "gave_up": call.gave_up or None,
    }
    return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


def dump_end(end: Ended) -> str:
    """A line of the file that tells how a try was stopped, without its end."""
    return json.dumps({**end.slot.fields(), "try": end.try_number, "ended": end.reason}, ensure_ascii=False)


def _answer_fields(answer: bytes, secrets: Iterable[str]) -> dict[str, object]:
    try:
        return {"answer": _blotted(answer.decode(), secrets)}
    except UnicodeDecodeError:
        return {"answer_base64": base64.b64encode(answer).decode("ascii")}


def _blotted(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return TOKEN_ANSWERS.sub(rf"\g<1>{REDACTED}\g<2>", text)


def head(dataset: RecordedDataset | None = None) -> bytes:
    """The first line of a recording."""
    of = {} if dataset is None else {"dataset": dataset.fields()}
    return json.dumps({"recording": VERSION, **of}, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def dump_dataset(dataset: RecordedDataset) -> str:
    """A line that says of which dataset the calls after it are, without its end."""
    return json.dumps({"dataset": dataset.fields()}, ensure_ascii=False)


def loads(data: bytes, path: Path) -> list[Recorded | Ended | RecordedDataset]:
    """All calls and ends of a file, and what they are of, in its order; not what a crash has left of a last line.

    Raises BadData with every line that cannot be read, EvalError for a file of a newer version.
    """
    lines = data.split(b"\n")
    lines.pop()  # What follows the last line end: empty, unless the writer died within a line.
    calls: list[Recorded | Ended | RecordedDataset] = []
    if lines and (dataset := _check_head(lines[0], path)) is not None:
        calls.append(dataset)
    faults: list[Fault] = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            if line.strip():
                calls.append(_load(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"no recorded call: {type(error).__name__}: {error}"
            faults.append(Fault(where=f"{path}:{number}", what=what))
    if faults:
        raise BadData(faults)
    return calls


def _check_head(line: bytes, path: Path) -> RecordedDataset | None:
    try:
        read = json.loads(line)
        version, dataset = read["recording"], read.get("dataset")
        of = None if dataset is None else RecordedDataset.read(dataset)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EvalError(f'{path}:1: {{"recording": {VERSION}}} is expected: this is no recording') from None
    if version != VERSION:
        raise EvalError(f"{path} is of version {version}, this package reads version {VERSION}: upgrade it")
    return of


def _load(line: bytes) -> Recorded | Ended | RecordedDataset:
    read = json.loads(line)
    if "dataset" in read:
        return RecordedDataset.read(read["dataset"])
    slot = Slot(str(read["configuration"]), str(read["task"]), int(read["repeat"]), str(read.get("scorer", "")))
    if "ended" in read:
        return Ended(slot=slot, try_number=int(read["try"]), reason=read["ended"])
    answer = read.get("answer")
    asked = Asked(
        method=read["method"],
        path=read["path"],
        query=read.get("query"),
        body=read.get("body"),
        known_key=read.get("key"),
    )
    return Recorded(
        slot=slot,
        try_number=int(read.get("try", 1)),
        asked=asked,
        retry=int(read.get("retry", 0)),
        status=None if read.get("status") is None else int(read["status"]),
        headers={str(name): str(value) for name, value in read.get("headers", {}).items()},
        answer=base64.b64decode(read.get("answer_base64", "")) if answer is None else answer.encode(),
        started_at=datetime.fromisoformat(read["started_at"]),
        first_token_s=read.get("first_token_s"),
        duration_s=float(read["duration_s"]),
        gave_up=bool(read.get("gave_up", False)),
    )
