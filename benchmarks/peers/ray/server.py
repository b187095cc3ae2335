"""Ray Serve: one replica behind the HTTP proxy, raw bytes in and out, `serve.batch` across requests.

- RAY_SERVE_THROUGHPUT_OPTIMIZED is set around this, as its performance guide asks, and RAY_worker_niceness to 0.
- The access log is off, and so are the dashboard and the log of the driver.
- One replica: it has both cores for its batches, and the proxy is what is busy.
"""

import signal

import ray
from graph import PORT, REQUESTS, Graph
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

QUIET = {"enable_access_log": False}


@serve.deployment(max_ongoing_requests=1024, logging_config=QUIET)
class Tokenizer:
    def __init__(self):
        self.graph = Graph()

    async def __call__(self, request: Request):
        codes = await self.run(self.graph.read(await request.body()))
        return Response(codes.tobytes(), media_type="application/octet-stream")

    @serve.batch(max_batch_size=REQUESTS, batch_wait_timeout_s=0.001, max_concurrent_batches=1)
    async def run(self, requests):
        return self.graph.codes_of(requests)


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, log_to_driver=False, object_store_memory=200_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT}, logging_config=QUIET)
    serve.run(Tokenizer.bind(), route_prefix="/inference")
    signal.pause()
