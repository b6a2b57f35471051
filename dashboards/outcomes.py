"""How a cell stands: the words of DESIGN.md section 2, for who writes them and who reads them."""

FAILED = ("diverged", "stalled")
SETTLED = ("converged", *FAILED)  # results
FAULTS = ("oom", "crashed", "timeout", "lost", "cancelled")
OPEN = ("running", "waiting")
OUTCOMES = (*SETTLED, *FAULTS, *OPEN)
"""In the order in which they are told."""
