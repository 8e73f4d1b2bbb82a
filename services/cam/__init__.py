"""The CAM service: shows where in the hand the age came from. It changes no number."""
