//! The database's own speed: one insert per commit, measured by pgbench.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::machine::output_of;
use crate::postgres::Server;

/// The size of a notification with the data that is stored for it.
const ROW: usize = 700;

/// Returns the commits in a second with this number of clients.
pub(crate) fn inserts(server: &Server, clients: u32, duration: Duration) -> f64 {
    let url = server.url();
    let psql = |sql: &str| output_of(Command::new(server.program("psql")).args([&url, "-c", sql]));
    psql(
        "CREATE TABLE bench (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body TEXT NOT NULL)",
    );
    let mut script = NamedTempFile::new().unwrap();
    let body = "x".repeat(ROW);
    writeln!(script, "INSERT INTO bench (body) VALUES ('{body}');").unwrap();
    let output = output_of(
        Command::new(server.program("pgbench"))
            .args([
                "-n",
                "-M",
                "prepared",
                "-j",
                "1",
                "-c",
                &clients.to_string(),
            ])
            .args(["-T", &duration.as_secs().to_string(), "-f"])
            .arg(script.path())
            .arg(&url),
    );
    psql("DROP TABLE bench");
    output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("pgbench printed: {output}"))
}
