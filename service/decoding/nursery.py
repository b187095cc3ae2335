"""The process that all decoders are forked from: it has imported what they need, and has met no media.

    python -m service.decoding.nursery CONTROL MEMORY_BYTES LOG_FORMAT

For each socket that comes over the control socket it forks a decoder, and sends back a descriptor of that process.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from service.decoding.confinement import confine
from service.decoding.decoder import run_decoder
from service.logs import begin_logs

_log = logging.getLogger("service.decoding.nursery")
READY = b"ready"


def main() -> None:
    """Fork decoders until the server hangs up."""
    control, memory_bytes = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    begin_logs("json" if sys.argv[3] == "json" else "text", "warning")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a decoder: the kernel buries it
    gc.freeze()
    # A server may be gone at any time; and a decoder before its descriptor is made: the server starts another nursery.
    with suppress(BrokenPipeError, ConnectionResetError, ProcessLookupError):
        _serve(control, memory_bytes)


def _serve(control: socket.socket, memory_bytes: int) -> None:
    control.send(READY)
    while True:
        data, files, _, _ = socket.recv_fds(control, 1, 1)
        if not data:
            return
        (link,) = files
        child = os.fork()
        if not child:
            control.close()
            _decode(link, memory_bytes)
        os.close(link)
        process = os.pidfd_open(child)
        socket.send_fds(control, [b"1"], [process])
        os.close(process)


def _decode(link: int, memory_bytes: int) -> None:
    """Never comes back: nothing of the nursery's is to be ended twice."""
    status = 1
    try:
        confine(memory_bytes)
        run_decoder(socket.socket(fileno=link))
        status = 0
    except BaseException as error:
        # Its words may be those of the media.
        _log.error("a decoder ended with %s", type(error).__name__)
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
