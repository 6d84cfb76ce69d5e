"""The peers of ganpipe's style engine, with the same embedded VGG19 weights, on a CPU, float32 as they come.

    python -m benchmarks.style_peers [--checkout DIR] [--steps 5] [--edge 256] [--min-edge 256] [--out DIR]

One file a peer, what they share in `timing` and `vgg19`; run as above, all are timed.
"""
