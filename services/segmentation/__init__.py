"""The segmentation service: finds the hand in a radiograph. It gives no age and knows no patient."""
