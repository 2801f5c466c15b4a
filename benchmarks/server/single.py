"""The application that the server replaces: `generate` behind HTTP, one request at a time, in order of arrival.

`python -m benchmarks.server.single MODEL_DIRECTORY PORT`, in the model servers' environment. It streams as
transformers' own streamer for asynchronous applications does, so its time to first token is as short as it can be.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import torch  # type: ignore[import-not-found]
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import StreamingResponse
from transformers import AsyncTextIteratorStreamer, AutoModelForCausalLM, AutoTokenizer  # type: ignore[import-not-found]


class Question(BaseModel):
    """What is needed of OpenAI's request; the rest is ignored. Always greedy, always streamed."""

    prompt: str
    max_tokens: int = 16


class Application:
    """One model, and whose turn it is. asyncio's lock is fair: first come, first served."""

    def __init__(self, directory: str) -> None:
        torch.set_num_threads(1)
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(directory, local_files_only=True).eval()
        self._turn = asyncio.Lock()

    async def events(self, question: Question) -> AsyncIterator[str]:
        """The answer as server-sent events, with `usage` in the last one."""
        async with self._turn:
            streamer = AsyncTextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
            inputs = self._tokenizer(question.prompt, return_tensors="pt")
            generating = asyncio.create_task(asyncio.to_thread(self._generate, inputs, question.max_tokens, streamer))
            async for text in streamer:
                yield _event({"index": 0, "text": text, "finish_reason": None})
            total, prompt = (await generating).shape[1], inputs["input_ids"].shape[1]
        finish = "length" if total - prompt == question.max_tokens else "stop"
        usage = {"prompt_tokens": prompt, "completion_tokens": total - prompt, "total_tokens": total}
        yield _event({"index": 0, "text": "", "finish_reason": finish}, usage)
        yield "data: [DONE]\n\n"

    def _generate(self, inputs: Any, max_tokens: int, streamer: AsyncTextIteratorStreamer) -> Any:
        try:
            return self._model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False, streamer=streamer)
        finally:
            streamer.end()  # a second time, unless it failed: then whoever reads would wait for ever


def _event(choice: dict[str, Any], usage: dict[str, int] | None = None) -> str:
    return f"data: {json.dumps({'object': 'text_completion', 'choices': [choice], 'usage': usage})}\n\n"


def main(directory: str, port: int) -> None:
    """Serve until SIGTERM."""
    application, app = Application(directory), FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    async def completions(question: Question) -> StreamingResponse:
        return StreamingResponse(application.events(question), media_type="text/event-stream")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
