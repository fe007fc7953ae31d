//! Bounds of periods at the edges, worked out by hand.

use super::super::*;
use super::{at, period, setting};

/// Rows of kind, time zone, anchor day and a moment, then the bounds of the period that it lies in.
fn check(rows: &str) {
    let rows = rows.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#'));
    for row in rows {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let [kind, zone, anchor, moment, start, end] = columns[..] else {
            panic!("six columns: {row}")
        };
        let kind = PeriodKind::parse(kind).expect(kind);
        let setting = setting(zone, anchor.parse().expect(anchor));
        assert_eq!(setting.period(kind, at(moment)), period(start, end), "{row}");
        assert_eq!(Calendar::new(setting).period(kind, at(moment)), period(start, end), "{row}");
    }
}

#[test]
fn periods_begin_and_end_to_the_microsecond() {
    check(
        "
        minute  UTC                  1  2025-11-21T09:30:59.999999Z 2025-11-21T09:30:00Z  2025-11-21T09:31:00Z
        minute  UTC                  1  2025-11-21T09:31:00Z        2025-11-21T09:31:00Z  2025-11-21T09:32:00Z
        hour    UTC                  1  2025-12-31T23:59:59.999999Z 2025-12-31T23:00:00Z  2026-01-01T00:00:00Z
        # Hours are those of UTC, also where local hours begin at a quarter to.
        hour    Asia/Kathmandu       1  2025-01-01T00:20:00Z        2025-01-01T00:00:00Z  2025-01-01T01:00:00Z
        day     UTC                  1  2025-11-20T23:59:59.999999Z 2025-11-20T00:00:00Z  2025-11-21T00:00:00Z
        day     UTC                  1  2025-11-21T00:00:00Z        2025-11-21T00:00:00Z  2025-11-22T00:00:00Z
        day     UTC                  1  1969-12-31T23:59:59.999999Z 1969-12-31T00:00:00Z  1970-01-01T00:00:00Z
        day     Asia/Kathmandu       1  2025-01-01T18:14:59.999999Z 2024-12-31T18:15:00Z  2025-01-01T18:15:00Z
        # New Year's Day of 2026 is a Thursday, New Year's Eve of 2024 a Tuesday.
        week    UTC                  1  2026-01-01T00:00:00Z        2025-12-29T00:00:00Z  2026-01-05T00:00:00Z
        week    UTC                  1  2024-12-31T12:00:00Z        2024-12-30T00:00:00Z  2025-01-06T00:00:00Z
        week    UTC                  1  2026-01-04T23:59:59.999999Z 2025-12-29T00:00:00Z  2026-01-05T00:00:00Z
        week    UTC                  1  2026-01-05T00:00:00Z        2026-01-05T00:00:00Z  2026-01-12T00:00:00Z
        month   UTC                  1  2025-11-30T23:59:59.999999Z 2025-11-01T00:00:00Z  2025-12-01T00:00:00Z
        month   UTC                  1  2025-12-31T23:59:59.999999Z 2025-12-01T00:00:00Z  2026-01-01T00:00:00Z
        month   UTC                  1  2024-02-29T12:00:00Z        2024-02-01T00:00:00Z  2024-03-01T00:00:00Z
        month   UTC                  1  2000-02-29T23:59:59.999999Z 2000-02-01T00:00:00Z  2000-03-01T00:00:00Z
        month   UTC                  1  2100-02-28T23:59:59.999999Z 2100-02-01T00:00:00Z  2100-03-01T00:00:00Z
        month   UTC                  1  2100-03-01T00:00:00Z        2100-03-01T00:00:00Z  2100-04-01T00:00:00Z
        year    UTC                  1  2024-12-31T23:59:59.999999Z 2024-01-01T00:00:00Z  2025-01-01T00:00:00Z
        year    UTC                  1  2025-01-01T00:00:00Z        2025-01-01T00:00:00Z  2026-01-01T00:00:00Z
        year    Pacific/Kiritimati   1  2025-12-31T10:00:00Z        2025-12-31T10:00:00Z  2026-12-31T10:00:00Z",
    );
}

