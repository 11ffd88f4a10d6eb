"""`python -m davylab.kubelet`: started by the supervisor, inside the namespace."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from davylab.kubelet.agent import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="davylab.kubelet")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--restart-cap", type=float, default=10.0)
    args = parser.parse_args()
    asyncio.run(run(args.state, args.nodes, args.restart_cap))


if __name__ == "__main__":
    main()
