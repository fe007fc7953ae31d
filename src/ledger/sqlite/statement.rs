//! Statements over many rows of parameters: one turn to SQLite's thread and back, however many rows.

use super::fault::Fault;
use crate::ledger::record::Record;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, SqliteConnection};

/// The most parameters that SQLite takes; more rows are split over several statements.
const PARAMETERS_MAX: usize = 32_766;
/// Statements of this many parameters at most stay prepared. Longer ones are rare, large, and cost little per row to prepare again.
const KEPT_PARAMETERS_MAX: usize = 4_096;

/// The text of a statement over so many rows; made of constants and column names, never of values.
type Text = fn(usize) -> String;

/// What a statement finds for these rows; nothing for no rows.
pub(super) async fn fetch_each<R, T>(connection: &mut SqliteConnection, text: Text, rows: Vec<R>) -> Result<Vec<T>, Fault>
where
    R: Record + Send,
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + Send + Unpin,
{
    let mut found = Vec::new();
    for (count, arguments) in statements(rows)? {
        let statement = sqlx::query_as_with(AssertSqlSafe(text(count)), arguments).persistent(is_kept::<R>(count));
        found.extend(statement.fetch_all(&mut *connection).await?);
    }
    Ok(found)
}

/// Does a statement with these rows; nothing for no rows.
pub(super) async fn write_each<R: Record + Send>(connection: &mut SqliteConnection, text: Text, rows: Vec<R>) -> Result<(), Fault> {
    for (count, arguments) in statements(rows)? {
        let statement = sqlx::query_with(AssertSqlSafe(text(count)), arguments).persistent(is_kept::<R>(count));
        statement.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The rows, the last one repeated until their number is a power of two: a question that is asked twice has the same answer, and a
/// statement that is kept prepared for each power serves all numbers.
pub(super) fn padded<R: Clone>(rows: impl IntoIterator<Item = R>) -> Vec<R> {
    let mut rows: Vec<R> = rows.into_iter().collect();
    if let Some(last) = rows.last().cloned() {
        rows.resize(rows.len().next_power_of_two(), last);
    }
    rows
}

fn is_kept<R: Record>(rows: usize) -> bool {
    rows * R::COLUMNS.len() <= KEPT_PARAMETERS_MAX
}

/// The rows as parameters of as few statements as there can be, each with its number of rows.
fn statements<R: Record>(rows: Vec<R>) -> Result<Vec<(usize, SqliteArguments)>, Fault> {
    let rows_max = PARAMETERS_MAX / R::COLUMNS.len();
    let mut statements: Vec<(usize, SqliteArguments)> = Vec::new();
    for row in rows {
        if statements.last().is_none_or(|(count, _)| *count == rows_max) {
            statements.push((0, SqliteArguments::default()));
        }
        if let Some((count, arguments)) = statements.last_mut() {
            row.bind(arguments).map_err(sqlx::Error::Encode)?;
            *count += 1;
        }
    }
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::IdRecord;

    #[test]
    fn rows_are_split_where_sqlite_would_refuse_their_parameters() {
        for (rows, expected) in [
            (0, vec![]),
            (1, vec![1]),
            (PARAMETERS_MAX, vec![PARAMETERS_MAX]),
            (PARAMETERS_MAX + 1, vec![PARAMETERS_MAX, 1]),
        ] {
            let statements = statements((0..rows).map(IdRecord::of).collect()).expect("text is always a parameter");
            let counts: Vec<usize> = statements.iter().map(|(count, _)| *count).collect();
            assert_eq!(counts, expected, "{rows}");
        }
    }
}
