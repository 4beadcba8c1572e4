"""Goals: what a model plans and a run does, step by step, with tools that were allowed beforehand."""
