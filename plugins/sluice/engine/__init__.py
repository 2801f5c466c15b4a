"""The use cases of a release: plan, build, begin, deploy, examine, shift, watch, promote, settle, conclude.

They talk to the world through `sluice.ports` only, decide by the pure rooms (policy, release, judge), and leave an
entry in the ledger for everything they see or do. Every one of them may be run again after it was killed: it finds out
what holds and goes on.
"""
