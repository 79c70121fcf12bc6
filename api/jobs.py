"""Handlers for background jobs, for administrators."""

from collections.abc import Sequence

from models.jobs.job_state import JobView, view_jobs
from models.storage.reader import Reader


def list_jobs(reader: Reader, job_names: Sequence[str]) -> dict[str, Sequence[JobView]]:
    """List the background jobs of the service, with their backlogs and failures."""
    return {"items": view_jobs(reader, job_names)}
