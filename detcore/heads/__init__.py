"""Heads: pyramid maps in, rows of class logits and box values for every anchor or point out."""

from detcore.heads.towers import TowerHead

__all__ = ["TowerHead"]
