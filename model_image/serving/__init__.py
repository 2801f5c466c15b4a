"""The serving image's server: one model, OpenAI-style completions, continuous batching by transformers.

`config` and `model_dir` are read and checked before anything heavy is imported; `admission`, `text`, `fault`,
`answer_events`, `logprobs` and `contract` are plain data and functions of it; only `batching` and `scoring` know torch
and transformers; `run` is one request, `service` all of them; `api` speaks HTTP; `lifecycle` starts, drains and stops
the process.
"""
