"""The server's speed beside other ways to serve the same model, as ratios of one run.

`random_model`, `single` and `inprocess` are programs of the model servers' environment; everything else runs in the
library's.
"""
