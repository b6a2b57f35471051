"""What a sweep comes to before it starts: what has settled, what the rest costs, cautions."""
