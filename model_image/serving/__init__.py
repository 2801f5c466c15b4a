"""The serving image's server: one model, OpenAI's API, continuous batching by transformers, a page for people.

`config` and `model_dir` are read and checked before anything heavy is imported.

- plain data and functions of it: `ask`, `outcome`, `trace`, `admission`, `text`, `think`, `chat_template`, `fault`,
  `answer_events`, `logprobs`, `protocol`, `contract`
- the engine: `engine` is what the service needs of one; `batching` and `generating` are two, made by `loading` with
  `model`, `attention`, `sampler`, `memory` and `scoring`; only these know torch and transformers
- `run` is one request, `service` all of them
- over HTTP: `api` the routes, `answering` one request, `access` the key, `page` what lies at /ui
- what they tell: `metrics` and `exposition`, `request_log`, `tracing` and `spans`
- `lifecycle` starts, drains and stops the process
"""
