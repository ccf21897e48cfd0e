"""The files of TLS: read, and checked before gRPC gets them, whose errors name neither the file nor the fault."""
import ssl
from pathlib import Path

import grpc

from tfrec.config import ClientTls
from tfrec.errors import UsageError


def read_authority(path: Path, setting: str) -> bytes:
    """The certificates of an authority, as PEM. `UsageError` names the file and the `setting` that names it."""
    text = _read(path, setting)
    try:
        ssl.create_default_context(cadata=text.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"{path} ({setting}): expected certificates in PEM, beginning with -----BEGIN CERTIFICATE-----. "
                         f"({_reason(error)})") from error
    return text


def read_pair(cert: Path, key: Path, section: str) -> tuple[bytes, bytes]:
    """A certificate and its private key, as PEM. `UsageError` names the file that is missing, unreadable or of another pair."""
    texts = _read(cert, f"{section}.cert"), _read(key, f"{section}.key")

    def no_password() -> str:  # without it, OpenSSL would ask at the terminal
        raise UsageError(f"{key} ({section}.key): is encrypted, which no server can read by itself. Remove its password: "
                         f"openssl pkey -in {key} -out plain.key")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=no_password)
    except (ssl.SSLError, ValueError) as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise UsageError(f"{key} ({section}.key): is not the key of {cert} ({section}.cert). "
                             "Name two files of one pair.") from error
        raise UsageError(f"{cert} ({section}.cert) and {key} ({section}.key): expected a certificate and a private key in PEM. "
                         f"({_reason(error)})") from error
    return texts


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials | None:
    """What a channel needs, or None without TLS. Raises `UsageError` when a file cannot be used."""
    if tls.ca is None:
        return None
    authority, cert, key = read_authority(tls.ca, "gateway.tls.ca"), None, None
    if tls.cert is not None and tls.key is not None:
        cert, key = read_pair(tls.cert, tls.key, "gateway.tls")
    return grpc.ssl_channel_credentials(authority, key, cert)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} ({setting}): cannot be read: {error.strerror}. "
                         "Check the path, and who may read the file.") from error


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
