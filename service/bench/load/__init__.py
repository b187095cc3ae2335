"""A load generator for any HTTP server: open loop or closed, answers checked, latency from when a request was due.

    with LoadProcess() as load:
        request = Request("/tokenize", body, headers)
        result = load.run(Load("http://127.0.0.1:8000", [request], Open(rate=500, seconds=10)))

It knows nothing of what it measures: paths, bodies and right answers are arguments.
"""

from service.bench.load.plan import Closed, Load, Open, Request
from service.bench.load.process import LoadProcess
from service.bench.load.result import LoadResult, percentiles

__all__ = ["Closed", "Load", "LoadProcess", "LoadResult", "Open", "Request", "percentiles"]
