"""The serving side: one package per gRPC service, and `core`, which all of them compute with."""
