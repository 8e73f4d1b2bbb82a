"""The regression service: reads the bone age from a prepared hand. It prepares no pixels beyond padding and size."""
