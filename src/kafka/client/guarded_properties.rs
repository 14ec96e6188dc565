//! Properties of the Kafka client that an operator may not set, because a guarantee rests on their values.

/// Why a property is ours.
type Reason = &'static str;

const OFFSETS: Reason = "offsets are committed by transactions only";
const GROUPS: Reason = "the groups are named after the application, so that its instances share their partitions and offsets";
const HANDOVER: Reason =
    "partitions are handed over together with their companions, one by one and in one order";
const COMMITTED: Reason =
    "records of aborted transactions would be served, joined and judged as if they were committed";
const ONCE: Reason = "records would be lost, doubled or reordered";
const SLOTS: Reason =
    "transactional ids are named after the instance's slot, so that a deposed process is fenced";
const CODE: Reason = "it loads or calls code that the program does not know";
const TOPICS: Reason = "topics that brokers make on demand have the wrong partitions and settings; `serinus topics create` makes them";
const ENDS: Reason =
    "the program must be told of each partition's end exactly where it asks for it";
const SEEN: Reason = "the client would hide topics or records from the program";
const REPORTS: Reason = "the program counts on each delivery report that it asks for";

/// Every property that is refused, by all of its names.
const REFUSED: [(&str, Reason); 45] = [
    ("isolation.level", COMMITTED),
    ("group.id", GROUPS),
    ("group.instance.id", GROUPS),
    ("group.protocol", HANDOVER),
    ("group.protocol.type", HANDOVER),
    ("group.remote.assignor", HANDOVER),
    ("partition.assignment.strategy", HANDOVER),
    ("enable.auto.commit", OFFSETS),
    ("auto.commit.enable", OFFSETS),
    ("auto.commit.interval.ms", OFFSETS),
    ("enable.auto.offset.store", OFFSETS),
    ("offset.store.method", OFFSETS),
    ("offset.store.path", OFFSETS),
    ("offset.store.sync.interval.ms", OFFSETS),
    ("auto.offset.reset", "a reader without an offset must begin at the first record that is kept"),
    ("enable.partition.eof", ENDS),
    ("transactional.id", SLOTS),
    ("enable.idempotence", ONCE),
    ("enable.gapless.guarantee", ONCE),
    ("acks", ONCE),
    ("request.required.acks", ONCE),
    ("retries", ONCE),
    ("message.send.max.retries", ONCE),
    ("max.in.flight", ONCE),
    ("max.in.flight.requests.per.connection", ONCE),
    ("queuing.strategy", ONCE),
    ("msg_order_cmp", ONCE),
    ("partitioner", "records have their places by the contract"),
    ("partitioner_cb", "records have their places by the contract"),
    ("delivery.report.only.error", REPORTS),
    ("produce.offset.report", REPORTS),
    ("enabled_events", REPORTS),
    ("allow.auto.create.topics", TOPICS),
    ("topic.blacklist", SEEN),
    ("plugin.library.paths", CODE),
    ("interceptors", CODE),
    ("opaque", CODE),
    ("default_topic_conf", CODE),
    ("dr_cb", CODE),
    ("dr_msg_cb", CODE),
    ("rebalance_cb", CODE),
    ("test.mock.num.brokers", "the program would talk to brokers that exist in its memory only"),
    ("test.mock.broker.rtt", "the program would talk to brokers that exist in its memory only"),
    ("client.dns.lookup.cb", CODE),
    ("background_event_cb", CODE),
];

/// Properties that may be set within bounds, in milliseconds, with the reason for the bounds.
const BOUNDED: [(&str, i64, i64, Reason); 3] = [
    ("transaction.timeout.ms", 2_000, 60_000, TRANSACTIONS),
    ("message.timeout.ms", 100, 60_000, MESSAGES),
    ("delivery.timeout.ms", 100, 60_000, MESSAGES),
];
const TRANSACTIONS: Reason = "a shorter transaction ends before a slow commit, and a longer one that a dead process left open holds everything up";
const MESSAGES: Reason = "a record must be delivered, or given up, before its transaction ends";
/// The timeout of our transactions where the operator does not set one.
pub const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

