"""The parameters that requests have in common, and how a wrong one is named.

What is not listed is refused by its name. Official clients send some parameters that ask for nothing: those are taken
in just the values that change nothing.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from serving.errors import BadRequest

STOP_STRINGS = 4
_Request = TypeVar("_Request", bound=BaseModel)


class Only:
    """Marks a parameter that asks for nothing in these values, and is not supported in others."""

    def __init__(self, *values: object) -> None:
        self._values = values

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self._values)}

    def _check(self, value: object) -> object:
        if value not in self._values:
            taken = [repr(one) for one in self._values if one is not None]
            raise ValueError("not supported by this server; " + " or ".join(["leave it out", *taken]))
        return value


def _listed(stop: object) -> object:
    return [stop] if isinstance(stop, str) else stop


def _checked(stop: list[str] | None) -> list[str] | None:
    if stop is not None and (len(stop) > STOP_STRINGS or not all(stop)):
        raise ValueError(f"at most {STOP_STRINGS} stop strings, none of them empty")
    return stop


Stop = Annotated[list[str] | None, BeforeValidator(_listed), AfterValidator(_checked)]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
"""None takes the model's own; below `engine.GREEDY_BELOW_TEMPERATURE` is greedy."""
TopP = Annotated[float | None, Field(gt=0, le=1)]
Seed = Annotated[int | None, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(BaseModel):
    """How a stream is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = None
    """None: usage in the last event; True: in an event of its own, as OpenAI does; False: none."""
    include_obfuscation: Literal[False] | None = None


class OpenAIRequest(BaseModel):
    """What completions and chat share. What is not listed here, or not with this value, is refused and named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    max_tokens: int | None = Field(None, ge=0)
    temperature: Temperature = None
    top_p: TopP = None
    seed: Seed = None
    stop: Stop = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: Annotated[Any, Only(None, 1)] = 1
    presence_penalty: Annotated[Any, Only(None, 0)] = None
    frequency_penalty: Annotated[Any, Only(None, 0)] = None
    logit_bias: Annotated[Any, Only(None, {})] = None

    @property
    def include_usage(self) -> bool | None:
        return None if self.stream_options is None else self.stream_options.include_usage

    def sampling(self) -> dict[str, Any]:
        """The fields of an Ask that every interface fills alike."""
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": tuple(self.stop or ()),
        }


def parse(kind: type[_Request], body: bytes) -> _Request:
    """The request in a body; raises BadRequest that names the first thing that is wrong with it."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _wrong(error) from None


def refuse(parameter: str, why: str) -> BadRequest:
    """The error for a parameter that is wrong, to be raised."""
    return BadRequest(f"{parameter}: {why}", code="invalid_value", parameter=parameter)


def _wrong(error: ValidationError) -> BadRequest:
    detail = error.errors(include_url=False, include_input=False)[0]
    place = detail["loc"]
    path = ".".join(map(str, place)) or "body"
    message = _MESSAGES.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    return BadRequest(f"{path}: {message}", code="invalid_value", parameter=str(place[0]) if place else None)


_MESSAGES = {"json_invalid": "not valid JSON", "extra_forbidden": "no parameter of this interface"}
