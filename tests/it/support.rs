//! The test environment: databases, the simulated Cloud, the service in this process or in one that
//! can be killed, and a channel that calls it.

pub(crate) mod app;
pub(crate) mod browser;
pub(crate) mod changes;
pub(crate) mod channel;
pub(crate) mod cloud;
pub(crate) mod configuration;
pub(crate) mod connection;
pub(crate) mod database;
pub(crate) mod demo;
pub(crate) mod disk;
pub(crate) mod events;
pub(crate) mod fake_clock;
pub(crate) mod haproxy;
pub(crate) mod nginx;
pub(crate) mod patience;
pub(crate) mod pictures;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod relay;
pub(crate) mod wire;

/// Runs each named test on PostgreSQL and on SQLite.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::database::Engine::Postgres).await;
            })+
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::support::database::Engine::Sqlite).await;
            })+
        }
    };
}
