"""What every server here runs: the same graph, session options and threads.

The environment says which: PEER_GRAPH (the ONNX file), PEER_PORT, PEER_THREADS (of a run), PEER_ITEMS (in a request),
PEER_BATCH (items in a run, at most).
"""

import os

import numpy as np
import onnxruntime as ort

PORT = int(os.environ["PEER_PORT"])
BATCH = int(os.environ["PEER_BATCH"])
REQUESTS = max(1, BATCH // int(os.environ["PEER_ITEMS"]))
"""Requests in a run, for servers that count requests and not items."""

SEGMENTS = 10


class Graph:
    """features float32 [items, SEGMENTS, width] -> codes int64 [items, SEGMENTS, 1]."""

    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["PEER_THREADS"])
        # There are as many threads as cores: one that spins takes a core from the server and from the clients.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            os.environ["PEER_GRAPH"], options, providers=["CPUExecutionProvider"]
        )
        self.width = self._session.get_inputs()[0].shape[-1]

    def read(self, body):
        """The items in the body of a request, without a copy."""
        return np.frombuffer(body, np.float32).reshape(-1, SEGMENTS, self.width)

    def codes(self, features):
        """Codes of a batch."""
        return self._session.run(["codes"], {"features": features})[0]

    def codes_of(self, requests):
        """Codes of each of several requests, which run as one batch."""
        if len(requests) == 1:
            return [self.codes(requests[0])]
        ends = np.cumsum([len(request) for request in requests])[:-1]
        return np.split(self.codes(np.concatenate(requests)), ends)
