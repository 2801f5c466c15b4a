"""A subset of the Kubernetes API server: state in SQLite, plain HTTP on the loopback interface.

The rules (kinds, selectors, patching, schema, defaults, rules, lifecycle, garbage) are pure functions on plain
dictionaries; `storage` keeps the objects, `registry` applies the rules to them, `http` and `watching` speak HTTP.
What the subset leaves out is listed in docs/sandbox.md, and is refused by name.
"""
