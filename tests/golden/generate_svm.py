"""Golden figures of scikit-learn's LinearSVC for tests/evaluate/svm_test.ts: `python3 generate_svm.py > svm.json`.

Made with scikit-learn 1.2.1 of Debian 12 (python3-sklearn). Overlapping classes, several of them per row, some marks
"difficult" (-1). More passes than VISSL's 2000, so that the figures are the optimum's.
"""
import json
import warnings

import numpy as np
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC

warnings.simplefilter("ignore")
COSTS = [0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000]
rng = np.random.default_rng(7)
CLASSES, COLUMNS, TRAIN, TEST = 4, 12, 150, 120
directions = rng.normal(size=(CLASSES, COLUMNS))


def draw(rows):
    features = np.round(rng.normal(size=(rows, COLUMNS)), 3)
    margins = features @ directions.T + 2.5 * rng.normal(size=(rows, CLASSES)) - 2
    marks = (margins > 0).astype(int)
    marks[rng.random(marks.shape) < 0.05] = -1
    return features, marks


def unit(features):
    features = features.astype(np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


def machine(cost):
    return LinearSVC(C=cost, class_weight={1: 2, -1: 1}, intercept_scaling=1.0, penalty="l2", loss="squared_hinge",
                     tol=1e-4, dual=True, max_iter=1_000_000, random_state=0)


train, train_marks = draw(TRAIN)
test, test_marks = draw(TEST)
classes = []
for c in range(CLASSES):
    kept, tested = train_marks[:, c] >= 0, test_marks[:, c] >= 0
    x, y = unit(train)[kept], np.where(train_marks[kept, c] > 0, 1, -1)
    folds = np.zeros(len(y), int)
    for f, (_, rows) in enumerate(StratifiedKFold(3).split(x, y)):
        folds[rows] = f
    fitted = {cost: machine(cost).fit(x, y) for cost in COSTS}
    classes.append({
        "folds": folds.tolist(),
        "crossValidation": [float(cross_val_score(machine(cost), x, y, cv=3, scoring="average_precision").mean())
                            for cost in COSTS],
        "averagePrecision": [float(average_precision_score(test_marks[tested, c] > 0,
                                                           fitted[cost].decision_function(unit(test)[tested])))
                             for cost in COSTS],
        "scores": [np.round(fitted[cost].decision_function(unit(test)), 6).tolist() for cost in (0.1, 1, 10)],
    })
print(json.dumps({"costs": COSTS, "columns": COLUMNS, "train": train.ravel().tolist(),
                  "trainMarks": train_marks.ravel().tolist(), "test": test.ravel().tolist(),
                  "testMarks": test_marks.ravel().tolist(), "classes": classes}, separators=(",", ":")))
