"""How good a model is, said plainly: what its rows tell, what its answers tell, and what a simple baseline does."""

from perennial.continual.quality.answers import AnswerFigures, ClassRecall, ConfusedPair, HeldOutAnswers, judge_answers
from perennial.continual.quality.baselines import BaselineFigures, majority_baseline, tfidf_baseline
from perennial.continual.quality.findings import Leak, RowFindings, SmallClass, TwinLabels, examine_rows
from perennial.continual.quality.verdict import plain_verdict

__all__ = [
    "AnswerFigures",
    "BaselineFigures",
    "ClassRecall",
    "ConfusedPair",
    "HeldOutAnswers",
    "Leak",
    "RowFindings",
    "SmallClass",
    "TwinLabels",
    "examine_rows",
    "judge_answers",
    "majority_baseline",
    "plain_verdict",
    "tfidf_baseline",
]
