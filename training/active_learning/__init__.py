"""Chooses which radiographs to outline next, by a committee of segmenters, and asks an oracle (paper 2.2)."""
