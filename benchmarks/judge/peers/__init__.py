"""Decision rules of other release tools, written anew from their documentation: pure functions of what was measured.

Each peer gets the thresholds that its own documentation gives, and the stream that Sluice's gates get.
"""
