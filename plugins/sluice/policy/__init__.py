"""What a person decides about a model's releases: one YAML file per model → `ReleasePolicy`.

Pure apart from reading the file it is given. Paths in a policy are relative to the project (the parent of releases/).
"""

from sluice.policy.durations import TIME_EDGES_SECONDS
from sluice.policy.file import parse, read
from sluice.policy.gates import BEHAVIOUR_EVENTS, CONTRACT_PARTS, BehaviourEvent, ContractPart, Rubric
from sluice.policy.model import EDGES_SETTING, Image, Patience, ReleasePolicy, Step

__all__ = [
    "BEHAVIOUR_EVENTS",
    "CONTRACT_PARTS",
    "EDGES_SETTING",
    "TIME_EDGES_SECONDS",
    "BehaviourEvent",
    "ContractPart",
    "Image",
    "Patience",
    "ReleasePolicy",
    "Rubric",
    "Step",
    "parse",
    "read",
]
