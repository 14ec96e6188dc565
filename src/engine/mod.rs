//! The machines: pure state machines that take `(now, event)` and append effects.
