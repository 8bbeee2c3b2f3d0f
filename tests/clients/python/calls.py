"""Calls the application through a client that openapi-python-client made of its document."""

import importlib
import pkgutil
import sys

import job_queue_client
from job_queue_client import AuthenticatedClient
from job_queue_client.api.jobqueue_demo import register_demo_job
from job_queue_client.api.jobqueue_enqueue import enqueue_demo_delay_print
from job_queue_client.api.jobqueue_jobs import (
    archive_job,
    delete_job,
    duplicate_job,
    get_job,
    list_jobs,
    run_job,
)
from job_queue_client.api.jobqueue_periodic import list_periodic, run_periodic
from job_queue_client.api.jobqueue_queues import (
    delete_queue,
    get_queue,
    pause_queue,
    resume_queue,
)
from job_queue_client.api.jobqueue_store import repair_store
from job_queue_client.models import (
    JobQueueJobRowJob,
    JobQueueProblem,
    JobQueueRegisterRequest,
    ListJobsState,
)

for module in pkgutil.walk_packages(job_queue_client.__path__, "job_queue_client."):
    importlib.import_module(module.name)

client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])


def call(operation, expected, *arguments, **options):
    answer = operation.sync_detailed(*arguments, client=client, **options)
    assert answer.status_code == expected, (operation.__name__, answer)
    return answer.parsed


body = JobQueueRegisterRequest(message="from Python", delay_seconds=3600)
job_id = call(register_demo_job, 201, body=body).job_id
page = call(list_jobs, 200, "default", state=ListJobsState.SCHEDULED, size=100)
rows = [row for row in page.rows if isinstance(row, JobQueueJobRowJob)]
assert any(row.id == job_id and row.due for row in rows), page
assert call(get_job, 200, "default", job_id).state == "scheduled"
call(pause_queue, 204, "default")
assert call(get_queue, 200, "default").paused
copied = call(duplicate_job, 201, "default", job_id).job_id
call(archive_job, 204, "default", copied)
call(delete_job, 204, "default", copied)
call(run_job, 204, "default", job_id)
call(resume_queue, 204, "default")
call(repair_store, 200)
call(enqueue_demo_delay_print, 201, body={}, queue="made-in-python")
call(delete_queue, 204, "made-in-python", force="true")
periodic = call(list_periodic, 200).periodic
call(run_periodic, 201, periodic[0].id)
problem = call(delete_job, 404, "default", copied)
assert isinstance(problem, JobQueueProblem), problem
print("Python: 16 calls")
