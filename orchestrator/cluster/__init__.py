"""Ray: nodes, gangs, the processes of a cell, and the evidence of how they ended."""
