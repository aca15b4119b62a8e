"""What is wrong with a data set, with its augmentation, or with a single prediction."""