#[test]
fn a_billing_period_begins_on_its_anchor_or_on_the_last_day_of_a_shorter_month() {
    check(
        "
        billing UTC                  1  2025-11-21T09:30:00Z        2025-11-01T00:00:00Z  2025-12-01T00:00:00Z
        billing UTC                 15  2026-01-14T23:59:59.999999Z 2025-12-15T00:00:00Z  2026-01-15T00:00:00Z
        billing UTC                 15  2026-01-15T00:00:00Z        2026-01-15T00:00:00Z  2026-02-15T00:00:00Z
        billing UTC                 28  2025-02-28T00:00:00Z        2025-02-28T00:00:00Z  2025-03-28T00:00:00Z
        billing UTC                 29  2024-02-29T00:00:00Z        2024-02-29T00:00:00Z  2024-03-29T00:00:00Z
        billing UTC                 29  2025-02-28T00:00:00Z        2025-02-28T00:00:00Z  2025-03-29T00:00:00Z
        billing UTC                 29  2025-03-28T23:59:59.999999Z 2025-02-28T00:00:00Z  2025-03-29T00:00:00Z
        billing UTC                 30  2024-02-28T23:59:59.999999Z 2024-01-30T00:00:00Z  2024-02-29T00:00:00Z
        billing UTC                 30  2025-03-01T00:00:00Z        2025-02-28T00:00:00Z  2025-03-30T00:00:00Z
        billing UTC                 31  2024-02-28T23:59:59.999999Z 2024-01-31T00:00:00Z  2024-02-29T00:00:00Z
        billing UTC                 31  2024-02-29T00:00:00Z        2024-02-29T00:00:00Z  2024-03-31T00:00:00Z
        billing UTC                 31  2025-02-28T00:00:00Z        2025-02-28T00:00:00Z  2025-03-31T00:00:00Z
        billing UTC                 31  2025-04-29T23:59:59.999999Z 2025-03-31T00:00:00Z  2025-04-30T00:00:00Z
        billing UTC                 31  2025-04-30T00:00:00Z        2025-04-30T00:00:00Z  2025-05-31T00:00:00Z
        billing UTC                 31  2026-01-15T00:00:00Z        2025-12-31T00:00:00Z  2026-01-31T00:00:00Z
        billing UTC                 31  2100-02-28T00:00:00Z        2100-02-28T00:00:00Z  2100-03-31T00:00:00Z
        # In Berlin 30 March 2025, when clocks go forward, is not yet the 31st.
        billing Europe/Berlin       31  2025-03-30T21:59:59.999999Z 2025-02-27T23:00:00Z  2025-03-30T22:00:00Z
        billing Europe/Berlin       31  2025-03-30T22:00:00Z        2025-03-30T22:00:00Z  2025-04-29T22:00:00Z",
    );
}

#[test]
fn days_are_as_long_as_local_clocks_make_them() {
    check(
        "
        # 23 and 25 hours, and what contains them.
        day     Europe/Berlin        1  2025-03-30T01:00:00Z        2025-03-29T23:00:00Z  2025-03-30T22:00:00Z
        day     Europe/Berlin        1  2025-10-26T01:00:00Z        2025-10-25T22:00:00Z  2025-10-26T23:00:00Z
        week    Europe/Berlin        1  2025-03-30T21:59:59.999999Z 2025-03-23T23:00:00Z  2025-03-30T22:00:00Z
        month   Europe/Berlin        1  2025-03-30T01:00:00Z        2025-02-28T23:00:00Z  2025-03-31T22:00:00Z
        year    Europe/Berlin        1  2024-12-31T22:59:59.999999Z 2023-12-31T23:00:00Z  2024-12-31T23:00:00Z
        year    Europe/Berlin        1  2024-12-31T23:00:00Z        2024-12-31T23:00:00Z  2025-12-31T23:00:00Z
        day     America/New_York     1  2025-03-09T07:00:00Z        2025-03-09T05:00:00Z  2025-03-10T04:00:00Z
        day     America/New_York     1  2025-11-02T06:00:00Z        2025-11-02T04:00:00Z  2025-11-03T05:00:00Z
        # Half an hour.
        day     Australia/Lord_Howe  1  2025-10-05T00:00:00Z        2025-10-04T13:30:00Z  2025-10-05T13:00:00Z
        day     Australia/Lord_Howe  1  2025-04-06T00:00:00Z        2025-04-05T13:00:00Z  2025-04-06T13:30:00Z
        # Back at 24:00: 23:00 comes again before the next day does.
        day     America/Sao_Paulo    1  2018-02-18T02:59:59.999999Z 2018-02-17T02:00:00Z  2018-02-18T03:00:00Z
        day     Africa/Cairo         1  2023-10-26T21:30:00Z        2023-10-25T21:00:00Z  2023-10-26T22:00:00Z
        day     Asia/Beirut          1  2024-10-26T21:30:00Z        2024-10-25T21:00:00Z  2024-10-26T22:00:00Z
        # By the rule of a year that no table lists.
        day     Europe/Berlin        1  2099-03-29T12:00:00Z        2099-03-28T23:00:00Z  2099-03-29T22:00:00Z",
    );
}

