"""Memory and step time of every layout, from first principles, without a GPU.

model = CostModel.for_space(space)          None where model or hardware is unknown
table = model.prepare(legal.columns())      once
costs = table.predict()                     again for any constants
calibration = Calibrator(table).fit(observations)
"""

from autotune.costmodel.calibrator import Calibration, Calibrator, Observation
from autotune.costmodel.constants import Constants, fitted_constants, nominal
from autotune.costmodel.model import CostModel
from autotune.costmodel.table import Costs, CostTable
from autotune.costmodel.workload import Workload

__all__ = [
    "Calibration",
    "Calibrator",
    "Constants",
    "CostModel",
    "CostTable",
    "Costs",
    "Observation",
    "Workload",
    "fitted_constants",
    "nominal",
]
