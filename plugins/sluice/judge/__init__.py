"""The judge: numbers in, verdict out. Pure: no clock, no I/O, no environment, no logging, no other room of the library.

Every gate is a frozen value of configuration and what was seen so far; `observe` returns the next one, `verdict`
reads it. Each test is anytime-valid: it may be looked at after every window and keeps its error rate. Folding the
recorded windows again gives the same verdict, bit by bit.
"""

from sluice.judge.alpha import AlphaSplit
from sluice.judge.behaviour_gate import BehaviourGate
from sluice.judge.bursts import NOT_MEASURED, Dispersion, dispersion, dispersion_of_pods
from sluice.judge.contract_gate import contract
from sluice.judge.errors_gate import ErrorsGate
from sluice.judge.fidelity_gate import FidelityGate
from sluice.judge.latency_gate import LatencyGate
from sluice.judge.planning import (
    Needed,
    pairs_needed,
    requests_needed,
    requests_to_detect,
    share_requests_needed,
    smallest_certifiable_margin,
)
from sluice.judge.quality_gate import QualityGate
from sluice.judge.share_gate import ShareGate
from sluice.judge.verdict import InvalidGate, Outcome, Verdict
from sluice.judge.windows import (
    Answers,
    Arm,
    Arms,
    BehaviourWindow,
    InvalidEvidence,
    LatencyWindow,
    Pair,
    StartedWindow,
    Window,
)

__all__ = [
    "NOT_MEASURED",
    "AlphaSplit",
    "Answers",
    "Arm",
    "Arms",
    "BehaviourGate",
    "BehaviourWindow",
    "Dispersion",
    "ErrorsGate",
    "FidelityGate",
    "InvalidEvidence",
    "InvalidGate",
    "LatencyGate",
    "LatencyWindow",
    "Needed",
    "Outcome",
    "Pair",
    "QualityGate",
    "ShareGate",
    "StartedWindow",
    "Verdict",
    "Window",
    "contract",
    "dispersion",
    "dispersion_of_pods",
    "pairs_needed",
    "requests_needed",
    "requests_to_detect",
    "share_requests_needed",
    "smallest_certifiable_margin",
]
