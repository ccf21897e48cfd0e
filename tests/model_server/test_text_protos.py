"""The files that flags name."""
from pathlib import Path

import pytest

from tfrec.errors import UsageError
from tfrec.model_server.ssl_config import server_credentials
from tfrec.model_server.text_protos import Batching, read_batching, read_metrics_path


def written(directory: Path, text: str) -> str:
    (directory / "config").write_text(text)
    return str(directory / "config")


def test_batching_parameters(tmp_path: Path) -> None:
    text = """max_batch_size { value: 32 } batch_timeout_micros { value: 0 } max_enqueued_batches { value: 100 }
    num_batch_threads { value: 2 } thread_pool_name { value: "pool" } allowed_batch_sizes: 8 allowed_batch_sizes: 32
    pad_variable_length_inputs: true"""
    assert read_batching(written(tmp_path, text)) == Batching(32, 0, 100, 2, "pool", (8, 32), True)
    assert read_batching(written(tmp_path, "# the defaults")) == Batching(thread_pool_name="")
    assert read_batching("") == Batching()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "expected positive numbers, got max_batch_size: 0"),
        ("batch_timeout_micros { value: -1 }", "expected positive numbers, got batch_timeout_micros: -1"),
        ("allowed_batch_sizes: [4, 2, 8] max_batch_size { value: 8 }", "must grow and end with max_batch_size .8., got .4, 2"),
        ("max_batch_size: 3", "Error parsing text-format tensorflow.serving.BatchingParameters: 1:17"),
        ("enable_large_batch_splitting { value: true }", 'no field named "enable_large_batch_splitting"'),
    ],
)
def test_parameters_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"config: .*{message}"):
        read_batching(written(tmp_path, text))


def test_monitoring(tmp_path: Path) -> None:
    assert read_metrics_path("") == ""
    assert read_metrics_path(written(tmp_path, "")) == ""
    assert read_metrics_path(written(tmp_path, 'prometheus_config { path: "/metrics" }')) == ""
    assert read_metrics_path(written(tmp_path, "prometheus_config { enable: true }")) == "/monitoring/prometheus/metrics"
    assert read_metrics_path(written(tmp_path, 'prometheus_config { enable: true path: "/metrics" }')) == "/metrics"
    with pytest.raises(UsageError, match="cannot be read as a tensorflow.serving.MonitoringConfig"):
        read_metrics_path(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "config: expected server_key and server_cert, as PEM text. `tfrec ssl-config` writes such a file."),
        ('server_key: "k" server_cert: "c" client_verify: true', "config: expected custom_ca, against which clients"),
        ('server_key: "secret', "config: Error parsing text-format tensorflow.serving.SSLConfig: 1:13"),
    ],
)
def test_certificates_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    assert server_credentials("") is None
    with pytest.raises(UsageError) as caught:
        server_credentials(written(tmp_path, text))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
