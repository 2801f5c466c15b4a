"""From a model directory to a warm engine, the phases told as they come. Imports torch, which takes seconds."""

from serving.batching import BatchingEngine
from serving.config import ConfigError, Settings
from serving.engine import Engine, EngineRefused, Report
from serving.generating import GeneratingEngine
from serving.model import LoadedModel, load_model
from serving.model_dir import weight_files


def load_engine(settings: Settings, report: Report) -> Engine:
    """A warm engine; raises ModelDirError, ConfigError if SERVING_ENGINE cannot run the model, or EngineDead."""
    size = sum(file.stat().st_size for file in weight_files(settings.model_dir))
    report("loading the weights", f"{size / 1e9:.2g} GB")
    engine = choose_engine(load_model(settings, report), settings, report)
    report("warming up")
    try:
        engine.warm_up()
    except BaseException:
        engine.stop()
        raise
    return engine


def choose_engine(model: LoadedModel, settings: Settings, report: Report) -> BatchingEngine | GeneratingEngine:
    """The engine that the settings name; `auto` batches unless the model cannot be batched."""
    if settings.engine == "generate":
        report("engine generate", "one request at a time, as SERVING_ENGINE says")
        return GeneratingEngine(model, settings)
    try:
        batching = BatchingEngine(model, settings)
    except EngineRefused as error:
        if settings.engine == "batching":
            raise ConfigError(f"SERVING_ENGINE='batching': {error}; set it to auto or generate") from error
        report("engine generate", f"one request at a time, because {error}")
        return GeneratingEngine(model, settings)
    report("engine batching", "requests run together")
    return batching
