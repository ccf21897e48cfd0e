"""The body of a REST request: its announced length, its encoding, and its content unpacked within limits."""
import zlib

from tfrec.model_server.grpc_status import invalid

MAX_BODY = 16 << 20  # bytes; reading that much JSON may stop all else for most of a second, and gRPC is there for larger requests
MAX_DIGITS = 100  # Python converts no number of some thousand digits
_UNPACKED_AT_ONCE = 1 << 20  # bytes

Headers = list[tuple[bytes, bytes]]


def announced_length(headers: Headers) -> int:
    """The length of a body by its headers: 0 if they have none, above `MAX_BODY` if it is not a number."""
    length = dict(headers).get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) <= MAX_DIGITS else MAX_BODY + 1


def content_encoding(headers: Headers) -> bytes:
    """The content encoding; empty if the headers name none."""
    return next((value for name, value in headers if name == b"content-encoding"), b"")


def unpacked(body: bytes, encoding: bytes) -> bytes:
    """The body of a request, unpacked in steps: no more than `MAX_BODY` bytes ever exist of one that would have more."""
    if b"gzip" not in encoding:  # in small letters, among others: as the real server looks for it
        return body
    unzip = zlib.decompressobj(wbits=31)
    parts, size, left = [], 0, body
    try:
        while left and not unzip.eof:
            parts.append(unzip.decompress(left, _UNPACKED_AT_ONCE))
            size += len(parts[-1])
            if size > MAX_BODY:
                raise invalid(f"Failed to uncompress the gzipped body: it has more than {MAX_BODY} bytes")
            left = unzip.unconsumed_tail
    except zlib.error as error:
        raise invalid(f"Failed to uncompress the gzipped body: {error}") from error
    if not unzip.eof:
        raise invalid("Failed to uncompress the gzipped body: it is cut off")
    return b"".join(parts)
