"""Real HTTP requests to a service, and what becomes of them by chance: the cases of `fuzz_http.py`."""

from __future__ import annotations

import io
import json
import random
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from served import MODEL

KEY = "a-key-of-the-fuzzer"

ODD_NUMBERS = [b"0", b"-1", b"1", b"2", b"00000000007", b"+5", b"0x10", b"1e3", b"65536", b"2147483648", b"9" * 19]
ODD_NUMBERS += [b"9" * 400, b"1.5", b" 5", b"5 ", b"5, 5", b"5,6", b"", b"nan", "٣".encode()]
ODD_BYTES = [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b": ", b"\xff", b"\xc3", b"\x80", b"%"]
ODD_BYTES += [
    b"%00",
    b"%2e%2e/",
    b"../",
    b"//",
    b"\\",
    b"?",
    b"&",
    b"=",
    b"#",
    b";",
    b"\x0b",
    b"\x1b[31m",
    b"--",
    b"A" * 3000,
]
ODD_HEADERS = [
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding : chunked", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999",
    b"Content-Length: 18446744073709551616", b"Content-Length: 5\r\nContent-Length: 6", b"Expect: 100-continue",
    b"Expect: 200-ok", b"Connection: close", b"Connection: upgrade\r\nUpgrade: websocket", b"Connection: keep-alive, x",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__", b"Host: evil.example",
    b"Host:", b"Host: localhost, evil.example", b"Origin: https://evil.example", b"Origin: null", b"Range: bytes=0-1",
    b"Origin: https://page.example", b"Content-Encoding: gzip", b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary=", b"Content-Type: multipart/form-data; boundary=" + b"b" * 200,
    b'Content-Type: multipart/form-data; boundary="\\"', b"Content-Type: application/json", b"X-Request-ID: a\tb\x7f",
    b"X-Request-ID: " + b"a" * 5000, b"X-API-Key: wrong", b"Authorization: Bearer \xff\xfe", b" folded: header",
    b"Accept: application/xml", b"X-Forwarded-For: 10.0.0.1", b"X-HTTP-Method-Override: DELETE", b"Cookie: a=b",
    b"Inference-Header-Content-Length: 5", b"Inference-Header-Content-Length: 99999999",
    b"Trailer: X-Late", b"TE: trailers", b"Proxy: http://evil.example", b"X-Many: y\r\n" * 150 + b"X-Many: y",
]  # fmt: skip
ODD_QUERIES = [
    b"top=0", b"top=1e3", b"top=9999999999", b"top=5&top=5", b"top=%35", b"sure=nan", b"sure=2", b"sure=1e-99",
    b"tree=2", b"coverage=0.9", b"model=../../etc/passwd", b"model=http://127.0.0.1:1/", b"model=%00",
    b"url=file:///etc/passwd",
    b"%", b"=", b"&&&&", b"top", b"sure=%F0%9F%92%A9", b"x=" + b"y" * 5000, b"model=tiny", b"top=2", b"sure=0.9",
]  # fmt: skip


# --- Requests that make sense -------------------------------------------------------------------


def photos() -> list[bytes]:
    """Two small photos and a broken one."""
    image = Image.frombytes("RGB", (40, 28), random.Random(0).randbytes(40 * 28 * 3))
    made = []
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        image.save(file, kind)
        made.append(file.getvalue())
    return [*made, made[0][:300]]


def form(data: list[bytes], field: str = "photo") -> bytes:
    """A form with these photos, and the boundary b."""
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    return b"".join(head.encode() + b"\r\n\r\n" + each + b"\r\n" for each in data) + b"--b--\r\n"


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def request(
    method: str, target: str, body: bytes = b"", kind: str = "", chunk: int = 0, key: bool = True, more: str = ""
) -> bytes:
    """A whole request; `more` is one more header."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "User-Agent: fuzz"]
    lines += [f"Authorization: Bearer {KEY}"] if key else []
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [more] if more else []
    if chunk:
        lines += ["Transfer-Encoding: chunked"]
        body = chunked(body, chunk)
    elif body:
        lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def requests(document: dict[str, Any], size: int) -> list[bytes]:
    """Requests to all that a service tells of, and some that every service gets; its network takes such a size."""
    first, *_ = given = photos()
    made = [
        request("GET", "/openapi.json"), request("GET", "/docs"), request("GET", "/"), request("HEAD", "/v1/models"),
        request("OPTIONS", "/v1/classify"), request("GET", "/v2/health/live", key=False), request("GET", "/nothing"),
    ]  # fmt: skip
    for path, operations in document["paths"].items():
        target = path.replace("{name}", MODEL).replace("{version}", "1")
        for method, operation in operations.items():
            kinds = operation.get("requestBody", {}).get("content", {})
            if not kinds:
                made.append(request(method.upper(), target))
            for kind, told in kinds.items():
                made += _with_body(method.upper(), target, kind, told, given)
        if path.endswith("/infer"):
            made += _tensors(target, size)
    made.append(request("POST", "/v1/classify?top=3&sure=0.9&tree=true", first))
    made.append(made[-1] + made[-1] + request("GET", "/v1/models") + made[-1])
    return made


def _with_body(method: str, target: str, kind: str, told: dict[str, Any], given: list[bytes]) -> list[bytes]:
    if kind.startswith("image/") or kind == "application/octet-stream":
        whole = [request(method, target, each, "image/jpeg") for each in given]
        return [*whole, request(method, target, given[0], chunk=100), request(method, target, given[1], chunk=1)]
    if kind == "multipart/form-data":
        ((field, schema), *_) = told["schema"]["properties"].items()
        body, form_kind = form(given[: 1 + (schema["type"] == "array")], field), f"{kind}; boundary=b"
        return [request(method, target, body, form_kind), request(method, target, body, form_kind, chunk=64)]
    example: Any = next((each.get("value") for each in told.get("examples", {}).values()), {"inputs": []})
    return [request(method, target, json.dumps(example).encode(), kind)]


def _tensors(target: str, size: int) -> list[bytes]:
    """A picture for the Open Inference Protocol, as JSON and as bytes behind it."""
    shape, pixels = [1, size, size, 3], random.Random(0).randbytes(size * size * 3)
    tensor: dict[str, Any] = {"name": "pixels", "datatype": "UINT8", "shape": shape}
    whole = json.dumps({"inputs": [{**tensor, "data": list(pixels)}]}).encode()
    short = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(pixels)}}],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    length = f"Inference-Header-Content-Length: {len(short)}"
    return [
        request("POST", target, whole, "application/json"),
        request("POST", target, short + pixels, "application/octet-stream", more=length),
    ]


# --- Cases --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is said, piece by piece, with a pause after each; and what then.

    The client waits, says that no more will come (half), lets bytes dribble for ever, goes, or resets the connection.
    """

    pieces: list[bytes]
    pause: float
    then: str


