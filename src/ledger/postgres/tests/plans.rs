//! That no statement walks a whole table, and that the definition of a sum is the same one everywhere.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::standing::End;
use crate::ledger::contract::book::{But, all, checkpoint, end, month, of_one, settle};
use crate::ledger::postgres::call::{Teller, Write, post_batch};
use crate::ledger::sql::{self as shared, spent, sum_of};

#[tokio::test]
async fn no_statement_of_a_list_or_a_lookup_walks_a_whole_table() {
    let (_book, _, url) = plain(server!()).await;
    let mut stranger = stranger(&url).await;
    // Tables this small would be walked. What is asked here is whether there is another way.
    execute(&mut stranger, "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        .await
        .expect("a setting");
    let statements = [
        (sql::STANDINGS.to_owned(), "TEXT[]"),
        (sql::CHECKPOINTS_DUE.to_owned(), "BIGINT, BIGINT"),
        (sql::entries(), "TEXT[], BIGINT[]"),
        (sql::SUMS_AT.to_owned(), "TEXT[], TEXT[], TEXT[], BIGINT[]"),
        (shared::entries(&all("ws_a")), "TEXT, BIGINT, BIGINT, TEXT, BIGINT"),
        (
            shared::entries(&of_one("usr_1", "chat", "m1")),
            "TEXT, BIGINT, BIGINT, TEXT, BIGINT, TEXT, TEXT, TEXT",
        ),
        (shared::RECORDED.to_owned(), "BIGINT, TEXT, BIGINT"),
        (shared::SUMS.to_owned(), "TEXT, TEXT, BIGINT"),
        (
            shared::SUMS_BESIDE_ENTRIES.to_owned(),
            "TEXT, TEXT, TEXT, BIGINT, TEXT, BIGINT, TEXT, BIGINT",
        ),
        (shared::WORKSPACE.to_owned(), "TEXT"),
        (shared::WORKSPACES_CHANGED.to_owned(), "BIGINT, BIGINT"),
        (shared::WORKSPACE_ON_PLAN.to_owned(), "TEXT"),
        (shared::POLICY_VERSION.to_owned(), ""),
        (shared::EXTEND_CHECKPOINT.to_owned(), "TEXT, BIGINT"),
    ];
    for (place, (statement, types)) in statements.iter().enumerate() {
        let parameters = types
            .split(", ")
            .filter(|kind| !kind.is_empty())
            .map(|_| "NULL")
            .collect::<Vec<_>>()
            .join(", ");
        let (types, parameters) = match types.is_empty() {
            true => (String::new(), String::new()),
            false => (format!("({types})"), format!("({parameters})")),
        };
        execute(&mut stranger, &format!("PREPARE asked_{place} {types} AS {statement}"))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN EXECUTE asked_{place} {parameters}")))
            .fetch_all(&mut stranger)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
        let is_list = statement.contains("FROM entry WHERE workspace_id");
        assert!(
            !is_list || !plan.contains("Sort  "),
            "a list is read in its order\n{statement}\n{plan}"
        );
        // By the key alone a group's rows of all times would be passed over.
        assert!(*statement != shared::SUMS || plan.contains("counter_sum_by_end"), "{plan}");
    }
}

#[tokio::test]
async fn a_batch_walks_no_table() {
    let (book, _, url) = plain(server!()).await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    book.done(checkpoint("open")).await;
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, "BEGIN").await.expect("a transaction");
    let posts = [
        settle("a")
            .naming([month(Unit::Tokens), month(Unit::Usd).of_user("usr_1").of_feature("chat")])
            .post(),
        settle("open").on(1).post(),
        checkpoint("c").post(),
        end("before", End::Released).post(),
    ];
    let writes: Vec<Write<'_>> = posts.iter().map(Write::Post).collect();
    post_batch(&mut stranger, &writes, Teller::Nobody).await.expect("written");
    let walked: Vec<(String, i64)> =
        sqlx::query_as("SELECT relname::TEXT, seq_scan FROM pg_stat_xact_user_tables WHERE schemaname = current_schema() AND seq_scan > 0")
            .fetch_all(&mut stranger)
            .await
            .expect("the database");
    assert_eq!(walked, []);
    let looked_up: i64 = sqlx::query_scalar(
        "SELECT SUM(idx_scan)::BIGINT FROM pg_stat_xact_user_tables WHERE schemaname = current_schema() AND relname = 'counter_sum'",
    )
    .fetch_one(&mut stranger)
    .await
    .expect("the database");
    assert!(looked_up > 0, "what was not walked was looked up");
}

#[tokio::test]
async fn a_row_is_born_with_what_verify_expects() {
    let (_book, _, url) = plain(server!()).await;
    let in_force: String = sqlx::query_scalar(
        "SELECT prosrc FROM pg_proc WHERE proname = 'post_batch_watched' AND pronamespace = current_schema()::regnamespace",
    )
    .fetch_one(&mut stranger(&url).await)
    .await
    .expect("the function");
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let definition = spent!();
    assert!(bare(&in_force).contains(&bare(definition)), "{definition}");
}
