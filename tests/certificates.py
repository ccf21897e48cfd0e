"""Real certificates for tests: an authority, and pairs that it has signed."""
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; `ca` is the file of its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.ca = self._write(name, self._key, self._certificate(name, self._key, x509.BasicConstraints(True, None)))[0]

    def sign(self, name: str, *, host: str = "", days: float = 1.0, password: bytes = b"") -> tuple[Path, Path]:
        """The files of a certificate, valid until `days` from now, for 127.0.0.1 or else for `host`; and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        hosts: list[x509.GeneralName] = [x509.DNSName(host) if host else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = self._certificate(name, key, x509.SubjectAlternativeName(hosts), days=days)
        return self._write(name, key, certificate, password)

    def _certificate(self, name: str, key: ec.EllipticCurvePrivateKey, what: x509.ExtensionType, *,
                     days: float = 1.0) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder()
        builder = builder.subject_name(_named(name)).issuer_name(self._name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - 9 * DAY)
        return builder.not_valid_after(now + days * DAY).add_extension(what, critical=False).sign(self._key, hashes.SHA256())

    def _write(self, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate,
               password: bytes = b"") -> tuple[Path, Path]:
        cert_file, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        return cert_file, key_file


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
