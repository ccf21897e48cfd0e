"""The configuration: every setting of tfrec, with its default and its unit. A section is a file."""
from tfrec.config.data import DataConfig, Queries
from tfrec.config.features import FeaturesConfig, Kind
from tfrec.config.gateway import GatewayConfig
from tfrec.config.ingest import IngestConfig
from tfrec.config.monitors import MonitorsConfig
from tfrec.config.ranker import RankerConfig
from tfrec.config.retrain import Objective, RetrainConfig
from tfrec.config.review import ReviewConfig
from tfrec.config.reward import Rating, RewardConfig, WeightChange
from tfrec.config.search import SearchConfig
from tfrec.config.section import Section
from tfrec.config.serving import ServingConfig
from tfrec.config.settings import Config, load_config
from tfrec.config.sweep import SweepConfig
from tfrec.config.text import TextConfig, Tuning, TuningConfig
from tfrec.config.tls import ClientTls, ServerTls
from tfrec.config.training import Device, ModelConfig, TrainingConfig

__all__ = [
    "ClientTls", "Config", "DataConfig", "Device", "FeaturesConfig", "GatewayConfig", "IngestConfig", "Kind", "ModelConfig",
    "MonitorsConfig", "Objective", "Queries", "RankerConfig", "Rating", "RetrainConfig", "ReviewConfig", "RewardConfig",
    "SearchConfig", "Section", "ServerTls", "ServingConfig", "SweepConfig", "TextConfig", "TrainingConfig", "Tuning",
    "TuningConfig", "WeightChange", "load_config",
]
