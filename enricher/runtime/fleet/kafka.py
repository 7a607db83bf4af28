# SPDX-License-Identifier: Apache-2.0
"""The Kafka topic of a fleet and who may use it: made where missing, compared, changed where that is asked for.

Owns the questions to the cluster and what its refusals mean. Never removes anything, never changes a topic unasked,
and never its number of partitions, which would move a container's events from one to another. Needs confluent-kafka.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from enricher.errors import FleetNotReady, UsageError
from enricher.runtime.fleet.layout import Finding, Layout, differences
from enricher.sinks.delivery.extras import extra
from enricher.sinks.delivery.kafkalogin import read_connection
from enricher.sinks.delivery.words import printable

if TYPE_CHECKING:
    from enricher.sinks.delivery.kafka import KafkaOptions

_SECONDS: Final = 30.0
_HINTS: Final = {
    "INVALID_REPLICATION_FACTOR": "fewer brokers are there than --replicas asks for",
    "TOPIC_AUTHORIZATION_FAILED": "the user needs Create, DescribeConfigs and AlterConfigs on the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "the user needs Create on the cluster, and Alter for --writer and --reader",
    "SECURITY_DISABLED": "the brokers have no authorizer: configure one, or leave --writer and --reader out",
    "POLICY_VIOLATION": "the brokers have a rule of their own for topics",
    "_TRANSPORT": "is it the right port, and TLS or not? (--servers, --tls)",
    "_TIMED_OUT": "is it the right port, and TLS or not? (--servers, --tls)",
    "_ALL_BROKERS_DOWN": "is it the right port, and TLS or not? (--servers, --tls)",
    "_AUTHENTICATION": "is it the right user and mechanism? (--username, --mechanism)",
}
"""By the name of an error of librdkafka."""


class Kafka:
    """What is asked of one cluster. Raises FleetNotReady, UsageError and ConfigInvalid.

    `admin` makes the client of a configuration: confluent-kafka's AdminClient.
    """

    def __init__(self, options: KafkaOptions, admin: Any = None) -> None:  # noqa: ANN401 - confluent-kafka's
        self._library: Any = extra("confluent_kafka", "kafka", "python3-confluent-kafka")
        self._api: Any = extra("confluent_kafka.admin", "kafka", "python3-confluent-kafka")
        self._topic = options.topic
        connection, advice = read_connection(options)
        self.advice = [advice] if advice else []
        """Sentences for the operator."""
        self._admin: Any = (admin or self._api.AdminClient)(connection)

    def setup(self, layout: Layout, *, update: bool, dry: bool) -> list[Finding]:
        """Do, or with `dry` only say, what it takes that the topic is as wanted, and who may use it."""
        found = [self._set_up_topic(layout, update=update, dry=dry)]
        if layout.writers or layout.readers:
            found += self._set_up_rights(layout, dry=dry)
        return found

    def _set_up_topic(self, layout: Layout, *, update: bool, dry: bool) -> Finding:
        what, wanted = f"topic {self._topic}", layout.topic()
        try:
            metadata = self._admin.list_topics(timeout=_SECONDS)
        except self._library.KafkaException as error:
            raise self._refused("the cluster", error) from error
        there = metadata.topics.get(self._topic)
        if there is None or there.error is not None:
            shape = f"{layout.partitions} partitions in {layout.replicas} copies, {wanted}"
            if dry:
                return Finding(what, f"would be made: {shape}", well=False)
            new = self._api.NewTopic(self._topic, layout.partitions, layout.replicas, config=wanted)
            self._wait(what, self._admin.create_topics([new]))
            return Finding(what, f"made: {shape}", well=True)
        resource = self._api.ConfigResource(self._api.ConfigResource.Type.TOPIC, self._topic)
        entries = self._wait(what, self._admin.describe_configs([resource]))
        config = {name: entry.value for name, entry in entries.items()}
        differ = differences(dict(wanted), config)
        fixed = self._shape(layout, there)
        said = "; ".join((*differ.values(), *fixed))
        if not said:
            return Finding(what, "as wanted", well=True)
        if fixed:
            hint = "only kafka-reassign-partitions.sh or a new topic changes these; or ask for what is there"
            self.advice.append(hint)
        if not update or not differ:
            left = "is left alone without --update" if differ else "cannot be changed here"
            return Finding(what, f"differs, and {left}: {said}", well=False)
        if dry:
            return Finding(what, f"would be changed: {said}", well=False)
        self._change(what, {name: wanted[name] for name in differ})
        return Finding(what, f"changed: {said}", well=not fixed)

    def _shape(self, layout: Layout, there: Any) -> list[str]:  # noqa: ANN401 - TopicMetadata
        partitions = list(there.partitions.values())
        copies = min((len(each.replicas) for each in partitions), default=0)
        found = []
        if len(partitions) != layout.partitions:
            found.append(f"partitions are {len(partitions)}, wanted are {layout.partitions}")
        if copies != layout.replicas:
            found.append(f"copies are {copies}, wanted are {layout.replicas}")
        return found

    def _change(self, what: str, config: dict[str, str]) -> None:
        if not hasattr(self._admin, "incremental_alter_configs"):
            raise UsageError(
                "this confluent-kafka cannot change one setting and leave the others",
                "version 2.3 or newer, or kafka-configs.sh",
            )
        set_to = self._api.AlterConfigOpType.SET
        entries = [
            self._api.ConfigEntry(name, value, incremental_operation=set_to) for name, value in config.items()
        ]
        kind = self._api.ConfigResource.Type.TOPIC
        resource = self._api.ConfigResource(kind, self._topic, incremental_configs=entries)
        self._wait(what, self._admin.incremental_alter_configs([resource]))

    def _set_up_rights(self, layout: Layout, *, dry: bool) -> list[Finding]:
        api = self._api
        wanted = [(each, api.AclOperation.WRITE) for each in layout.writers]
        wanted += [(each, api.AclOperation.READ) for each in layout.readers]
        wanted += [(each, api.AclOperation.DESCRIBE) for each in (*layout.writers, *layout.readers)]
        found = []
        for principal, operation in dict.fromkeys(wanted):
            what = f"right of {principal} to {operation.name.capitalize()} {self._topic}"
            rule = (
                *(api.ResourceType.TOPIC, self._topic, api.ResourcePatternType.LITERAL),
                *(principal, "*", operation, api.AclPermissionType.ALLOW),
            )
            if self._result(what, self._admin.describe_acls(api.AclBindingFilter(*rule))):
                found.append(Finding(what, "as wanted", well=True))
            elif dry:
                found.append(Finding(what, "would be given", well=False))
            else:
                self._wait(what, self._admin.create_acls([api.AclBinding(*rule)]))
                found.append(Finding(what, "given", well=True))
        return found

    def _wait(self, what: str, futures: dict[Any, Any]) -> Any:  # noqa: ANN401 - as the question is
        [future] = futures.values()
        return self._result(what, future)

    def _result(self, what: str, future: Any) -> Any:  # noqa: ANN401 - as the question is
        try:
            return future.result(_SECONDS)
        except (self._library.KafkaException, TimeoutError) as error:
            raise self._refused(what, error) from error

    def _refused(self, what: str, error: Exception) -> FleetNotReady:
        cause = error.args[0] if error.args else None
        if isinstance(cause, self._library.KafkaError):
            return FleetNotReady(f"{what}: {printable(cause.str())}", _HINTS.get(cause.name(), ""))
        return FleetNotReady(f"{what}: no answer in time", _HINTS["_TIMED_OUT"])
