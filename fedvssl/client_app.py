"""The Flower ClientApp: a message to the client that it is for, and its answer back."""

from typing import Any

from flwr.app import Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from fedvssl.building import build_stepping, build_training
from fedvssl.client.client import Client, ClientError, one_line
from fedvssl.client.order import Site
from fedvssl.wire.record import ARRAYS, CLIENT, CONFIG, METRICS, pack, unpack
from fedvssl.wire.wire import STEP


def build_client_app(site: Site) -> ClientApp:
    """Build the app of every client; `context.node_config["partition-id"]` tells which client it is."""
    app = ClientApp()

    def client_of(context: Context) -> Client:
        return Client(int(context.node_config["partition-id"]), site, build_training, build_stepping)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return introduce(message, client=client_of(context))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answer(message, client=client_of(context))

    @app.train(STEP.partition(".")[2])
    def step(message: Message, context: Context) -> Message:
        return answer(message, client=client_of(context))

    return app


def introduce(message: Message, *, client: Client) -> Message:
    """Reply with the client's partition id and number of videos, or with an error of one line."""
    try:
        facts: Any = client.introduce()
    except Exception as error:
        return _failure(message, error)
    return Message(RecordDict({CLIENT: MetricRecord(facts)}), reply_to=message)


def answer(message: Message, *, client: Client) -> Message:
    """Reply with arrays and facts, or with an error of one line."""
    try:
        content: Any = message.content
        arrays, order = unpack(content[ARRAYS]), dict(content[CONFIG])
        trained, facts = client.answer(message.metadata.message_type, arrays, order)
        told: Any = dict(facts)
        return Message(RecordDict({ARRAYS: pack(trained), METRICS: MetricRecord(told)}), reply_to=message)
    except Exception as error:
        return _failure(message, error)


def _failure(message: Message, error: Exception) -> Message:
    line = str(error) if isinstance(error, ClientError) else one_line(error)
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=line), reply_to=message)
