"""The enhancement service: normalises the contrast of a segmented hand. It neither finds hands nor gives an age."""
