"""llama.cpp's server on a free port of this machine, with one slot; prints its address and serves until it is stopped.

    python llama_cpp.py MODEL.gguf CONTEXT [API_KEY]
"""

import signal
import sys

import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx = int(sys.argv[2])
params.api_keys = sys.argv[3:]
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.warmup = False
params.ui = False
# Seconds between comments, while nothing else is sent.
params.sse_ping_interval = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
signal.pause()
