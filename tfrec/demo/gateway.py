"""The demo's gateway, whose clock shows the time of the replayed events.

By the clock of this machine, everybody in a replay of past years would have arrived just now, and what newcomers choose hardly
moves popularity.

    python -m tfrec.demo.gateway CONFIG.toml MODEL_SERVER PORT CLOCK_FILE
"""
import sys
from pathlib import Path

from tfrec import terminal
from tfrec.config import load_config
from tfrec.demo.clock import ReplayClock
from tfrec.gateway.serve import serve_gateway


def main() -> None:
    """Serve until SIGTERM."""
    config, server, port, clock = sys.argv[1:]
    terminal.log_to_standard_error()
    serve_gateway(load_config(Path(config), ()), model_server=server, port=int(port), wall=ReplayClock(Path(clock)))


if __name__ == "__main__":
    main()
