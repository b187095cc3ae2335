"""Triton Inference Server itself, with its Python backend: what NVIDIA publishes as a package is `nvidia-pytriton`.

- The binary tensor extension over HTTP, both ways; the dynamic batcher merges requests of any number of items.
- No delay: while a batch runs the next one collects, and to wait longer only adds latency.
- Tensors go from Triton to this process through shared memory. The ONNX Runtime backend, which would spare that, is
  not in the package.
"""

import numpy as np
from graph import BATCH, PORT, SEGMENTS, Graph
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

graph = Graph()


@batch
def infer(features):
    return [graph.codes(features)]


if __name__ == "__main__":
    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="codes",
            infer_func=infer,
            inputs=[Tensor(name="features", dtype=np.float32, shape=(SEGMENTS, graph.width))],
            outputs=[Tensor(name="codes", dtype=np.int64, shape=(SEGMENTS, 1))],
            config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.serve()
