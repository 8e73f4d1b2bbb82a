"""The pure part: imaging, geometry, contracts and metrics in plain numpy; it never imports grpc, pydicom or torch."""
