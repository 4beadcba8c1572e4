"""Builds the gateway and runs it: settings in, wired parts out; no logic."""

from typing import Any

from aiokafka import TopicPartition
from litestar import Litestar
from litestar.datastructures import State

from services.gateway.accounts import Accounts
from services.gateway.agent_desk import AgentDesk
from services.gateway.approvals import Approvals
from services.gateway.audit import Auditor, AuditTopic
from services.gateway.bulk import Bulk
from services.gateway.chat.desk import ChatDesk
from services.gateway.chat.threads import Threads
from services.gateway.components import ComponentWatch
from services.gateway.context import Gateway
from services.gateway.control import Controller
from services.gateway.definitions import Definitions
from services.gateway.dependencies import DependencyReader
from services.gateway.edge import Edge
from services.gateway.entities import Entities
from services.gateway.files import FileDesk
from services.gateway.first_answers import PostgresAnswers
from services.gateway.forks import Forks
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.idempotency import Idempotency
from services.gateway.jwks import KeySet
from services.gateway.keyring import KeyRing
from services.gateway.keys import Keys
from services.gateway.keywatch import KeyWatch
from services.gateway.known import KnownThings
from services.gateway.lag import LagWatch
from services.gateway.limits import Limits
from services.gateway.links.build import link_parts, links_of
from services.gateway.links.values import PostgresAgentValues
from services.gateway.live import LiveHub
from services.gateway.log import EventLog
from services.gateway.nodelink.desk import NodelinkDesk, Retention
from services.gateway.own_tables import own_pool
from services.gateway.parts import Parts
from services.gateway.places import KEY_BYTES, StreamIds
from services.gateway.providers import providers_of
from services.gateway.quotas import Quotas
from services.gateway.rate_windows import PostgresWindows
from services.gateway.rates import RateLimiter
from services.gateway.read import Reader
from services.gateway.readside import PostgresViews
from services.gateway.ready import OrchestratorPing
from services.gateway.routing import routed
from services.gateway.schedules import Schedules
from services.gateway.secrets import SecretDesk
from services.gateway.security import BrowserGuard, check_address, is_loopback
from services.gateway.send import CommandSender
from services.gateway.server import HttpServer
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.shared_secrets import shared_secret
from services.gateway.streaming import Streams
from services.gateway.submit import Submitter
from services.gateway.templates import Templates
from services.gateway.tenant_limits import LimitsDesk, LimitsFollower
from services.gateway.throttle import Throttle
from services.gateway.tokens import Issuer, Tokens
from services.gateway.tool_servers import ToolServers
from services.gateway.usage import Usage
from services.gateway.users import Users
from services.gateway.wait import Recent
from services.gateway.webhooks import WebhookDesk
from taskloom import telemetry
from taskloom.bus.publish import Publisher
from taskloom.bus.replies import ReplyInbox
from taskloom.bus.tail import TailConsumer
from taskloom.lifecycle import Runtime
from taskloom.ops import Readiness
from taskloom.rules import TenantRules
from taskloom.store.claims import ClaimStore
from taskloom.store.history import HistoryReader
from taskloom.store.secrets import SecretTable
from taskloom.tenant_limits import LimitsBook
from taskloom.views.reading import read_pool
from taskloom.wire.topics import Topics

_log = telemetry.get_logger(__name__)


