"""LitServe: two API processes in front of one worker, raw bytes in and out, batched across requests.

- A body of bytes, as FastAPI takes it, rather than JSON, which is LitServe's default.
- Two API processes, as they and not the worker are what is busy; a third has no core.
- Its default queue: the one over ZeroMQ (`fast_queue`) was no faster here, and slower with 5 ms to wait.
- A timeout of 1 ms: without one the worker polls its queue without a pause and takes a core; 5 ms is slower.
"""

from typing import Annotated

import litserve
from fastapi import Body, Response
from graph import PORT, REQUESTS, Graph


class Tokenizer(litserve.LitAPI):
    def setup(self, device):
        self.graph = Graph()

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return self.graph.read(request)

    def batch(self, inputs):
        return inputs

    def predict(self, x):  # a list exactly where more than one request may run at once
        return self.graph.codes_of(x) if REQUESTS > 1 else self.graph.codes(x)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Tokenizer(max_batch_size=REQUESTS, batch_timeout=0.001, api_path="/inference")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=2, log_level="warning", generate_client_file=False
    )
