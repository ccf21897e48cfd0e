"""The properties of the Kafka client: where the brokers are, TLS and SASL, from a file as Kafka's own tools take it.

A line is `name=value`, with the names of librdkafka: `bootstrap.servers`, `security.protocol`, `sasl.username` and so on. A file
of its own keeps passwords out of the configuration, which is copied into every published version.
"""
from pathlib import Path

from tfrec.errors import ConfigError, UsageError

Properties = dict[str, str | bool]
# what the exactly-once rule needs: the position is in the log, and every end and gap is noticed
OWN: Properties = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
}


def client_properties(path: Path | None, servers: str | None, *, group: str) -> Properties:
    """The properties of the consumer.

    Args:
        path: the file, if there is one.
        servers: brokers, HOST:PORT separated by commas, that take the place of those of the file.
        group: the consumer group under which the lag is seen, unless the file names one.

    Raises:
        UsageError: nobody named a broker.
        ConfigError: the file cannot be read, a line is no property, or a property is one that tfrec sets.
    """
    given: Properties = {"group.id": group, "client.id": "tfrec", "log_level": "0"}
    if path is not None:
        given |= _read(path)
    if servers is not None:
        given |= {"bootstrap.servers": servers}
    if not any(name in given for name in ("bootstrap.servers", "metadata.broker.list")):
        raise UsageError("ingest --from kafka needs a broker: pass --servers HOST:PORT, or set ingest.kafka to a file of "
                         "properties with a line bootstrap.servers=HOST:PORT.")
    return given | OWN


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}. Check ingest.kafka.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 from byte {error.start} on. Save the file as UTF-8.") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip()[0] in "#!":
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name:  # the line itself may be a password
            raise ConfigError(f"{path} line {number}: expected name=value, such as bootstrap.servers=localhost:9092.")
        if name in OWN:
            raise ConfigError(f"{path} line {number}: {name} is set by tfrec, as the log keeps the position. Remove the line.")
        found[name] = value
    return found
