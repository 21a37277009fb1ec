"""A job that waits for a line, and says what it was told; `python -m` runs it."""

import sys

if __name__ == "__main__" and (line := sys.stdin.readline()):
    sys.stdout.write(line)
