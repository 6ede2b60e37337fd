//! PostgreSQL's own times of its statements, to see where the time of a measurement goes.
//!
//! The extension `pg_stat_statements` counts them. It costs time itself, so the figures of a run
//! with `BENCH_STATEMENTS=1` are not comparable with those of other runs.

use std::env;
use std::process::Command;

use crate::machine::output_of;
use crate::postgres::Server;

/// The settings that load the extension.
pub(crate) const SETTINGS: &str = concat!(
    "-c shared_buffers=1GB -c shared_preload_libraries=pg_stat_statements ",
    "-c pg_stat_statements.track=all -c pg_stat_statements.track_planning=on",
);

/// Forgets all counts.
const RESET: &str =
    "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()";

/// The twelve statements that took the most time: executions, rows, microseconds in all, of them
/// for planning, and the beginning of the text.
const TOP: &str =
    "SELECT calls, rows, (total_exec_time * 1000 + total_plan_time * 1000)::bigint AS micros,
        (total_plan_time * 1000)::bigint AS planning, wal_bytes,
        left(regexp_replace(query, '\\s+', ' ', 'g'), 150) AS statement
     FROM pg_stat_statements ORDER BY total_exec_time + total_plan_time DESC LIMIT 12";

/// True if the statements are to be measured.
pub(crate) fn are_wanted() -> bool {
    env::var_os("BENCH_STATEMENTS").is_some()
}

/// Begins to count the statements of a server.
pub(crate) fn reset(server: &Server) {
    query(server, RESET);
}

/// Prints the statements that took the most time since the last reset.
pub(crate) fn print(server: &Server) {
    println!("\n{}", query(server, TOP));
}

fn query(server: &Server, sql: &str) -> String {
    output_of(Command::new(server.program("psql")).args([&server.url(), "-c", sql]))
}
