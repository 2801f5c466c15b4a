"""The server's configuration: one frozen object, read once from the environment, every mistake named with its remedy.

MODEL_DIR, MODEL_ID, REVISION, VERSION, HOST, PORT and OTEL_EXPORTER_OTLP_ENDPOINT have no prefix; every other field is
SERVING_<FIELD>. An unknown SERVING_* variable is refused: a misspelt setting must not become a silent default.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

PREFIX = "SERVING_"
UNPREFIXED = frozenset({"model_dir", "model_id", "revision", "version", "host", "port", "otel_exporter_otlp_endpoint"})


class ConfigError(Exception):
    """The environment does not describe a server; the message names the variable and what would be right."""


def _separated(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


Bounds = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_separated)]
Edges = Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], BeforeValidator(_separated)]

# fmt: off
TIME_BUCKETS_SECONDS = (
    .005, .01, .02, .03, .05, .075, .1, .15, .2, .25, .3, .4, .5, .75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120,
)
# fmt: on


class Settings(BaseModel):
    """What one server process serves, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_dir: Path = Path("model")
    """Directory with config.json, tokenizer.json and safetensors."""
    model_id: str = Field("model", min_length=1)
    """The model's name; a request that names another one is refused."""
    revision: str = Field("unknown", min_length=1)
    """Id of the weights' and files' state; a label of every metric."""
    version: str = Field("unknown", min_length=1)
    """Id of what was released (revision, image, settings); a label of every metric."""
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    """0 takes a free port; the log line "listening on" says which."""

    engine: Literal["auto", "batching", "generate"] = "auto"
    """`batching` runs requests together, `generate` one after the other; `auto` batches a model that can be batched."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights in memory; `auto`: float32 on a CPU, on a GPU what the revision's config says."""
    max_new_tokens: int = Field(2048, ge=1)
    """The most that a request may ask for, and what it gets if it does not say, as far as the context holds it."""
    temperature: float | None = Field(None, ge=0, le=2)
    """Of a request that names none; None: as the model's generation_config says, greedy if it does not sample."""
    top_p: float | None = Field(None, gt=0, le=1)
    """The same."""
    kv_cache_tokens: int = Field(16384, ge=16)
    """Tokens, prompts and answers of all running requests together, that the KV cache holds."""
    max_batch_tokens: int = Field(512, ge=1)
    """Tokens of one forward pass; longer prompts are processed in several."""
    max_requests_per_batch: int = Field(32, ge=1)
    """Requests that run at the same time."""
    max_queue: int = Field(128, ge=0)
    """Requests that wait for their turn; the next one gets 429."""
    request_deadline_seconds: float = Field(60, gt=0)
    """From arrival to the last token; then 504."""
    drain_delay_seconds: float = Field(5, ge=0)
    """After SIGTERM: not ready, but still accepting, until load balancers have noticed."""
    drain_deadline_seconds: float = Field(30, ge=0)
    """After the delay: how long running requests may take to finish."""
    prompt_classes: Bounds = (32, 128)
    """Upper bounds, in tokens, of the prompt classes in metrics."""
    output_classes: Bounds = (32, 128)
    """Upper bounds, in tokens, of the output classes in metrics."""
    time_buckets_seconds: Edges = TIME_BUCKETS_SECONDS
    """Edges of all histograms of times; a limit that somebody judges by must be one of them."""
    stall_seconds: float = Field(5, gt=0)
    """A stream without a token for so long, after its first, is counted as stalled."""
    long_tokens: int = Field(1024, ge=1)
    """An answer of more tokens is counted as `long`."""
    probes_only: bool = False
    """Refuse every request without the header x-sluice-probe, so that a drill cannot answer a user."""
    api_key: str = Field("", repr=False)
    """If set, requests need it as a bearer token; probes and metrics do not."""
    api_key_file: Path | None = None
    """A file that holds it, instead."""
    ui: bool = True
    """Serve the page for people at /ui. Its libraries cost seconds at the start and some hundred MB."""
    log_prompts: bool = False
    """Put prompts and answers into the log, which nobody wants by accident."""
    otel_exporter_otlp_endpoint: str = ""
    """Where spans go by OTLP over HTTP, e.g. http://otel-collector:4318; "": nowhere."""
    threads: int = Field(1, ge=1)
    """CPU threads of torch. Never more than the CPU limit: spinning threads make latency erratic."""
    fault: str = ""
    """A drill, see `fault.py`."""
    allow_faults: bool = False
    """Without it `fault` is refused."""

    @field_validator("prompt_classes", "output_classes", "time_buckets_seconds")
    @classmethod
    def _ascending(cls, bounds: tuple[float, ...]) -> tuple[float, ...]:
        if not bounds or list(bounds) != sorted(set(bounds)):
            raise ValueError("the numbers must rise, like 32,128")
        return bounds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The settings of a process; raises ConfigError that names every wrong variable."""
        variables = {variable(field): field for field in cls.model_fields}
        unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in variables)
        if unknown:
            known = ", ".join(sorted(name for name in variables if name.startswith(PREFIX)))
            raise ConfigError(f"{', '.join(unknown)}: no such setting; unset it or use one of {known}")
        values = {field: environment[name] for name, field in variables.items() if name in environment}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(
                "; ".join(_problem(detail["loc"], detail["msg"], values) for detail in error.errors())
            ) from error


def variable(field: str) -> str:
    """Name of the environment variable of a field."""
    return field.upper() if field in UNPREFIXED else PREFIX + field.upper()


def _problem(location: tuple[int | str, ...], message: str, values: Mapping[str, str]) -> str:
    field = str(location[0])
    return f"{variable(field)}={values.get(field, '')!r}: {message[0].lower()}{message[1:]}"
