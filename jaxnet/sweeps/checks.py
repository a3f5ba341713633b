"""What can be known of a job before anything is compiled or written: errors, on the host."""

from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.learner import check_fits_images, check_model
from jaxnet.sweeps.job import Job
from jaxnet.sweeps.replicates import STATISTICS
from jaxnet.training import check_optimizer


def check_keeping(keep: int | None, select: str) -> None:
    """Raise ConfigurationError for what is no number of settings, or no statistic."""
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise ConfigurationError(f"keep: expected how many settings, or None for all, got {keep!r}")
    if select not in STATISTICS:
        raise ConfigurationError(unknown("statistic", str(select), STATISTICS))


def check_job(job: Job, data: DataSet) -> None:
    """Raise ConfigurationError for settings that do not fit the data, or functions that fail."""
    if job.halving is not None:
        job.halving.rungs(job.steps, len(job.units()))
    splits, classes = job.split(data), len(data.class_names)
    most = min(len(splits.train), data.train_images[0].size)
    structures = {c.structure: list(c.numbers) for c in job.configurations()}
    for structure, numbers in structures.items():
        components = structure.components
        if components is not None and components > most:
            raise ConfigurationError(
                f"components must be in 1..{most}, the smaller of training images and pixels, "
                f"got {components}"
            )
        shape = data.input_shape if components is None else (components,)
        if structure.is_convolutional:
            check_fits_images(structure, numbers, shape, classes)
        # With a share of the variance the number of inputs is known once it is fitted.
        if structure.model is not None and structure.variance is None:
            check_model(structure, numbers, shape, classes)
        if callable(structure.optimizer):
            check_optimizer(structure, numbers, shape, classes)
