"""Calibration of intervals and gates, and the figures that go on a model's card."""
