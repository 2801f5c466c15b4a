"""What a request wants of the model, whichever interface it came by; and how it arrived. Plain data."""

from dataclasses import dataclass, field

from serving.trace import TraceContext


@dataclass(frozen=True)
class Ask:
    """A request for an answer, or, with `echo`, for the log-probabilities of the prompt itself."""

    prompt: str
    """The text as the model is to read it, a chat's template applied."""
    special_tokens: bool = True
    """Whether the tokenizer adds its own tokens; a chat's template writes them itself."""
    max_tokens: int | None = None
    """None: as many as the server allows and the context holds."""
    temperature: float | None = None
    """None takes the model's own; below `engine.GREEDY_BELOW_TEMPERATURE` is greedy."""
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many of the most likely tokens to name at each place; None: no log-probabilities."""
    echo: bool = False


@dataclass(frozen=True)
class Arrival:
    """How a request came."""

    at: float
    """When its head came, in seconds of the service's clock."""
    interface: str
    """completions, chat, predict or page."""
    traffic: str = "user"
    """user, or synthetic for probes."""
    stream: bool = False
    trace: TraceContext = field(default_factory=TraceContext)
