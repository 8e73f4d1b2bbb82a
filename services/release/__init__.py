"""The release service: which release answers. It checks, loads, routes and judges; it runs no model itself."""
