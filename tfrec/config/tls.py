"""The certificates of the gRPC connection between the model server and those who ask it. All files are PEM."""
from pathlib import Path

from pydantic import model_validator

from tfrec.config.section import Section


class ServerTls(Section):
    """The model server's side, which `tfrec serve` passes to it. Without a certificate it speaks plain gRPC."""

    cert: Path | None = None  # The server's certificate, with those between it and the authority. None: no TLS.
    key: Path | None = None  # The private key of `cert`, not encrypted.
    client_ca: Path | None = None  # Answer only clients with a certificate of this authority (mutual TLS). None: everyone.

    @model_validator(mode="after")
    def _whole(self) -> "ServerTls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("needs both cert and key, or neither of them")
        if self.client_ca is not None and self.cert is None:
            raise ValueError("has client_ca, but no cert and key: without TLS no client is asked for a certificate")
        return self


class ClientTls(Section):
    """The side of those who ask the model server: whom they trust, and what they show it."""

    ca: Path | None = None  # Trust a model server whose certificate this authority has signed. None: plain gRPC, without TLS.
    cert: Path | None = None  # The certificate to show to a server that asks for one (mutual TLS).
    key: Path | None = None  # The private key of `cert`, not encrypted.

    @model_validator(mode="after")
    def _whole(self) -> "ClientTls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("needs both cert and key, or neither of them")
        if self.cert is not None and self.ca is None:
            raise ValueError("has cert and key, but no ca: set ca to the authority that signed the model server's certificate")
        return self
