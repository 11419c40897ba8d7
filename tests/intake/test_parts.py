"""A multipart body is taken apart as Werkzeug does it, or refused; never differently."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import MultiPartParser

from amana.intake.parts import MAX_PARTS, parse_parts
from amana.protocol.errors import ProtocolError

BOUNDARY = "amana-test"


def body_of(parts: dict[str, bytes], boundary: str = BOUNDARY) -> bytes:
    body = b""
    for name, data in parts.items():
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        body += data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def by_werkzeug(body: bytes) -> dict[str, bytes] | None:
    try:
        form, files = MultiPartParser().parse(io.BytesIO(body), BOUNDARY.encode(), len(body))
    except ValueError:
        return None
    found = {name: file.stream.read() for name, file in files.items(multi=True)}
    for file in files.values():
        file.close()
    return found | {name: text.encode() for name, text in form.items(multi=True)}


names = st.sampled_from(["case", "policy", "labels", "grants", "manifest"])
contents = st.binary(max_size=200) | st.sampled_from(
    [b"\r\n", b"--", b"\r\n--", b"--" + BOUNDARY.encode()[:5], b"\r\n\r\n"]
)


@given(st.dictionaries(names, contents, max_size=5))
def test_what_was_put_together_comes_apart(parts: dict[str, bytes]) -> None:
    assert parse_parts(BOUNDARY, body_of(parts)) == parts


@given(st.dictionaries(names, contents, min_size=1, max_size=3), st.data())
def test_a_damaged_body_is_refused_or_read_as_werkzeug_reads_it(
    parts: dict[str, bytes], data: st.DataObject
) -> None:
    body = bytearray(body_of(parts))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[position] = data.draw(st.integers(0, 255))
        else:
            del body[position]
    try:
        found = parse_parts(BOUNDARY, bytes(body))
    except ProtocolError:
        return
    assert found == by_werkzeug(bytes(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'preamble\r\n--amana-test\r\nContent-Disposition: form-data; name="case"\r\n\r\nx\r\n--amana-test--',
        body_of({"case": b"x"})[:-6],
        body_of({"case": b"x\n--amana-test\n\ny"}),
        body_of({"case": b"x"}).replace(b'name="case"', b"name=case"),
        body_of({"case": b"x"}).replace(b"Content-Disposition", b"Content-Position"),
        body_of({"case": b"x"})[: -len("--amana-test--\r\n")] + body_of({"case": b"y"}),
        body_of({f"part_{chr(97 + i)}": b"" for i in range(MAX_PARTS + 1)}),
    ],
)
def test_what_is_ambiguous_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_parts(BOUNDARY, body)


@pytest.mark.parametrize("boundary", ["", "x" * 101, "é", "a b", "a\r\nb", '"'])
def test_a_boundary_that_is_none_is_refused(boundary: str) -> None:
    with pytest.raises(ProtocolError):
        parse_parts(boundary, body_of({"case": b"x"}, boundary))
