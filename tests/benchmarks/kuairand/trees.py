"""LightGBM on KuaiRand, with target encodings that are counted out of fold: what the second stage is compared with.

Features: tab, hour, the video's age and length, kinds and tags, columns of the file of users, and rates of click and long view of
the video, the user, the author, the user in this tab, and the video in this tab. A rate of the days that are learnt is counted on
the other nine tenths of the impressions, that of the days asked on all days that are learnt.
"""
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from next_day import Floats, rates_out_of_fold
from rates import PRIOR, SECOND_WEEK
from video_log import CHINA_SECONDS, USER, VideoLog

FOLDS = 10
NUMBERS = [name for name, kind in USER.items() if kind == "number"]
CATEGORIES = [name for name, kind in USER.items() if kind == "category"]
FREQUENT, FEW = 3, 64  # rows that make a value of a category known; values that a category may have at most
SETTINGS = {"objective": "binary", "learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 100, "verbose": -1,
            "num_threads": 2, "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0}
TREES = 200


def log_odds(log: VideoLog, directory: Path, action: str, *, without: tuple[str, ...] = ()) -> Floats:
    """Log odds of `action` for the impressions of the second week; `without` names keys whose rates are left out."""
    import lightgbm

    learnt = log.day < SECOND_WEEK
    x = features(log, directory, learnt, without)
    made = lightgbm.train(SETTINGS, lightgbm.Dataset(x[learnt], log.outcomes[action][learnt]), TREES)
    return np.asarray(made.predict(x[~learnt], raw_score=True))


def features(log: VideoLog, directory: Path, learnt: np.ndarray, without: tuple[str, ...] = ()) -> Floats:
    """`[n, columns]`: numbers, rates, and codes of categories of few values; 0 is a rare one."""
    videos = pq.read_table(directory / "videos.parquet").to_pylist()
    fold = np.random.default_rng(0).integers(FOLDS, size=len(log))
    author = np.array([video["author_id"] for video in videos])[log.item]
    tags = np.unique(np.array([str(video["tag"]) for video in videos]), return_inverse=True)[1][log.item]
    uploaded = np.array([(np.datetime64(video["upload_dt"]) - np.datetime64("1970-01-01")).astype(int) for video in videos])
    length = [np.nan if video["video_duration"] is None else video["video_duration"] / 1000 for video in videos]
    seconds = np.array(length)[log.item]
    hour = (log.time + CHINA_SECONDS) % 86_400 / 3600
    users = [log.users.get(int(user), {}) for user in log.user]
    columns = [np.log1p(np.nan_to_num(seconds, nan=np.nanmedian(seconds))), log.time / 86_400 - uploaded[log.item],
               np.sin(hour * np.pi / 12), np.cos(hour * np.pi / 12), (log.history >= 0).sum(1)]
    columns += [np.log1p(np.array([float(user.get(name, 0)) for user in users])) for name in NUMBERS]
    keys = {"video": log.item, "user": log.user, "author": author, "user tab": log.user * 100 + log.tab, "tag": tags,
            "video tab": log.item.astype(np.int64) * 100 + log.tab}
    for name, key in keys.items():
        if name not in without:
            clicks, views = (rates_out_of_fold(key, log.outcomes[action].astype(float), learnt, fold, prior=PRIOR)
                             for action in ("click", "long_view"))
            columns += [*clicks, views[0]]
    kinds = np.array([f"{v['upload_type']} {v['video_type']} {v['music_type']}" for v in videos])[log.item]
    coded = (log.tab, hour.astype(int), tags, kinds, *(np.array([user.get(name, "") for user in users]) for name in CATEGORIES))
    for values in coded:
        code = _codes(values, learnt)
        if code.max() < FEW:
            columns.append(code)
    return np.stack(columns, axis=1)


def _codes(values: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    _, code = np.unique(values, return_inverse=True)
    frequent = np.bincount(code[learnt], minlength=code.max() + 1) >= FREQUENT
    return np.where(frequent, np.cumsum(frequent), 0)[code]
