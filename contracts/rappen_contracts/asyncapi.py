"""The AsyncAPI 3.0 document of every topic: keys, headers, messages, consumer groups and dead-letter topics."""

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from rappen_contracts.registry import EventVersion, SourceTopic, Topic

__all__ = ["asyncapi_document"]

Document = dict[str, Any]

_BINDING = "0.5.0"
_TEXT: Document = {"type": "string"}


def asyncapi_document(
    sources: Sequence[SourceTopic], *, version: str, examples: Mapping[str, Sequence[Document]]
) -> Document:
    """Builds the document; `examples` are structured events by event type."""
    channels: Document = {}
    operations: Document = {}
    messages: Document = {}
    for source in sources:
        names = [_message_name(event) for event in source.events]
        for event in source.events:
            messages[_message_name(event)] = _message(event, source, examples.get(event.type, ()))
        channels[source.name] = _channel(source.topic(), source.description, names)
        operations[f"send.{source.name}"] = _operation("send", source.name, names, f"Publish to {source.name}.")
        for group in source.groups:
            dead = source.dead_letters(group)
            operations[f"receive.{source.name}.{group}"] = _operation(
                "receive", source.name, names, f"The consumer group {group} reads {source.name}.", group
            )
            messages[dead.name] = _dead_letter(source, group)
            channels[dead.name] = _channel(dead, f"What {group} refused of {source.name}.", [dead.name])
            operations[f"send.{dead.name}"] = _operation(
                "send", dead.name, [dead.name], f"{group} dead-letters what it refuses of {source.name}."
            )
    return {
        "asyncapi": "3.0.0",
        "id": "urn:ch:rappen",
        "info": {
            "title": "Rappen events",
            "version": version,
            "description": "CloudEvents 1.0 on Kafka, binary mode; structured mode is read as well.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {"CloudEventHeaders": _cloud_event_headers(), "DeadLetterHeaders": _dead_letter_headers()},
        },
    }


def _message_name(event: EventVersion) -> str:
    return f"{event.name}.v{event.major}"


def _channel(topic: Topic, description: str, messages: Sequence[str]) -> Document:
    configuration: Document = {}
    for name, value in topic.config.items():
        number = value.isdecimal() or value == "-1"
        configuration[name] = value.split(",") if name == "cleanup.policy" else int(value) if number else value
    return {
        "address": topic.name,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _BINDING,
            }
        },
    }


def _operation(action: str, channel: str, messages: Sequence[str], summary: str, group: str | None = None) -> Document:
    operation: Document = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }
    if group is not None:
        operation["bindings"] = {"kafka": {"groupId": {"type": "string", "enum": [group]}, "bindingVersion": _BINDING}}
    return operation


def _message(event: EventVersion, source: SourceTopic, examples: Sequence[Document]) -> Document:
    message: Document = {
        "name": event.type,
        "title": _message_name(event),
        "summary": cleandoc(event.model.__doc__ or event.type).split("\n\n", 1)[0].replace("\n", " "),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEventHeaders"},
                {"type": "object", "properties": {"ce_type": {"const": event.type}}},
            ]
        },
        "payload": {"$ref": f"./{_message_name(event)}.json"},
        "bindings": _key_binding(f"{source.key}, UTF-8"),
    }
    if examples:
        message["examples"] = [_example(structured) for structured in examples]
    return message


def _example(structured: Document) -> Document:
    """A structured event as it looks in binary mode."""
    attributes = {name: value for name, value in structured.items() if name not in {"data", "datacontenttype"}}
    headers = {name if name == "traceparent" else f"ce_{name}": value for name, value in attributes.items()}
    return {"headers": headers | {"content-type": "application/json"}, "payload": structured["data"]}


def _key_binding(description: str) -> Document:
    return {"kafka": {"key": _TEXT | {"description": description}, "bindingVersion": _BINDING}}


def _dead_letter(source: SourceTopic, group: str) -> Document:
    return {
        "name": f"{source.name}.{group}.dlq",
        "title": f"Dead letter of {group}",
        "summary": "The refused record: original key, headers and bytes (the first 64 KiB of one that was too large).",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {"description": "The bytes of the refused record; often not JSON at all."},
        "bindings": _key_binding("the original key"),
    }


def _cloud_event_headers() -> Document:
    return {
        "type": "object",
        "description": "CloudEvents 1.0 attributes of binary mode. Other headers never matter.",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": _TEXT | {"format": "uuid", "description": "The event's identity within its mandate."},
            "ce_source": _TEXT | {"format": "uri-reference", "maxLength": 1024, "description": "The publisher."},
            "ce_type": _TEXT | {"description": "Event and major version."},
            "ce_time": _TEXT
            | {"format": "date-time", "description": "When it happened; not before 2000, at most 5 minutes ahead."},
            "ce_subject": _TEXT | {"description": "The mandate id; written, not read."},
            "content-type": _TEXT | {"default": "application/json", "description": "Any `*/json` or `*+json`."},
            "ce_datacontenttype": _TEXT | {"description": "Stands for a missing content-type."},
            "traceparent": _TEXT | {"description": "W3C Trace Context; an invalid one is dropped."},
        },
    }


def _dead_letter_headers() -> Document:
    fields = {
        "dlq_topic": "the original topic",
        "dlq_partition": "its partition",
        "dlq_offset": "its offset",
        "dlq_group": "the consumer group that refused the record",
        "dlq_error_code": "a stable code",
        "dlq_error_detail": "for people, up to 1 kB, no payload",
        "dlq_attempts": "how often it was tried",
        "dlq_at": "when it was refused",
        "dlq_length": "length of the original value in bytes",
        "dlq_sha256": "digest of the original value",
    }
    return {
        "type": "object",
        "description": "The original headers, and these.",
        "required": list(fields),
        "properties": {name: _TEXT | {"description": text} for name, text in fields.items()},
    }
