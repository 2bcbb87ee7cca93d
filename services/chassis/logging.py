"""One JSON object a line on standard output; the event is a constant phrase, everything else is a field."""

import logging
import sys

import structlog

__all__ = ["configure_command_logging", "configure_logging", "get_logger"]


def configure_logging(*, service: str, role: str, instance: str) -> None:
    """Sets structlog and the standard library to the same JSON lines; called once, before anything logs."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, role=role, instance=instance)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # The Stripe client logs bodies below WARNING.
    logging.getLogger("stripe").setLevel(logging.WARNING)


def configure_command_logging() -> None:
    """For an operator's command, whose answer alone is on standard output: lines for people, on standard error."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that carries its module's name."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name)
    return logger
