"""Builds what araio is compared with, for this machine, once.

    .venv/bin/python benchmarks/build_peer.py llama-cpp       the library, for native.py and stream.py
    .venv/bin/python benchmarks/build_peer.py llama-server    the server, for serve.py

Both come from the same pinned source distribution, which is all that is fetched. They go to
~/.cache/araio/peers, and take 10 to 40 minutes each on two cores.
"""

from __future__ import annotations

import argparse

from peers import llama_cpp, llama_server
from peers.json_process import PeerError

BUILDS = {"llama-cpp": llama_cpp.build, "llama-server": llama_server.build}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("peer", choices=BUILDS)
    arguments = parser.parse_args()
    try:
        BUILDS[arguments.peer]()
    except PeerError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
