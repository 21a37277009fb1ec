"""The loop at work: reads traffic, decides through `continual`, and carries the cycle's commands out."""
