"""What an anchor is to a matcher."""

POSITIVE, BACKGROUND, IGNORED = 1, 0, -1
