"""Ray's client of the Jobs API with a limit on every answer: it would wait for ever where a head says nothing."""

from __future__ import annotations

from typing import Any

import requests
from ray.job_submission import JobSubmissionClient

from tune_mentormix.cluster import jobs_api as ray_jobs


class JobClient(JobSubmissionClient):
    """Gives up after `REQUEST_SECONDS`."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        """As Ray's, which hands further options to `requests.request`. Raises UnansweredError."""
        seconds = ray_jobs.REQUEST_SECONDS
        try:
            return super()._do_request(method, endpoint, timeout=seconds, **options)
        except requests.ReadTimeout as error:
            raise ray_jobs.UnansweredError(
                f"the Ray cluster at {self.get_address()} (--address) does not answer within {seconds:g} s"
            ) from error
