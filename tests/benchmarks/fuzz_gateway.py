"""The gateway against requests made up from its own OpenAPI description: no answer may be a server error.

    pip install schemathesis
    python tests/benchmarks/fuzz_gateway.py [--examples 200] [--seed 1]

schemathesis is no dependency of tfrec. A model server, of random weights, and a gateway are processes of their own; the calls go
over a socket, valid ones and such as break the schema.
"""
import argparse
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tfrec.model_server.options import ServeOptions
from tfrec.model_server.process import ServerProcess, free_port

beside = runpy.run_path(str(Path(__file__).parent / "gateway.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="of each call")
    parser.add_argument("--seed", type=int, default=1)
    wish = parser.parse_args()
    program = shutil.which("schemathesis") or shutil.which(str(Path(sys.executable).with_name("schemathesis")))
    if program is None:
        parser.error("schemathesis is not installed: pip install schemathesis")
    with tempfile.TemporaryDirectory() as directory:
        config = beside["publish"](Path(directory), items=500)
        options = ServeOptions(port=free_port(), model_name=config.serving.model_name,
                               model_base_path=str(config.models_dir.absolute()))
        with ServerProcess(options) as server, beside["gateway"](config, server.address) as (_, port):
            words = ["run", f"http://127.0.0.1:{port}/openapi.json", "--checks", "not_a_server_error", "--mode", "all",
                     "--max-examples", str(wish.examples), "--seed", str(wish.seed), "--workers", "2"]
            return subprocess.run([program, *words], cwd=directory).returncode


if __name__ == "__main__":
    sys.exit(main())
