"""Publishes simulated usage to Kafka at a given rate, as AI services would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from deploy.simulator.guard import Guard
from deploy.simulator.traffic import Traffic, rate_at
from rappen_contracts import Record
from rappen_contracts.registry import RECORD_BYTES_MAX, USAGE_RECORDED_V1

__all__ = ["Publisher"]

_TOPIC = USAGE_RECORDED_V1.name
_TICK_S = 0.05
_RETRY_S = 1.0
# What is made up for after a pause of the broker, in seconds of traffic.
_BACKLOG_S = 2.0
_STOP_TIMEOUT_S = 5.0


class Publisher:
    """One producer for all simulated services; `rate` is the mean of events per second."""

    def __init__(
        self, bootstrap_servers: str, traffic: Traffic, guard: Guard, *, rate: float, clock: Callable[[], datetime]
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._traffic = traffic
        self._guard = guard
        self._rate = rate
        self._clock = clock
        self.published = 0

    async def run(self) -> None:
        """Publish until cancelled. A broker that is away is waited for."""
        while True:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                client_id="rappen-simulator",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_request_size=2 * RECORD_BYTES_MAX,
                request_timeout_ms=10_000,
            )
            try:
                await producer.start()
                await self._publish(producer)
            except KafkaError:
                # After an error a producer may fail for ever; a new one begins with a new sequence of its own.
                await asyncio.sleep(_RETRY_S)
            finally:
                await _stop(producer)

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        begin = last = time.monotonic()
        due = 0.0
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            rate = rate_at(now - begin, self._rate)
            due = min(due + rate * (now - last), self._rate * _BACKLOG_S + 1)
            last = now
            count = int(due)
            due -= count
            if count:
                await self._send(producer, self._traffic.records(count, self._clock(), waiting=self._guard.waiting))

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        sent = [
            await producer.send(_TOPIC, value=record.value, key=record.key, headers=record.headers)
            for record in records
        ]
        results = await asyncio.gather(*sent, return_exceptions=True)
        self.published += sum(1 for result in results if not isinstance(result, BaseException))
        for result in results:
            if isinstance(result, BaseException):
                raise result


async def _stop(producer: AIOKafkaProducer) -> None:
    """Disconnect in bounded time; what was not acknowledged never counted as published."""
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await producer.stop()
    except (KafkaError, TimeoutError):
        return
