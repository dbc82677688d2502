"""How well wrong labels are found, and what they should be, in the searches that `clean_terms.py` left in a storage.

For each search: the runs of the confirmation's winner and of plain training, each image out of fold; the best trial
on the images it was trained on and on those it held out; AUM (Pleiss et al. 2020, Identifying Mislabeled Data using
the Area Under the Margin Ranking) of plain training on all images; and for the digits the probabilities of logistic
regression out of 5 folds, by self-confidence, as cleanlab uses them. Scores see the given labels only.

    python benchmarks/label_quality.py --storage DIR [--only NAME …] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from measurement import write_result
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from trainables.batches import batches_in_order
from trainables.data.streaming import in_memory
from trainables.settings import TrialSettings
from trainables.training import EVALUATION_BATCH, begin_training, normalize, to_float
from tune_mentormix.experiment.experiment import SEARCH_FILE, Experiment, read_experiment
from tune_mentormix.export.predictions import by_weights
from tune_mentormix.results.candidates import Candidate
from tune_mentormix.results.confirmation import Confirmation, read_confirmation
from tune_mentormix.results.label_quality import label_scores, own_probabilities
from tune_mentormix.results.suspicious_labels import TrainingImages, average_held_out, images_of

FOLDS = 5  # of the logistic regression
Row = dict[str, Any]


class Measured:
    """The images of a search, of which the true labels are known."""

    def __init__(self, name: str, images: TrainingImages) -> None:
        if images.clean is None:
            raise SystemExit(f"{name}: the true labels are not known, so nothing can be measured")
        self.name, self.images, self.clean = name, images, images.clean
        self.is_wrong = images.given != images.clean

    def row(
        self,
        method: str,
        where: str,
        scores: NDArray[np.floating],
        suggested: NDArray[np.int64] | None,
        counted: NDArray[np.bool_],
    ) -> Row:
        """Returns a line of the table over the images counted: higher scores are more suspicious."""
        is_wrong = self.is_wrong[counted]
        worst = np.argsort(-scores[counted], kind="stable")[: is_wrong.sum()]
        right = None if suggested is None else (suggested == self.clean)[counted][is_wrong]
        return {
            "noise": self.name,
            "method": method,
            "scored": where,
            "images": int(counted.sum()),
            "wrong": float(is_wrong.mean()),
            "auroc": float(roc_auc_score(is_wrong, scores[counted])),
            "precision": float(is_wrong[worst].mean()),
            "suggestion_right": None if right is None else float(right.mean()),
        }

    def by_probabilities(
        self, method: str, where: str, probabilities: NDArray[np.floating], counted: NDArray[np.bool_]
    ) -> Row:
        """Returns the line of a network's probabilities, scored as `labels` does."""
        scores = label_scores(self.images.given, probabilities)
        return self.row(method, where, scores, probabilities.argmax(axis=1), counted)


def rows_of(experiment: Experiment, confirmation: Confirmation) -> list[Row]:
    """Returns the lines of one search."""
    images = images_of(experiment)
    measured, rows = Measured(experiment.name, images), []
    winner = confirmation.winner()
    candidates = {"winner": winner, "plain": next(c for c in confirmation.candidates if c.name == "plain")}
    for method, candidate in candidates.items():
        if candidate is None:
            continue
        runs = [run for run in confirmation.runs_of(candidate).values() if run.state == "finished"]
        known = average_held_out(confirmation.runs, runs, "", images)
        rows.append(measured.by_probabilities(method, "out of fold", known.probabilities, known.is_known))
    best = experiment.ranked_trials()[0]
    table = by_weights(experiment, best, images)
    for where, counted in (("in sample", ~table.out_of_fold), ("out of fold", table.out_of_fold)):
        rows.append(measured.by_probabilities("best trial", where, table.probabilities, counted))
    everything = np.ones(len(images.names), dtype=np.bool_)
    margins = area_under_margin(images, candidates["plain"], experiment.settings.threads())
    rows.append(measured.row("aum", "in sample", -margins, None, everything))
    if experiment.settings.dataset == "digits":
        probabilities = logistic_regression(images)
        scores = 1 - own_probabilities(images.given, probabilities)
        suggested = probabilities.argmax(axis=1)
        rows.append(measured.row("logistic regression", "out of fold", scores, suggested, everything))
    return rows


def area_under_margin(images: TrainingImages, plain: Candidate | None, threads: int) -> NDArray[np.float64]:
    """Trains the plain control on all images; returns each one's mean margin of the given label's logit, by epoch."""
    assert plain is not None
    dataset = images.dataset.all_images()
    trainer = begin_training(TrialSettings(**plain.config), dataset, threads)
    labels = torch.as_tensor(dataset.train_labels, device=trainer.data.device)[:, None]
    total = torch.zeros(len(labels), dtype=torch.float64, device=trainer.data.device)
    for _ in range(trainer.settings.epochs):
        trainer.train_epoch()
        trainer.network.eval()
        with torch.no_grad():
            batches = batches_in_order(trainer.data.train_images, EVALUATION_BATCH, trainer.data.device, 1)
            logits = torch.cat([trainer.network(normalize(to_float(batch))).double() for batch in batches])
        trainer.network.train()
        given = logits.gather(1, labels)
        total += (given - logits.scatter(1, labels, -torch.inf).amax(dim=1, keepdim=True))[:, 0]
    return (total / trainer.settings.epochs).cpu().numpy()


def logistic_regression(images: TrainingImages) -> NDArray[np.float64]:
    """Returns probabilities [N, K] of logistic regression on pixels, out of fold."""
    pixels = np.concatenate([in_memory(part) for part in images.parts]).reshape(len(images.names), -1) / 255
    model = LogisticRegression(max_iter=1_000)
    probabilities: NDArray[np.float64] = cross_val_predict(
        model, pixels, images.given, cv=FOLDS, method="predict_proba"
    )
    return probabilities


def main() -> None:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--storage", type=Path, required=True, help="where clean_terms.py left its searches")
    parser.add_argument("--only", nargs="+", help="names of the searches to measure")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for path in sorted(arguments.storage.glob(f"*/{SEARCH_FILE}")):
        name = path.parent.name
        if arguments.only and name not in arguments.only:
            continue
        experiment = read_experiment(arguments.storage, name)
        confirmation = read_confirmation(experiment)
        if confirmation is None or confirmation.winner() is None:
            print(f"{name}: no finished confirmation, left out", flush=True)
            continue
        for row in rows_of(experiment, confirmation):
            rows.append(row)
            print(
                ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True
            )
    if arguments.json is not None and rows:
        methods = sorted({(row["method"], row["scored"]) for row in rows})
        ratios = {
            f"auroc/{method}/{where}": median(
                row["auroc"] for row in rows if (row["method"], row["scored"]) == (method, where)
            )
            for method, where in methods
        }
        count = len({row["noise"] for row in rows})
        write_result(arguments.json, "label_quality", torch.device("cpu"), count, rows, ratios)


if __name__ == "__main__":
    main()
