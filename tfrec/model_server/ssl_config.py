"""The file of `--ssl_config_file`: the server's certificate and key, in the text form of TensorFlow Serving's SSLConfig.

The real server reads PEM text from it and not paths, once, at the start. So the file is as secret as the key.
"""
import os
from pathlib import Path

import grpc
from google.protobuf import text_format

from tfrec.client.certificates import read_authority, read_pair
from tfrec.config import ServerTls
from tfrec.errors import UsageError
from tfrec.model_server.text_protos import message_of, read_ssl


def ssl_config(tls: ServerTls) -> str:
    """The text for the certificates of `tls`. Raises `UsageError` when there are none, or a file cannot be used."""
    if tls.cert is None or tls.key is None:
        raise UsageError("There is no certificate for the model server: set serving.tls.cert and serving.tls.key.")
    cert, key = read_pair(tls.cert, tls.key, "serving.tls")
    message = message_of("SSLConfig")
    message.server_cert, message.server_key = cert.decode(), key.decode()
    if tls.client_ca is not None:
        message.custom_ca, message.client_verify = read_authority(tls.client_ca, "serving.tls.client_ca").decode(), True
    return str(text_format.MessageToString(message))


def write_ssl_config(tls: ServerTls, path: Path) -> None:
    """Write the file, readable by its owner alone."""
    text = ssl_config(tls)
    try:
        path.unlink(missing_ok=True)  # or it would keep the mode that it has
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}. Choose a directory that can.") from error


def ssl_config_in_memory(tls: ServerTls) -> str:
    """A path from which this process, and a program that takes it over, can read the file: the key reaches no disk."""
    file = os.memfd_create("ssl_config", 0)  # without MFD_CLOEXEC: it has to survive execv
    os.write(file, ssl_config(tls).encode())
    return f"/proc/self/fd/{file}"


def server_credentials(path: str) -> grpc.ServerCredentials | None:
    """What the embedded server listens with, or None for a plain port. Raises `UsageError` when the file cannot be used."""
    if not path:
        return None
    message = read_ssl(path)
    missing = [name for name in ("server_key", "server_cert") if not getattr(message, name)]
    if message.client_verify and not message.custom_ca:
        missing.append("custom_ca, against which clients are verified")
    if missing:
        raise UsageError(f"{path}: expected {' and '.join(missing)}, as PEM text. `tfrec ssl-config` writes such a file.")
    return grpc.ssl_server_credentials(
        [(message.server_key.encode(), message.server_cert.encode())],
        root_certificates=message.custom_ca.encode() or None,
        require_client_auth=message.client_verify,
    )
