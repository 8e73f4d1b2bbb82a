"""What the paper reports beside its own figures (its Tables 1 and 2); MAE in months, on sets of their own."""

from typing import Final

TABLE_1: Final = (
    ("Zhou et al.", "transfer learning", "1,100", "8.63", "40"),
    ("Spampinato et al.", "BoNet (CNN)", "1,400", "9.48", "150"),
    ("Lee et al.", "transfer learning", "9,325", "11.16 (M), 9.84 (F)", "100"),
    ("Iglovikov et al.", "transfer learning", "12,611", "6.30 (M), 6.10 (F)", "-"),
    ("Zhao et al., the paper", "paced transfer learning", "12,611", "5.991 (M), 6.263 (F), 7.664 (all)", "< 75"),
)
"""Method, what it is, images in the data set, MAE, epochs."""

TABLE_2: Final = (5.796, 5.830, 5.911, 6.102, 6.123, 6.164, 6.180, 6.209, 6.288, 6.365)
"""The leader board of the RSNA challenge, ranks 1 to 10, on a test set whose labels are the mean of six readers."""
