-- Whoever claims batches takes this row for the while, so that two do not give one customer and meter to two senders.
CREATE TABLE billing_turn (
    turn_number BIGINT NOT NULL PRIMARY KEY,
    turns       BIGINT NOT NULL
);

INSERT INTO billing_turn (turn_number, turns) VALUES (1, 0);