def case(seed: int, number: int, whole: list[bytes]) -> Case:
    """Return one case."""
    dice = random.Random(f"{seed} {number}")
    data = bytearray(dice.choice(whole))
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        data = mutated(data, dice, whole)
    if dice.random() < 0.2:
        data += dice.choice(whole)
    then = dice.choices(("half", "wait", "dribble", "go", "reset"), (53, 15, 7, 15, 10))[0]
    if then == "dribble":
        data += dice.choice(whole)[: dice.randrange(60)]
    at = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 0, 1, 2, 8))))
    pieces = [bytes(data[one:two]) for one, two in zip([0, *at], [*at, len(data)], strict=True)]
    return Case(pieces=pieces, pause=dice.choice((0.0, 0.001, 0.05)), then=then)


def mutated(data: bytearray, dice: random.Random, whole: list[bytes]) -> bytearray:
    """Return requests after one change; most fall into the head."""
    head = data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else len(data)
    at = dice.randrange(max(1, head if dice.random() < 0.7 else len(data)))
    what = dice.randrange(14)
    if what == 0 and data:
        data[min(at, len(data) - 1)] ^= 1 << dice.randrange(8)
    elif what == 1:
        data[at:at] = dice.choice(ODD_BYTES)
    elif what == 2:
        data[at : at + dice.choice((1, 1, 2, 9))] = b""
    elif what == 3:
        data = data[:at]
    elif what in (4, 5):  # a number: a length, a size, a version, a parameter
        numbers = [*re.finditer(rb"[0-9a-f]+(?=\r\n)|[0-9]+", data)]
        if numbers:
            match = dice.choice(numbers[:12] if dice.random() < 0.7 else numbers)
            data[match.start() : match.end()] = dice.choice(ODD_NUMBERS)
    elif what in (6, 7):
        ends = [match.end() for match in re.finditer(rb"\r\n", data[:head])][:-1] or [len(data)]
        data[(end := dice.choice(ends)) : end] = dice.choice(ODD_HEADERS) + b"\r\n"
    elif what == 8:  # a line twice, often, not, or with another end
        lines = data[:head].split(b"\r\n")
        which = dice.randrange(len(lines))
        lines[which : which + 1] = dice.choice(([], [lines[which]] * 2, [lines[which]] * 120, [lines[which] + b"\n"]))
        data = bytearray(b"\r\n".join(lines)) + data[head:]
    elif what == 9:
        target = re.search(rb" /[^ ]*", data)
        if target:
            sign = b"&" if b"?" in target[0] else b"?"
            data[target.end() : target.end()] = sign + dice.choice(ODD_QUERIES)
    elif what == 10:  # into another request
        other = dice.choice(whole)
        data[at:] = other[dice.randrange(len(other)) :]
    elif what == 11:
        method = dice.choice((b"GET", b"POST", b"PUT", b"TRACE", b"CONNECT", b"PRI", b"get", b"M-SEARCH", b"G\0T"))
        data[: max(0, data.find(b" "))] = method
    elif what == 12:
        data[at:at] = data[(one := dice.randrange(len(data) + 1)) : one + dice.choice((3, 40, 500))]
    else:
        boundaries = [match.start() for match in re.finditer(rb"--b|boundary=b|name=\"|filename=\"", data)]
        if boundaries:
            place = dice.choice(boundaries) + dice.randrange(14)
            data[place:place] = dice.choice([*ODD_BYTES, b"\r\n--b\r\n" * 80, b"\"; filename*=utf-8''%ff; name=\""])
    return data
