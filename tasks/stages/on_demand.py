"""List the stages on demand for a sample or a version. Their results are artifacts, but no part of a build."""

from tailforge.tasks.artifacts.stage import Stage
from tailforge.tasks.stages import evaluations, explanations, repairs, trials

ON_DEMAND: tuple[Stage, ...] = (explanations.STAGE, repairs.STAGE, trials.STAGE, evaluations.STAGE)
