"""Workers that wait for each other at the start, and no longer than they should.

TensorFlow waits for the workers of TF_CONFIG without end and cannot be interrupted meanwhile. So each worker first sees
that the others are there: it listens at its own address and knocks at theirs. One that is lost later is missed by
TensorFlow's heartbeats, within some ten seconds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from tf_vitcnn.errors import BadInput

JOIN = float(os.environ.get("TF_VITCNN_JOIN_SECONDS", "300"))  # machines of one cluster start minutes apart


def meet(own: str, others: Sequence[str], seconds: float = JOIN) -> None:
    """Returns once every other worker listens; one that does not in time is named."""
    end = time.monotonic() + seconds
    waiting = list(others)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # an address that only the network knows: TensorFlow will say more
            stack.enter_context(socket.create_server(("", int(own.rpartition(":")[2]))))
        while waiting := [other for other in waiting if not _listens(other)]:
            if time.monotonic() > end:
                raise BadInput(
                    f"--strategy multiworker: after {seconds:g} seconds no worker listens at {', '.join(waiting)}; "
                    f"start all workers of TF_CONFIG"
                )
            time.sleep(0.2)
    # a worker that knocks from now on finds TensorFlow listening at the same address


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True
