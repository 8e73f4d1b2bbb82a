"""The assessment service: one call for clients, which runs the stages in order. It runs no model itself."""
