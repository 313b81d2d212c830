"""An independent witness: watches, logs and AWS reads of its own; then a verdict.

    recorder.py  what happened (watches, in a thread)     logs.py  what was asked of AWS and Kubernetes
    checks.py    what must hold, as pure functions        witness.py  puts them together
"""
