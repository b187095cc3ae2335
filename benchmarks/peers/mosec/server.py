"""mosec: one worker behind its Rust front, raw bytes in and out, batched across requests.

- Raw bytes rather than its JSON or msgpack, which cost more and hold the same.
- One worker process, with both cores for its graph: two of them with a thread each were no faster here.
- 1 ms is the shortest wait that mosec knows; 5 ms gave no more throughput here, and its default is 10.
"""

from graph import REQUESTS, Graph
from mosec import Server, Worker


class Tokenizer(Worker):
    resp_mime_type = "application/octet-stream"

    def __init__(self):
        super().__init__()
        self.graph = Graph()

    def deserialize(self, data):
        return self.graph.read(data)

    def forward(self, data):  # a list exactly where more than one request may run at once
        return self.graph.codes_of(data) if REQUESTS > 1 else self.graph.codes(data)

    def serialize(self, data):
        return data.tobytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Tokenizer, num=1, max_batch_size=REQUESTS, max_wait_time=1, timeout=60)
    server.run()
