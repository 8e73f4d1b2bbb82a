"""Exports to ONNX, checks parity with torch and writes immutable versions and releases."""
