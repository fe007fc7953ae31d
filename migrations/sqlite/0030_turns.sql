-- Whoever claims batches takes this row for the while, so that two do not give one customer and meter to two senders.
CREATE TABLE billing_turn (
    turn_number INTEGER NOT NULL PRIMARY KEY,
    turns       INTEGER NOT NULL
) STRICT;

INSERT INTO billing_turn (turn_number, turns) VALUES (1, 0);
