"""Workflows of the task API: models, a builder, and workflows for common purposes. ``TaskAPI`` runs them."""

from taskloom.client.workflows.builder import WorkflowBuilder
from taskloom.client.workflows.errors import BadWorkflow
from taskloom.client.workflows.prebuilt import (
    create_ci_cd_workflow,
    create_code_review_workflow,
    create_data_processing_workflow,
    create_monitoring_workflow,
)
from taskloom.client.workflows.steps import (
    ConditionOperator,
    ConditionSource,
    StepStatus,
    StepType,
    WorkflowCondition,
    WorkflowStep,
)
from taskloom.client.workflows.workflow import Workflow, WorkflowStatus

__all__ = [
    "BadWorkflow",
    "ConditionOperator",
    "ConditionSource",
    "StepStatus",
    "StepType",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowCondition",
    "WorkflowStatus",
    "WorkflowStep",
    "create_ci_cd_workflow",
    "create_code_review_workflow",
    "create_data_processing_workflow",
    "create_monitoring_workflow",
]
