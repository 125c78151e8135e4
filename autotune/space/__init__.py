"""Search spaces: what is searched, on what, under which contract, and the legal set of it."""

from autotune.space.cluster import Cluster, Hardware, Link
from autotune.space.contract import Contract
from autotune.space.enumeration import build_legal_set
from autotune.space.expression import Expression
from autotune.space.legal_set import LegalSet
from autotune.space.limits import Budget, Objective, TrialLimits
from autotune.space.loading import (
    list_spaces,
    load_hardware,
    load_model,
    load_space,
    parse_space,
    read_keys,
)
from autotune.space.model import ModelShape
from autotune.space.parameter import Parameter
from autotune.space.rule import Rule
from autotune.space.search_space import Constraint, Metric, SearchSpace

__all__ = [
    "Budget",
    "Cluster",
    "Constraint",
    "Contract",
    "Expression",
    "Hardware",
    "LegalSet",
    "Link",
    "Metric",
    "ModelShape",
    "Objective",
    "Parameter",
    "Rule",
    "SearchSpace",
    "TrialLimits",
    "build_legal_set",
    "list_spaces",
    "load_hardware",
    "load_model",
    "load_space",
    "parse_space",
    "read_keys",
]
