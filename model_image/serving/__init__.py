"""The serving image's server: one model, OpenAI-style completions, continuous batching by transformers.

`config` and `model_dir` are read and checked before anything heavy is imported; `admission`, `text` and `fault` are
plain data structures; `batching` is the only module that knows torch and transformers; `service` ties them together for
one request; `api` speaks HTTP; `lifecycle` starts, drains and stops the process.
"""