def create_app(parts: Parts) -> Litestar:
    """The ASGI application; its ``state`` has ``gateway`` (context.py) and ``background``, loops to run beside it."""
    settings = parts.settings
    recent = Recent()
    lag = LagWatch(parts.views.lag_ms)
    known = KnownThings(parts.views.known)
    limits = Limits(
        max_requests=settings.max_requests,
        max_body_bytes=settings.max_body_bytes,
        max_bodies_bytes=settings.max_bodies_bytes,
        max_streams=settings.max_streams,
        max_lag_s=settings.max_lag_s,
        lag_ms=lambda: lag.ms,
    )
    hub = LiveHub(parts.tail, Topics(settings.topic_prefix).events, capacity=settings.stream_buffer)
    reply_s = settings.reply_timeout_s
    readiness = Readiness("gateway", parts.checks)
    waits = DependencyReader(parts.views, parts.histories, recent)
    follower = LimitsFollower(LimitsBook(settings.quota_of_tenants), parts.views)
    quotas, plans = Quotas(follower.book, parts.views), settings.plans
    plans.follow(follower.book.of)
    submitter = Submitter(
        parts.sender,
        parts.replies,
        parts.values,
        known,
        recent,
        waits,
        quotas,
        reply_s=reply_s,
        rules=TenantRules(settings.rules),
    )
    entities = Entities(
        *(parts.sender, parts.replies, parts.views, parts.histories, recent),
        reply_s=reply_s,
        wait_s=settings.read_wait_s,
    )
    stored = Definitions(entities, submitter)
    controller = Controller(parts.sender, parts.replies, recent, reply_s=reply_s)
    reader = Reader(parts.views, parts.histories, parts.values, recent, wait_s=settings.read_wait_s)
    ring = KeyRing(parts.views, fresh_s=settings.key_cache_s)
    gatekeeper = gatekeeper_of(settings, ring, parts.issuer_keys)
    auditor = Auditor(parts.audit, settings.instance)
    links = links_of(settings, parts, entities)
    keys = Keys(entities, parts.views, ring)
    streams = Streams(
        *(parts.histories, parts.views, hub, EventLog(parts.histories)),
        StreamIds(parts.stream_key, parts.histories.shards),
        limits,
        ping_interval_s=settings.ping_interval_s,
    )
    gateway = Gateway(
        auditor=auditor,
        gatekeeper=gatekeeper,
        keys=keys,
        accounts=Accounts(
            providers_of(settings.sign_in_providers, cache_s=settings.jwt_jwks_cache_s),
            *(entities, parts.views, ring, keys, gatekeeper.tokens, quotas, plans),
            domains=settings.domains,
            anyone=settings.sign_up == "anyone",
            refresh_s=settings.refresh_lifetime_s,
        ),
        users=Users(entities, ring),
        usage=Usage(parts.views),
        limits_desk=LimitsDesk(entities, follower, quotas, plans, parts.views, plans.tiers),
        submitter=submitter,
        approvals=Approvals(reader, controller),
        sessions=Sessions(reader, entities, recent, settings.artifacts_dir),
        definitions=stored,
        templates=Templates(stored, submitter, known),
        schedules=Schedules(entities, at_most=settings.max_schedules),
        dependencies=waits,
        forks=Forks(parts.sender, parts.replies, recent, reader, quotas, reply_s=reply_s),
        controller=controller,
        bulk=Bulk(parts.sender, parts.replies, recent, parts.views, known, reply_s=reply_s),
        known=known,
        reader=reader,
        webhooks=WebhookDesk(
            *(entities, reader, parts.sender, parts.replies, recent), settings.webhook_key.get_secret_value()
        ),
        nodelink=NodelinkDesk(
            *(submitter, controller, reader, Retention(settings.nodelink_keep_s, settings.nodelink_sweep_s)),
            reply_s=reply_s,
            wait_s=settings.read_wait_s,
        ),
        chat=ChatDesk(*(submitter, controller, reader, streams, Threads(reader, entities), settings), reply_s=reply_s),
        files=FileDesk(settings.files, reader),
        secrets=SecretDesk(settings.vault, parts.sealed),
        tool_servers=ToolServers(entities, submitter, reader),
        streams=streams,
        limits=limits,
        lag=lag,
        readiness=readiness,
        components=ComponentWatch(readiness, parts.views, lambda: lag.ms, max_lag_s=settings.max_lag_s),
        links=links,
        agents=AgentDesk(entities, parts.views, links, ping_s=settings.ping_interval_s),
    )
    background = (lag.run, known.run, ring.run, auditor.run, follower.run)
    app = routed(settings.max_body_bytes, State({"gateway": gateway, "background": background}, deep_copy=False))
    guard = BrowserGuard(local_only=is_loopback(settings.host), origins=settings.origins)
    limiter = None if parts.rates is None else RateLimiter(parts.rates, fail_open=settings.rate_on_outage == "open")
    once = Idempotency(app.asgi_handler, parts.answers, max_body_bytes=settings.max_body_bytes)
    watch = KeyWatch(gatekeeper, gateway.streams.open, fresh_s=settings.key_cache_s)
    app.state["background"] += (watch.run, once.run, *(each.run for each in (limiter, links) if each is not None))
    throttle = Throttle(once, plans, limiter, settings.trusted_proxies)
    app.asgi_handler = Edge(throttle, guard, gatekeeper, auditor, limits)
    return app


def gatekeeper_of(settings: GatewaySettings, ring: KeyRing, issuer_keys: KeySet | None) -> Gatekeeper:
    """In open mode nobody is asked for a key; tokens are made in neither mode without a secret."""
    secret = settings.jwt_secret.get_secret_value()
    issuer = None
    if issuer_keys is not None:
        issuer = Issuer(issuer_keys, settings.jwt_jwks_issuer or settings.jwt_issuer, settings.jwt_jwks_audience)
    tokens = Tokens(secret, settings.jwt_issuer, settings.jwt_lifetime_s, issuer) if secret or issuer else None
    return Gatekeeper(ring if settings.asks_for_keys else None, tokens)


def issuer_keys_of(settings: GatewaySettings) -> KeySet | None:
    """Raises SettingsError: they could not be trusted where they are."""
    if not settings.jwt_jwks:
        return None
    return KeySet(settings.jwt_jwks, "TASKLOOM_JWT_JWKS", fresh_s=settings.jwt_jwks_cache_s)


