"""POST /predict: a prompt in, the text out; as simple clients know it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serving.ask import Ask
from serving.protocol.parameters import Seed, Temperature, TopP
from serving.protocol.wire import Answer


class PredictRequest(BaseModel):
    """Its body."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    """None: as many as the server allows and the context holds."""
    temperature: Temperature = None
    top_p: TopP = None
    seed: Seed = None

    def ask(self) -> Ask:
        """What it asks of the model."""
        return Ask(
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
        )


class PredictWire:
    """The form of its answers."""

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id

    def whole(self, answer: Answer) -> dict[str, Any]:
        return {
            "response": answer.text,
            "finish_reason": answer.finish_reason,
            "model": self._model_id,
            "usage": answer.usage,
        }
