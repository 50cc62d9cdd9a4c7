"""What then happens: one module a step, the runner that writes the record, the worker, the engine."""
