"""Turns a verb, a function from bodies to answers, into a POST route.

A body is read, worked on and answered in one thread, and nothing is checked twice.
"""
import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from tfrec.config import GatewayConfig
from tfrec.data.records import MAX_ID
from tfrec.erasure.journal import Receipt
from tfrec.gateway.http.admission import CALLER, CODING, DEADLINE, USERS
from tfrec.gateway.http.body_reader import BodyReader, check_sizes, to_json
from tfrec.gateway.http.concurrency import max_in_flight
from tfrec.gateway.http.encoding import unpacked
from tfrec.gateway.http.keys import FORGET, ROLES
from tfrec.gateway.http.openapi import request_body, responses
from tfrec.gateway.http.rate_limit import charge_list
from tfrec.gateway.http.refusal import RequestRefused
from tfrec.gateway.http.request_body import LARGE_BYTES
from tfrec.gateway.metrics import Metrics

T = TypeVar("T", bound=BaseModel)
A = TypeVar("A", bound=BaseModel)


class VerbRoutes:
    """The verbs of an application: `roles` and `readers` by path.

    Args:
        config: limits on bodies and load.
        max_k: the largest `k` of a request.
        metrics: counts refusals.
    """

    def __init__(self, config: GatewayConfig, *, max_k: int, metrics: Metrics) -> None:
        self.roles: dict[str, str] = {}
        self.readers: dict[str, BodyReader[Any]] = {}
        self._config = config
        self._max_k = max_k
        self._metrics = metrics
        # one thread for each call that admission lets in at once
        self._threads = ThreadPoolExecutor(sum(max_in_flight(config, role) for role in ROLES), "verb")
        self._large_body = threading.Lock()  # parsing a large body lets no other thread run: one at a time

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Keep the threads as long as the application runs."""
        with self._threads:
            yield

    def add(
        self, app: FastAPI, role: str, work: Callable[..., Sequence[A]], body: type[T], answer: type[A], *,
        max_length: int, tells_key: bool = False,
    ) -> None:
        """Serve `work` at `/v1/` and its name, for callers with `role` and lists of at most `max_length` bodies.

        `work` takes the bodies and, with `tells_key`, the name of the caller's key as `key`. Its docstring describes the route.
        """
        reader = BodyReader(body, max_length=max_length)

        async def endpoint(request: Request) -> Response:
            raw = await request.body()
            told = partial(work, key=request.scope[CALLER].name) if tells_key else work
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, request, raw, reader, told)

        path = f"/v1/{work.__name__}"
        self.roles[path], self.readers[path] = role, reader
        app.add_api_route(
            path, endpoint, methods=["POST"], name=work.__name__, description=inspect.getdoc(work), responses=responses(),
            response_model=answer | list[answer], openapi_extra=request_body(reader),  # type: ignore[valid-type]
        )

    def add_forget(self, app: FastAPI, forget: Callable[[str], BaseModel]) -> None:
        """Serve DELETE of a user by `forget`, which gives a receipt."""
        async def endpoint(request: Request, user: str) -> Response:
            """Erase a user. It takes seconds to a minute, and a caller who leaves does not stop it.

            The answer says what was removed where, which versions have learnt from the user, and what is still waited for:
            then a retrain finishes it, or the same call, later. Who acts again is a new person.
            """
            if not 1 <= len(user) <= MAX_ID:
                raise RequestRefused(422, f"Expected the id of a user, 1 to {MAX_ID} characters.", field="user")
            receipt = await asyncio.get_running_loop().run_in_executor(self._threads, forget, user)
            return Response(receipt.model_dump_json(), media_type="application/json")

        self.roles[USERS] = FORGET
        app.add_api_route(f"{USERS}/{{user:path}}", endpoint, methods=["DELETE"], name="forget", responses=responses(),
                          description=inspect.getdoc(endpoint), response_model=Receipt)

    def _run(self, request: Request, raw: bytes, reader: BodyReader[T], work: Callable[[Sequence[T]], Sequence[A]]) -> Response:
        with request.scope[DEADLINE].current():
            raw = unpacked(raw, request.scope[CODING], max_bytes=self._config.max_body_bytes)
            with self._large_body if len(raw) > LARGE_BYTES else contextlib.nullcontext():
                request.scope[DEADLINE].check()
                bodies, is_list = reader.read(raw)
            charge_list(request.scope[CALLER].bucket, len(bodies), self._metrics)
            check_sizes(bodies, is_list=is_list, max_k=self._max_k, max_context_bytes=self._config.max_context_bytes)
            return Response(to_json(work(bodies), is_list=is_list), media_type="application/json")
