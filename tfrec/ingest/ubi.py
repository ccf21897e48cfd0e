"""Decodes documents of User Behavior Insights (UBI) 1.0, the standard of OpenSearch and Solr for queries and what people did.

A query with its hits (`ubi_queries`) becomes an impression, an event with an object (`ubi_events`) an outcome of the query that
it names. Scores and propensities are not part of UBI: scores are 0 and propensities unknown. `client_id` is the user, as it alone
is in both documents. UBI gives events no id: one is made of what the event says, so that a document that was sent twice counts
once.

Schemas: https://github.com/o19s/ubi and https://docs.opensearch.org/latest/search-plugins/ubi/schemas/.
"""
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from tfrec.data.readers.event_files import LATEST
from tfrec.data.readers.validation import explain
from tfrec.data.records import Context, Impression, Key, Outcome, Record, Seconds, Shown
from tfrec.ingest.decoding import Content, Decoded, Fault, LeftOut, event_id, rows_of_message, without_nulls

POLICY = "ubi"  # the name of the policy of what another engine has shown
IMPRESSION = "impression"  # the action of an event which says that an item was seen


def _seconds(value: Any) -> Any:
    """Whole seconds of a time: ISO 8601, without an offset in UTC; or a number of seconds or, as in OpenSearch, milliseconds."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return value
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return math.floor(value / 1000 if value >= LATEST else value)
    return value


Moment = Annotated[Seconds, BeforeValidator(_seconds)]


class UbiObject(Record):
    """What an event is about."""

    object_id: Key


class UbiAttributes(Record):
    """Details of an event; other fields are not read."""

    object: UbiObject | None = None


class UbiEvent(Record):
    """A document of `ubi_events`."""

    action_name: Key
    timestamp: Moment
    client_id: Key | None = None
    user_id: Key | None = None
    query_id: Key | None = None
    event_attributes: UbiAttributes = UbiAttributes()


class UbiQuery(Record):
    """A document of `ubi_queries`."""

    query_id: Key
    timestamp: Moment
    client_id: Key | None = None
    user_id: Key | None = None
    user_query: str = ""
    application: Annotated[str, Field(max_length=512)] = ""
    query_response_hit_ids: tuple[Key, ...] = ()


def decode_ubi(content: Content) -> Sequence[Decoded]:
    """The records of a message: a document or a list of documents, as they are or as hits of a search (`_id` and `_source`)."""
    return [row if isinstance(row, Fault) else _decoded(row) for row in rows_of_message(content)]


def _decoded(row: Mapping[str, Any]) -> Decoded:
    source = row.get("_source", row)
    if not isinstance(source, Mapping):
        return Fault('"_source": expected a JSON object', row)
    fields = without_nulls(source)
    try:
        if "action_name" in fields:
            return _outcome(UbiEvent.model_validate(fields), fields, str(row.get("_id", "")))
        if "query_id" in fields:
            return _impression(UbiQuery.model_validate(fields))
    except ValidationError as error:
        return Fault(explain(error), row)
    return Fault('expected a document of UBI: an event with "action_name", or a query with "query_id"', row)


def _outcome(event: UbiEvent, fields: Mapping[str, Any], document_id: str) -> Decoded:
    if event.event_attributes.object is None:
        return LeftOut("event without an object")
    if event.action_name == IMPRESSION:
        return LeftOut("impression of one item")  # the query says what was shown
    user = event.client_id or event.user_id or event.query_id  # as the query has it
    if user is None:
        return Fault('"client_id": field required, or "user_id" or "query_id"', fields)
    item = event.event_attributes.object.object_id
    said = user, fields.get("session_id"), event.query_id, item, event.action_name, fields["timestamp"]
    return Outcome(event_id=document_id or event_id(*said), user=user, item=item, action=event.action_name, time=event.timestamp,
                   request_id=event.query_id)


def _impression(query: UbiQuery) -> Decoded:
    items = tuple(dict.fromkeys(query.query_response_hit_ids))
    if not items:
        return LeftOut("query without hits")
    return Impression(
        request_id=query.query_id,
        time=query.timestamp,
        user=query.client_id or query.user_id or query.query_id,  # the gateway names a search without a user by its request
        query=query.user_query,
        context=Context(place=query.application),
        slate=tuple(Shown(item=item, position=position, score=0.0) for position, item in enumerate(items)),
        policy=POLICY,
        model_version=0,
    )
