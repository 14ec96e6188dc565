//! The shell: clock, clients, transactions, the turn loop. The only room that names the Kafka client.
