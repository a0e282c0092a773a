"""The verbs, run in the worker: each module's `run(request, lane, desk)` does one kind of job."""
