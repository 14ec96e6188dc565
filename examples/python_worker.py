"""A model's worker outside of Rust: python python_worker.py BOOTSTRAP MODEL VERSION (pip install confluent-kafka)."""
import json, signal, sys
from confluent_kafka import Consumer, Producer


def predict(request):
    """The model: the later in the day a flight leaves, the likelier it is late."""
    score = 0.05 + 0.2 * request["features"]["mins"] / 1440
    return {"score": round(score, 6), "late": score >= 0.5}


bootstrap, model, version = sys.argv[1:4]
# Uncommitted requests are answered too: one commit less to wait for. Should it be aborted, one answer was for nothing.
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{model}.{version}", "isolation.level": "read_uncommitted",
                     "auto.offset.reset": "earliest", "enable.auto.offset.store": False, "fetch.wait.max.ms": 10})
producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "enable.idempotence": True})
stopping = []
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.append(True))
consumer.subscribe([f"{model}.{version}.requests"])
while not stopping:
    records = [it for it in consumer.consume(500, timeout=0.05) if not it.error()]  # The client mends its connection itself.
    for record in records:
        headers = [(name, value) for name, value in record.headers() or [] if name.startswith("serinus-")]
        reply = dict(headers)
        try:
            answer = json.dumps(predict(json.loads(record.value())))
        except Exception as error:  # Say so: then another version can answer at once, and not after the deadline.
            answer, headers = b"", [*headers, ("serinus-error", repr(error))]
        producer.produce(reply["serinus-reply-topic"].decode(), answer, record.key(),
                         int(reply["serinus-reply-partition"]), headers=headers)
    producer.flush()
    for record in records:  # Only now: what a crash leaves unanswered is read again.
        consumer.store_offsets(record)
consumer.close()
