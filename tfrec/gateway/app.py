"""The gateway's HTTP application: what an application calls.

    POST /v1/recommend   items for a user                       GET /healthz   this process is alive
    POST /v1/search      items for a text                       GET /readyz    the model server answers, records can be kept
    POST /v1/similar     items near an item                     GET /metrics   for Prometheus
    POST /v1/explain     why an item has its score              GET /docs      these calls, with examples
    POST /v1/outcomes    what users did                     DELETE /v1/users/{user}   erases a user
    POST /v1/preview     as recommend, and not logged       GET /          the console (`console/`), and what it calls:
                                                            POST /v1/items, /v1/runs, /v1/experiments, /v1/reviews
    POST /v1/review      approves or rejects a flagged item

Calls pass `http/admission.py`, are read and answered by `http/verb_routes.py`, and the work is in `verbs.py`.
"""
from collections.abc import Callable

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from tfrec import __version__
from tfrec.config import GatewayConfig
from tfrec.erasure.journal import Receipt
from tfrec.gateway.console import bodies, reviews
from tfrec.gateway.console.console import Console
from tfrec.gateway.console.pages import add_pages
from tfrec.gateway.http import schemas
from tfrec.gateway.http.admission import Admission
from tfrec.gateway.http.docs_page import page
from tfrec.gateway.http.error_responses import handle_errors
from tfrec.gateway.http.keys import EXPLAIN, LOG, REVIEW, SERVE, Keys
from tfrec.gateway.http.openapi import describe
from tfrec.gateway.http.time_limits import TimeLimits
from tfrec.gateway.http.verb_routes import VerbRoutes
from tfrec.gateway.metrics import Metrics
from tfrec.gateway.readiness import Readiness
from tfrec.gateway.verbs import Gateway

_NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'"
_ABOUT = ("Recommends and searches items, and records what users do with them. The body of every POST is one object or a list of "
          "objects. The answer has the same form.")


def create_app(
    gateway: Gateway, readiness: Readiness, *, max_k: int, metrics: Metrics, keys: Keys | None = None,
    config: GatewayConfig | None = None, limits: TimeLimits | None = None, forget: Callable[[str], Receipt] | None = None,
    console: Console | None = None,
) -> FastAPI:
    """The HTTP application over the gateway's verbs.

    Args:
        gateway: does the work.
        readiness: answers /readyz.
        max_k: the largest `k` of a request.
        metrics: counts calls, and answers /metrics.
        keys: who may call; by default everyone.
        config: limits on bodies and load.
        limits: how long bodies and calls may take.
        forget: erases a user; None: there is no such call.
        console: answers what the page for people asks; None: there is no such page.
    """
    config, limits = config or GatewayConfig(), limits or TimeLimits()
    verbs = VerbRoutes(config, max_k=max_k, metrics=metrics)
    app = FastAPI(title="tfrec gateway", version=__version__, description=_ABOUT, lifespan=verbs.lifespan, docs_url=None,
                  redoc_url=None)
    verbs.add(app, SERVE, gateway.recommend, schemas.RecommendRequest, schemas.RecommendAnswer, max_length=schemas.MAX_BATCH)
    verbs.add(app, SERVE, gateway.search, schemas.SearchRequest, schemas.RecommendAnswer, max_length=schemas.MAX_BATCH)
    verbs.add(app, SERVE, gateway.similar, schemas.SimilarRequest, schemas.SimilarAnswer, max_length=schemas.MAX_BATCH)
    verbs.add(app, EXPLAIN, gateway.explain, schemas.ExplainRequest, schemas.ExplainAnswer, max_length=schemas.MAX_EXPLAINED)
    verbs.add(app, LOG, gateway.outcomes, schemas.OutcomeRequest, schemas.OutcomeAnswer, max_length=schemas.MAX_OUTCOMES)
    verbs.add(app, EXPLAIN, gateway.preview, schemas.PreviewRequest, schemas.RecommendAnswer, max_length=schemas.MAX_BATCH)
    if console is not None:
        verbs.add(app, EXPLAIN, console.items, bodies.ItemsRequest, bodies.ItemsAnswer, max_length=schemas.MAX_EXPLAINED)
        verbs.add(app, EXPLAIN, console.runs, bodies.RunsRequest, bodies.RunsAnswer, max_length=1)
        verbs.add(app, EXPLAIN, console.experiments, bodies.ExperimentsRequest, bodies.ExperimentsAnswer, max_length=1)
        verbs.add(app, EXPLAIN, console.monitors, bodies.MonitorsRequest, bodies.MonitorsAnswer, max_length=1)
        verbs.add(app, EXPLAIN, console.review.reviews, reviews.ReviewsRequest, reviews.ReviewsAnswer, max_length=1)
        verbs.add(app, REVIEW, console.review.review, reviews.ReviewRequest, reviews.Reviewed, max_length=1, tells_key=True)
        add_pages(app)
    if forget is not None:
        verbs.add_forget(app, forget)
    _add_operator_routes(app, readiness, metrics)
    handle_errors(app)
    keys = keys or Keys(None, rate=config.rate)
    app.add_middleware(Admission, config=config, keys=keys, metrics=metrics, roles=verbs.roles, limits=limits)
    describe(app, verbs.readers, max_k=max_k, needs_key=config.keys is not None)
    return app


def _add_operator_routes(app: FastAPI, readiness: Readiness, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether this process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": dict[str, str], "description": "Not ready. The answer says why."}})
    def readyz() -> Response:
        """Whether the model server answers and records can be kept. It says as well if other gateways are not heard."""
        problems = readiness.problems()
        return JSONResponse((problems or {"status": "ok"}) | readiness.remarks(), 503 if problems else 200)

    @app.get("/metrics", response_class=PlainTextResponse, name="metrics")
    def metrics_text() -> Response:
        """The gateway's metrics, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()), headers={"content-security-policy": _NO_SCRIPTS})
