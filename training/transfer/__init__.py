"""Staged unfreezing of a pre-trained backbone, the first form of paced transfer learning."""
