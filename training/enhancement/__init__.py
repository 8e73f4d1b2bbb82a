"""Learns the radiograph enhancer from degraded and original pairs."""