async def run(settings: GatewaySettings) -> None:
    """Serves until SIGTERM, then drains: streams are cut, requests in work are answered.

    Raises:
        OpenAddressRefused: the address is not loopback, and neither keys are asked for nor TASKLOOM_ALLOW_OPEN is set.
        StartUpFailed, BusUnavailable, StoreUnavailable: something needed did not answer in time.
    """
    check_address(settings.host, keys=settings.asks_for_keys, allow_open=settings.allow_open)
    async with Runtime("gateway", settings) as runtime:
        if not settings.asks_for_keys:
            _log.warning(
                "open mode: whoever reaches the gateway may do everything; set TASKLOOM_AUTH=keys to ask for keys",
                host=settings.host,
            )
        parts = await _real_parts(settings, runtime)
        app = create_app(parts)
        await runtime.start("read the limits of tenants", app.state["gateway"].limits_desk.refresh())
        for loop in app.state["background"]:
            runtime.background(loop.__qualname__, loop(runtime.stopping))
        runtime.on_drain("write the audit", app.state["gateway"].auditor.close)
        server = HttpServer(app, settings.host, settings.http_port, drain_s=settings.drain_timeout_s / 2)
        await runtime.start("listen", server.start())
        runtime.on_drain("answer the requests in work", server.stop)
        runtime.on_drain("cut the streams", app.state["gateway"].streams.close)
        runtime.on_drain("cut the links of agents", app.state["gateway"].links.close)
        runtime.background("serve", server.run(runtime.stopping))
        await runtime.run_until_stopped()


async def _real_parts(settings: GatewaySettings, runtime: Runtime) -> Parts:
    topics = Topics(settings.topic_prefix)
    publisher = Publisher(settings.kafka_bootstrap, settings.instance)
    await runtime.start("connect to Kafka", publisher.start(settings.startup_timeout_s))
    runtime.on_drain("close the producer", publisher.stop)
    # Apart from the commands' producer: what goes wrong with the one must not hold up the other.
    scribe = Publisher(settings.kafka_bootstrap, f"{settings.instance}-audit")
    await runtime.start("connect to Kafka for the audit", scribe.start(settings.startup_timeout_s))
    runtime.on_drain("close the audit's producer", scribe.stop)
    inbox = ReplyInbox(settings.kafka_bootstrap, topics, settings.partitions, settings.instance)
    await runtime.start("read replies", inbox.start(settings.startup_timeout_s))
    runtime.on_drain("close the reply inbox", inbox.stop)
    runtime.background("replies", inbox.run(), drains=False)

    histories = HistoryReader(
        settings.database_dsn,
        partitions=settings.partitions,
        shards=settings.shards,
        max_connections=settings.max_pool,
    )
    values = ClaimStore(settings.database_dsn)
    pool = read_pool(settings.database_dsn, max_size=settings.max_pool)
    await runtime.start("open the event store", histories.open(timeout_s=settings.startup_timeout_s))
    runtime.on_drain("close the event store", histories.close)
    await runtime.start("open the values", values.open(timeout_s=settings.startup_timeout_s))
    runtime.on_drain("close the values", values.close)
    await runtime.start("open the views", pool.open(wait=True, timeout=settings.startup_timeout_s))
    runtime.on_drain("close the views", pool.close)
    stream_key = await runtime.start("read the streams' key", shared_secret(pool, "stream-ids", KEY_BYTES))

    own = own_pool(settings.database_dsn, max_size=settings.max_own_pool)
    # Whether requests are limited can change while it runs.
    rates = PostgresWindows(own)
    answers = PostgresAnswers(own, keep_s=settings.answers_kept_s) if settings.answers_kept_s else None
    await runtime.start("open the gateway's own tables", own.open(wait=True, timeout=settings.startup_timeout_s))
    runtime.on_drain("close the gateway's own tables", own.close)

    sender = CommandSender(publisher, topics, settings.partitions)
    views = PostgresViews(pool, topics.events)
    followed = [
        TopicPartition(topic, partition)
        for topic in (topics.events, topics.outputs)
        for partition in range(settings.partitions)
    ]
    tail: Any = TailConsumer(
        settings.kafka_bootstrap, followed, client_id=f"{settings.instance}-live", fetch_max_wait_ms=50
    )
    ping = OrchestratorPing(sender, inbox, settings.instance)
    checks = {"kafka": publisher.ping, "database": views.ping, "orchestrator": ping.check}
    audit_topic = AuditTopic(scribe, topics, settings.partitions)
    links = await link_parts(settings, runtime, publisher, PostgresAgentValues(values, own))
    parts = (settings, sender, inbox, views, histories, values, tail, checks, rates, answers, audit_topic)
    issuer_keys = issuer_keys_of(settings)
    if issuer_keys is not None:
        await runtime.start("read the keys at TASKLOOM_JWT_JWKS", issuer_keys.read())
    sealed = SecretTable(settings.database_dsn)
    runtime.on_drain("close the secrets", sealed.close)
    return Parts(*parts, links=links, stream_key=stream_key, sealed=sealed, issuer_keys=issuer_keys)
