"""The Flower ClientApp: a message to the client that it is for, and its answer back."""

from typing import Any

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from fedvssl.client.client import Client, ClientError, one_line
from fedvssl.client.order import Site
from fedvssl.wire.record import ARRAYS, CLIENT, CONFIG, METRICS, OWNER, pack, unpack
from fedvssl.wire.wire import STEP


def build_client_app(site: Site) -> ClientApp:
    """Build the app of every client; `context.node_config["partition-id"]` tells which client it is."""
    app = ClientApp()

    def client_of(context: Context) -> Client:
        return client_at(site, int(context.node_config["partition-id"]))

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


def client_at(site: Site, partition_id: int) -> Client:
    """The client, whose training is built when it trains: an introduction needs no Hydra."""

    return Client(partition_id, site, _build_training, _build_stepping)


def _build_training(settings: str, sent: Any) -> Any:
    from fedvssl.building import build_training

    return build_training(settings, sent)


def _build_stepping(settings: str) -> Any:
    from fedvssl.building import build_stepping

    return build_stepping(settings)


def introduce(message: Message, *, client: Client) -> Message:
    """Reply with what the client says of itself, numbers and texts apart, or with an error of one line."""
    try:
        facts: Any = client.introduce()
    except Exception as error:
        return failure(message, error)
    numbers: dict[str, Any] = {name: value for name, value in facts.items() if isinstance(value, int)}
    texts = {name: value for name, value in facts.items() if name not in numbers}
    return Message(RecordDict({CLIENT: MetricRecord(numbers), OWNER: ConfigRecord(texts)}), reply_to=message)


def answer(message: Message, *, client: Client) -> Message:
    """Reply with arrays and facts, or with an error of one line."""
    try:
        content: Any = message.content
        arrays, order = unpack(content[ARRAYS]), dict(content[CONFIG])
        trained, facts = client.answer(message.metadata.message_type, arrays, order)
        told: Any = dict(facts)
        return Message(RecordDict({ARRAYS: pack(trained), METRICS: MetricRecord(told)}), reply_to=message)
    except Exception as error:
        return failure(message, error)


def failure(message: Message, error: Exception) -> Message:
    """Reply with an error of one line, which names its class if the client has not put it into words."""
    line = str(error) if isinstance(error, ClientError | ValueError) else one_line(error)
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=line), reply_to=message)
