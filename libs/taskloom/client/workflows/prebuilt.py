"""Workflows for common purposes, made from the templates' plans. Their tasks are of task types, so they run on agents
that have these capabilities; what conditions look at is set by the tasks' results (``templates.plans``)."""

from collections.abc import Sequence

from taskloom.client.workflows.steps import WorkflowStep
from taskloom.client.workflows.workflow import Workflow
from taskloom.templates import plans
from taskloom.templates.plans import Plan


def create_ci_cd_workflow(name: str, created_by: str, repository_url: str) -> Workflow:
    """build, then test, then deploy when ``test_status`` is passed."""
    return _workflow(name, created_by, plans.ci_cd(repository_url))


def create_data_processing_workflow(name: str, created_by: str, data_sources: Sequence[str]) -> Workflow:
    """Extracts all sources side by side, then transforms, then loads into the data warehouse."""
    return _workflow(name, created_by, plans.data_processing(data_sources))


def create_code_review_workflow(name: str, created_by: str, pull_request_url: str) -> Workflow:
    """Checks side by side, then a human review when ``all_checks_passed`` is true, else the issues are fixed.

    No check knows of the others. So let the variable be true before the run (``workflow.variables``), and a check that
    finds something set it to false.
    """
    return _workflow(name, created_by, plans.code_review(pull_request_url))


def create_monitoring_workflow(name: str, created_by: str, services: Sequence[str]) -> Workflow:
    """Checks the health of all services side by side every five minutes, while the variable ``monitoring_active`` is
    true, which it is at first; at most 1,000 times."""
    return _workflow(name, created_by, plans.monitoring(services))


def _workflow(name: str, created_by: str, plan: Plan) -> Workflow:
    """
    Raises:
        BadWorkflow: a ValueError; it would have no step.
    """
    steps = [WorkflowStep.from_dict(step) for step in plan.steps]
    workflow = Workflow(name=name, created_by=created_by, steps=steps, variables=dict(plan.variables))
    workflow.validate()
    return workflow
