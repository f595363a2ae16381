"""Figures: how much tokens vary, which codes are used, how far poses are off, what neighbours say."""

from __future__ import annotations

import numpy as np

from core.arrays import Bool, Float, Int


def token_spread(tokens_ND: Float[np.ndarray, "N D"]) -> float:
    """Standard deviation of the tokens, averaged over channels; zero if they have collapsed to a point."""
    return float(tokens_ND.std(axis=0).mean())


def effective_rank(tokens_ND: Float[np.ndarray, "N D"]) -> float:
    """exp of the entropy of the normalised singular values (Roy and Vetterli 2007); 1 if all lie on a line."""
    singular = np.linalg.svd(tokens_ND.astype(np.float64) - tokens_ND.mean(axis=0), compute_uv=False)
    total = singular.sum()
    if total <= 1e-12:
        return 1.0
    share = singular[singular > 1e-12 * total] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def perplexity(labels_N: Int[np.ndarray, "N"]) -> float:
    """exp of the entropy of the labels: how many of them are in use, rare ones counting less."""
    count = np.bincount(labels_N)
    share = count[count > 0] / len(labels_N)
    return float(np.exp(-(share * np.log(share)).sum()))


def mpjpe_mm(
    predicted_m: Float[np.ndarray, "*n joints 3"],
    truth_m: Float[np.ndarray, "*n joints 3"],
    valid: Bool[np.ndarray, "*n"],
) -> float:
    """Mean distance of joints over valid frames, millimetres; NaN without any."""
    distance = np.linalg.norm(predicted_m - truth_m, axis=-1).mean(axis=-1)
    return float(1000 * distance[valid].mean()) if valid.any() else float("nan")


def weighted_knn(
    train_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, "N"],
    test_MD: Float[np.ndarray, "M D"],
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Float[np.ndarray, "M classes"]:
    """Votes for each class by the k nearest training tokens, weight exp(cosine / temperature).

    Wu et al. 2018 (arXiv 1805.01978), whose k = 200 of 1.3 million pictures and temperature 0.07 are scaled down to k =
    20; the paper leaves both open.
    """
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (test_MD, train_ND))
    similarity = a @ b.T
    k = min(k, len(train_ND))
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    weight = np.exp((np.take_along_axis(similarity, nearest, axis=1) - 1) / temperature)
    votes = np.zeros((len(test_MD), num_classes))
    np.add.at(votes, (np.arange(len(test_MD))[:, None], labels_N[nearest]), weight)
    return votes


def top_k_accuracy(
    scores_MC: Float[np.ndarray, "M classes"],
    labels_M: Int[np.ndarray, "M"],
    k: int,
    weights_M: Float[np.ndarray, "M"] | Int[np.ndarray, "M"] | None = None,
) -> float:
    """Share of rows whose label is among the k highest scores, weighted (by frames, say); NaN without rows."""
    if len(labels_M) == 0:
        return float("nan")
    best = np.argsort(-scores_MC, axis=1, kind="stable")[:, :k]
    hit = (best == labels_M[:, None]).any(axis=1)
    return float(np.average(hit, weights=weights_M))


def ridge(
    x_NF: Float[np.ndarray, "N F"], y_NG: Float[np.ndarray, "N G"], alpha: float
) -> Float[np.ndarray, "features G"]:
    """Weights of ridge regression with a free intercept in the last row."""
    mean_x, mean_y = x_NF.mean(axis=0), y_NG.mean(axis=0)
    x, y = (x_NF - mean_x).astype(np.float64), (y_NG - mean_y).astype(np.float64)
    if len(x) >= x.shape[1]:
        weights = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)
    else:  # fewer samples than features: the dual form
        weights = x.T @ np.linalg.solve(x @ x.T + alpha * np.eye(len(x)), y)
    return np.concatenate([weights, (mean_y - mean_x @ weights)[None]])