#[test]
fn a_midnight_that_clocks_jump_over_begins_the_day_right_after_the_jump() {
    check(
        "
        day     America/Sao_Paulo    1  2018-11-04T02:59:59.999999Z 2018-11-03T03:00:00Z  2018-11-04T03:00:00Z
        day     America/Sao_Paulo    1  2018-11-04T03:00:00Z        2018-11-04T03:00:00Z  2018-11-05T02:00:00Z
        billing America/Sao_Paulo    4  2018-11-04T03:00:00Z        2018-11-04T03:00:00Z  2018-12-04T02:00:00Z
        day     Africa/Cairo         1  2023-04-28T00:00:00Z        2023-04-27T22:00:00Z  2023-04-28T21:00:00Z
        day     Asia/Beirut          1  2024-03-31T00:00:00Z        2024-03-30T22:00:00Z  2024-03-31T21:00:00Z
        day     Asia/Tehran          1  2022-03-21T20:30:00Z        2022-03-21T20:30:00Z  2022-03-22T19:30:00Z
        day     America/Havana       1  2024-03-10T05:00:00Z        2024-03-10T05:00:00Z  2024-03-11T04:00:00Z
        # From 23:30 to 00:30: the day begins with its 00:30, not an hour after its missing midnight.
        day     America/Toronto      1  1919-03-31T04:30:00Z        1919-03-31T04:30:00Z  1919-04-01T04:00:00Z
        day     America/Toronto      1  1919-03-31T04:29:59.999999Z 1919-03-30T05:00:00Z  1919-03-31T04:30:00Z
        # Samoa left out 30 December 2011, a Friday.
        day     Pacific/Apia         1  2011-12-30T09:59:59.999999Z 2011-12-29T10:00:00Z  2011-12-30T10:00:00Z
        day     Pacific/Apia         1  2011-12-30T10:00:00Z        2011-12-30T10:00:00Z  2011-12-31T10:00:00Z
        week    Pacific/Apia         1  2011-12-30T10:00:00Z        2011-12-26T10:00:00Z  2012-01-01T10:00:00Z
        billing Pacific/Apia        30  2011-12-30T09:59:59.999999Z 2011-11-30T10:00:00Z  2011-12-30T10:00:00Z
        billing Pacific/Apia        30  2011-12-30T10:00:00Z        2011-12-30T10:00:00Z  2012-01-29T10:00:00Z
        # Kwajalein left out 21 August 1993.
        day     Pacific/Kwajalein    1  1993-08-21T12:00:00Z        1993-08-21T12:00:00Z  1993-08-22T12:00:00Z",
    );
}

#[test]
fn a_midnight_that_clocks_show_twice_begins_the_day_the_first_time() {
    check(
        "
        day     America/Havana       1  2024-11-03T05:30:00Z        2024-11-03T04:00:00Z  2024-11-04T05:00:00Z
        day     Atlantic/Azores      1  2025-10-26T00:30:00Z        2025-10-26T00:00:00Z  2025-10-27T01:00:00Z
        billing Atlantic/Azores     26  2025-10-26T01:00:00Z        2025-10-26T00:00:00Z  2025-11-26T01:00:00Z
        # One minute into 1 November 2009 Newfoundland went back to 23:01 of October, which had ended already.
        day     America/St_Johns     1  2009-11-01T02:29:59.999999Z 2009-10-31T02:30:00Z  2009-11-01T02:30:00Z
        day     America/St_Johns     1  2009-11-01T03:00:00Z        2009-11-01T02:30:00Z  2009-11-02T03:30:00Z
        month   America/St_Johns     1  2009-11-01T03:00:00Z        2009-11-01T02:30:00Z  2009-12-01T03:30:00Z
        billing America/St_Johns     1  2009-11-01T03:29:59.999999Z 2009-11-01T02:30:00Z  2009-12-01T03:30:00Z",
    );
}
