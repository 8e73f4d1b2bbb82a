"""Readers of labelled radiographs, masks and phantoms, and the one stored split."""
