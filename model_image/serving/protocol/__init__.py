"""The wire formats: OpenAI's completions and chat, as far as one model and one choice need them, and `/predict`.

`parameters` is what their requests have in common, `wire` what their answers have; `completions`, `chat` and `predict`
are one interface each: its request, which says what it asks of the model, and the form of its answers.
"""

from serving.protocol.chat import ChatRequest
from serving.protocol.completions import CompletionRequest
from serving.protocol.predict import PredictRequest

__all__ = ["ChatRequest", "CompletionRequest", "PredictRequest"]