/// Checks one property that an operator wants to set.
///
/// # Errors
///
/// The words of the refusal, which name the property.
pub fn check(key: &str, value: &str) -> Result<(), String> {
    // Some tools put `topic.` before the properties of topics.
    let key = key.trim();
    let name = key.strip_prefix("topic.").filter(|_| key != "topic.blacklist").unwrap_or(key);
    let is_callback = name.ends_with("_cb");
    let refused = REFUSED.iter().find(|(r, _)| r.eq_ignore_ascii_case(name));
    if let Some(why) = refused.map(|(_, why)| *why).or(is_callback.then_some(CODE)) {
        return Err(format!("`{key}` cannot be set: {why}"));
    }
    let bounded = BOUNDED.iter().find(|(it, ..)| it.eq_ignore_ascii_case(name));
    let Some((_, min, max, why)) = bounded else { return Ok(()) };
    match value.trim().parse::<i64>() {
        Ok(ms) if (*min..=*max).contains(&ms) => Ok(()),
        Ok(_) | Err(_) => {
            Err(format!("`{key}` must be from {min} to {max} ms, not `{}`: {why}", value.trim()))
        }
    }
}

/// Checks properties that depend on each other.
///
/// # Errors
///
/// The words of the refusal, which name both.
pub fn check_together(properties: &[(String, String)]) -> Result<(), String> {
    let last = |names: &[&str]| {
        let found = properties.iter().rev().find(|(key, _)| {
            let key = key.strip_prefix("topic.").unwrap_or(key);
            names.contains(&key)
        });
        found.and_then(|(_, value)| value.trim().parse::<i64>().ok())
    };
    let transaction = last(&["transaction.timeout.ms"]).unwrap_or(TRANSACTION_TIMEOUT_MS);
    match last(&["message.timeout.ms", "delivery.timeout.ms"]) {
        Some(message) if message > transaction => Err(format!(
            "`message.timeout.ms` is {message}, and `transaction.timeout.ms` {transaction}: {MESSAGES}"
        )),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{BOUNDED, REFUSED, check, check_together};

    #[test]
    fn a_property_that_a_guarantee_rests_on_is_refused_by_each_of_its_names() {
        for (key, _) in REFUSED {
            for name in [key.to_owned(), format!(" {key} "), key.to_uppercase()] {
                let error = check(&name, "1").expect_err(key);
                assert!(error.contains(name.trim()), "{error}");
            }
        }
        assert!(check("topic.acks", "1").is_err());
        assert!(check("ssl.certificate.verify_cb", "1").is_err());
    }

    #[test]
    fn what_no_guarantee_rests_on_may_be_set() {
        for key in [
            "linger.ms",
            "message.max.bytes",
            "client.id",
            "client.rack",
            "security.protocol",
            "ssl.ca.location",
            "sasl.username",
            "compression.type",
            "session.timeout.ms",
            "socket.timeout.ms",
            "connections.max.idle.ms",
            "fetch.message.max.bytes",
            "debug",
        ] {
            assert_eq!(check(key, "1"), Ok(()), "{key}");
        }
    }

    #[test]
    fn timeouts_may_be_set_within_bounds() {
        for (key, min, max, _) in BOUNDED {
            for ms in [min, max] {
                assert_eq!(check(key, &ms.to_string()), Ok(()), "{key}={ms}");
            }
            for wrong in ["0", "-1", "soon", "", "3600000"] {
                assert!(check(key, wrong).is_err(), "{key}={wrong}");
            }
        }
    }

    #[test]
    fn no_message_outlives_its_transaction() {
        let check = |properties: &[(&str, &str)]| {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            check_together(&properties.iter().map(owned).collect::<Vec<_>>()).is_ok()
        };
        assert!(check(&[]));
        assert!(check(&[("message.timeout.ms", "1500")]));
        assert!(check(&[("transaction.timeout.ms", "5000")]));
        assert!(!check(&[("message.timeout.ms", "20000")]));
        assert!(check(&[("message.timeout.ms", "20000"), ("transaction.timeout.ms", "30000")]));
        assert!(!check(&[("delivery.timeout.ms", "6000"), ("transaction.timeout.ms", "5000")]));
    }
}
