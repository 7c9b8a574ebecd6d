"""frostline in other libraries' loops: `lightning`, `transformers` and `accelerate`, each an optional extra.

Each has one class, `DrivePlan`, that advances a program once an optimizer step, keeps its state in the library's own
checkpoints, and logs how far the plan is to the library's own logger.
"""
