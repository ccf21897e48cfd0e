"""The policies of the simulation: each turns scores into slates of items and the log probabilities of its draws."""
from collections.abc import Callable

import numpy as np
from agent import Model
from simulator import best_first, draw

POSITIONS = 5  # of a slate
EPSILON = 0.05  # share of each draw that is uniform

Noise = tuple[np.ndarray, np.ndarray]
# of scores, query and item vectors, log p and noise; slates and their log propensities
Act = Callable[[Model, np.ndarray, np.ndarray, np.ndarray, np.ndarray, Noise], tuple[np.ndarray, np.ndarray]]


def plackett_luce(temperature: float) -> Act:
    def act(model: Model, scores: np.ndarray, u: np.ndarray, v: np.ndarray, log_p: np.ndarray,
            noise: Noise) -> tuple[np.ndarray, np.ndarray]:
        return draw(scores / temperature, POSITIONS, epsilon=EPSILON, gumbel=noise[0], uniform=noise[1])
    return act


def greedy(model: Model, scores: np.ndarray, u: np.ndarray, v: np.ndarray, log_p: np.ndarray,
           noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    slate = best_first(scores, POSITIONS)
    return slate, np.zeros(slate.shape)


def thompson(model: Model, scores: np.ndarray, u: np.ndarray, v: np.ndarray, log_p: np.ndarray,
             noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    head = model.recommender.head
    mean = head.mean.numpy()
    w = mean + np.linalg.solve(head.factor.numpy().T, noise[0][:, : len(mean)].T).T
    drawn = (w[:, :-1] * u) @ v.T + w[:, -1:] * model.beta * log_p
    return greedy(model, np.where(np.isfinite(scores), drawn, -np.inf), u, v, log_p, noise)


def linucb(model: Model, scores: np.ndarray, u: np.ndarray, v: np.ndarray, log_p: np.ndarray,
           noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    head, popularity = model.recommender.head, model.beta * log_p
    mean, factor = head.mean.numpy(), head.factor.numpy()
    inverse = np.linalg.inv(factor @ factor.T)
    # phi' inverse phi of phi = [u * v, popularity], without [n, items, dim]
    of_u = np.einsum("nd,de,ne->nde", u, inverse[:-1, :-1], u).reshape(len(u), -1)
    of_v = (v[:, :, None] * v[:, None, :]).reshape(len(v), -1)
    variance = of_u @ of_v.T + 2 * ((u * inverse[:-1, -1]) @ v.T) * popularity + inverse[-1, -1] * popularity**2
    bound = (mean[:-1] * u) @ v.T + mean[-1] * popularity + np.sqrt(np.maximum(variance, 0))
    return greedy(model, np.where(np.isfinite(scores), bound, -np.inf), u, v, log_p, noise)
