"""What pools tokens, cleans texts and reads words. A folder gets these as one file without any import of Perennial."""

from perennial.continual.learning.lexical import WordScores
from perennial.continual.learning.pooling import Pooling, pool
from perennial.continual.preparation import clean, fold_width

__all__ = ["Pooling", "WordScores", "clean", "fold_width", "pool"]
