"""The training side: learns the models from radiographs and publishes versions; it never talks to serving."""
