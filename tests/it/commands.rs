//! The output and the exit codes of the commands other than `serve` and `demo`.

use std::process::Stdio;

use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply};
use liveperson_bridge::store::Location;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::app::TestApp;
use crate::support::channel::Channel;
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, sign};
use crate::support::configuration::{SEALING_KEY, SMS_KEY, bridge_toml};
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::postgres::Server;
use crate::support::process::{Ended, Process, command, configured, run, run_configured};
use crate::support::receiver::Receiver;

on_both_engines!(
    an_empty_database_is_migrated_once_and_served,
    the_doctor_reports_a_sound_installation,
    the_doctor_names_failing_checks_and_runs_the_others,
    the_doctor_reports_an_unknown_account_in_one_line,
    the_doctor_warns_about_callback_answers_that_events_may_get_too,
    the_doctor_checks_that_the_keys_open_stored_tokens,
    the_doctor_reports_refused_notifications,
    the_doctor_reports_clock_offset_and_refusals_in_one_line_each,
    the_doctor_uses_the_proxy_of_the_environment,
    the_doctor_checks_file_sharing_as_a_consumer,
    the_doctor_reports_refused_file_sharing,
);

async fn an_empty_database_is_migrated_once_and_served(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);

    for _ in 0..2 {
        let ended = run_configured("migrate", &toml).await;

        assert_eq!(ended.code, 0, "{}", ended.errors);
        assert_eq!(ended.output, "The schema is up to date.\n");
        assert!(!ended.errors.contains("sqlx"), "{}", ended.errors);
    }
    let (_process, sms, _) = Process::serve(&toml).await;
    sms.say("ada", "hello").await.expect(201);
}

async fn the_doctor_reports_a_sound_installation(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let callback = Receiver::start().await.url;

    let ended = run_configured("doctor", &with_callback(&toml, &callback)).await;

    assert_eq!(ended.code, 0, "{}{}", ended.output, ended.errors);
    let answers = match engine {
        Engine::Postgres => "PostgreSQL ",
        Engine::Sqlite => "the embedded database answers",
    };
    let lines: Vec<_> = ended.output.lines().collect();
    assert!(
        lines.iter().all(|line| line.starts_with("ok     ")),
        "{lines:#?}"
    );
    let database = format!("ok     database: {answers}");
    assert!(
        lines.iter().any(|line| line.starts_with(&database)),
        "{lines:#?}"
    );
    for expected in [
        "configuration: 1 account(s), 4 channel(s)",
        &format!("account {ACCOUNT}: AppJWT: issued"),
        &format!("account {ACCOUNT}: ConsumerJWS: issued"),
        "encryption keys: not checked until the schema is up to date",
        "database: writing: allowed",
        "channel sms: callback URL: answers HEAD with 200",
    ] {
        assert!(
            lines.contains(&&*format!("ok     {expected}")),
            "{expected} in {lines:#?}"
        );
    }
    for service in ["asyncMessagingEnt", "sentinel", "idp"] {
        let name = format!("ok     account {ACCOUNT}: domain of {service}: ");
        assert!(
            lines.iter().any(|line| line.starts_with(&name)),
            "{name} in {lines:#?}"
        );
    }
    // A check opens no conversation and sends no message.
    assert!(cloud.sandbox.conversations().is_empty());
}

async fn the_doctor_names_failing_checks_and_runs_the_others(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let without_database = match engine {
        Engine::Postgres => {
            "database: writing, database: schema, notifications, encryption keys, machine's clock, clock, since database failed"
        }
        Engine::Sqlite => {
            "database: writing, database: schema, notifications, encryption keys, since database failed"
        }
    };
    let cases = [
        (
            toml.replace(&cloud.url, "http://127.0.0.1:1"),
            "domain of asyncMessagingEnt",
            Some(
                "domain of the other services, clock, AppJWT, ConsumerJWS, since domain of asyncMessagingEnt failed",
            ),
            "database",
        ),
        (
            toml.replace(CLIENT_SECRET, "another-secret"),
            "AppJWT",
            Some("ConsumerJWS, since AppJWT failed"),
            "domain of sentinel",
        ),
        (
            with_callback(
                &toml,
                "http://name:pa55word@127.0.0.1:1/events?key=t0ken-in-url",
            ),
            "channel sms: callback URL",
            None,
            "ConsumerJWS",
        ),
        // Nothing speaks TLS at this address.
        (
            with_callback(&toml, &cloud.url.replace("http:", "https:")),
            "channel sms: callback URL",
            None,
            "ConsumerJWS",
        ),
        // A private address that is not allowed.
        (
            with_callback(&toml, &cloud.url).replace("127.0.0.0/8", "10.0.0.0/8"),
            "channel sms: callback URL",
            None,
            "ConsumerJWS",
        ),
        (
            database_away(&toml, &database, engine),
            "database",
            Some(without_database),
            "ConsumerJWS",
        ),
    ];

    for (toml, failing, unchecked, sound) in cases {
        let ended = run_configured("doctor", &toml).await;

        assert_eq!(ended.code, 1, "{}", ended.errors);
        assert_only_failure(&ended, failing, unchecked);
        assert!(has_line(&ended, "ok", sound), "{sound}: {}", ended.output);
        for secret in [
            SMS_KEY,
            CLIENT_SECRET,
            "another-secret",
            "pa55word",
            "t0ken-in-url",
            "AwMDAwMDAwMD",
            SEALING_KEY,
        ] {
            let all = format!("{}{}", ended.output, ended.errors);
            assert!(!all.contains(secret), "{secret} in {all}");
        }
    }
}

async fn the_doctor_reports_an_unknown_account_in_one_line(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    cloud.sandbox.inject(Fault {
        times: 99,
        ..Fault::status(Operation::DomainLookup, StatusCode::NOT_FOUND)
    });

    let ended = run_configured("doctor", &bridge_toml(&database.location, &cloud.url)).await;

    assert_eq!(ended.code, 1, "{}", ended.output);
    assert_only_failure(
        &ended,
        "domain of asyncMessagingEnt, sentinel, idp, smt, swift",
        Some("AppJWT, ConsumerJWS, since domain of sentinel failed"),
    );
    let hint = "; the domain API does not know the account or the service; check account_id";
    assert!(ended.output.contains(hint), "{}", ended.output);
    let clock = format!("ok     account {ACCOUNT}: clock: within ");
    assert!(ended.output.contains(&clock), "{}", ended.output);
}

async fn the_doctor_warns_about_callback_answers_that_events_may_get_too(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let receiver = Receiver::start().await;
    let toml = with_callback(&bridge_toml(&database.location, &cloud.url), &receiver.url);
    let name = "channel sms: callback URL: answers HEAD with";
    for (status, line) in [
        (204, format!("ok     {name} 204\n")),
        (405, format!("ok     {name} 405\n")),
        (
            302,
            format!("warn   {name} 302; callbacks follow no redirects"),
        ),
        (
            401,
            format!("warn   {name} 401; this is fine if the server only misses the signature"),
        ),
        (404, format!("warn   {name} 404; check the path of the URL")),
        (503, format!("warn   {name} 503; the server, or a proxy")),
    ] {
        receiver.answer_status(status);

        let ended = run_configured("doctor", &toml).await;

        assert_eq!(ended.code, 0, "{}", ended.output);
        assert!(ended.output.contains(&line), "{line} in {}", ended.output);
    }
}

async fn the_doctor_checks_that_the_keys_open_stored_tokens(engine: Engine) {
    let cloud = Cloud::start().await;
    let app = TestApp::start_with(cloud, Database::create(engine).await).await;
    app.sms.say("ada", "hello").await.expect(201);
    let (cloud, database, _) = app.stop().await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let other = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    let rotated = toml.replace(SEALING_KEY, &format!("{other}\", \"{SEALING_KEY}"));

    let sound = run_configured("doctor", &toml).await;
    let older = run_configured("doctor", &rotated).await;
    let lost = run_configured("doctor", &toml.replace(SEALING_KEY, other)).await;

    for ended in [sound, older] {
        assert_eq!(ended.code, 0, "{}", ended.output);
        let line = "ok     encryption keys: 1 stored token(s) can be decrypted\n";
        assert!(ended.output.contains(line), "{}", ended.output);
        let line = "ok     database: schema: up to date\n";
        assert!(ended.output.contains(line), "{}", ended.output);
    }
    assert_eq!(lost.code, 1);
    let line = "FAILED encryption keys: 1 of 1 stored token(s) cannot be decrypted; put the key";
    assert!(lost.output.contains(line), "{}", lost.output);
    for key in [SEALING_KEY, other] {
        assert!(!format!("{}{}", lost.output, lost.errors).contains(key));
    }
}

async fn the_doctor_reports_refused_notifications(engine: Engine) {
    let cloud = Cloud::start().await;
    let app = TestApp::start_with(cloud, Database::create(engine).await).await;
    for (account, signature) in [
        (ACCOUNT, sign(b"{}", "another secret")),
        (ACCOUNT, sign(b"{}", CLIENT_SECRET)),
        ("87654321", String::new()),
    ] {
        let path = format!("/webhooks/{account}");
        let request = app.sms.request(reqwest::Method::POST, &path).body("{}");
        let request = request
            .header("x-liveperson-account-id", account)
            .header("x-liveperson-client-id", CLIENT_ID)
            .header("x-liveperson-signature", signature);
        let answered = request.send().await.unwrap();
        assert!([200, 401].contains(&answered.status().as_u16()));
    }
    // At shutdown the service stores the counts that it has not stored yet.
    let (cloud, database, _) = app.stop().await;
    let toml = bridge_toml(&database.location, &cloud.url);

    let ended = run_configured("doctor", &toml).await;

    assert_eq!(ended.code, 1, "{}", ended.output);
    let refused = format!("FAILED account {ACCOUNT}: notifications: 1 refused, the latest ");
    assert!(ended.output.contains(&refused), "{}", ended.output);
    assert!(
        ended.output.contains("; compare client_secret with"),
        "{}",
        ended.output
    );
    let unused =
        format!("note   account {ACCOUNT}: notifications: 1 signed but not used, the latest ");
    assert!(ended.output.contains(&unused), "{}", ended.output);
    let foreign = "note   notifications: 1 refused, the latest ";
    assert!(ended.output.contains(foreign), "{}", ended.output);
    assert!(!ended.output.contains("87654321"), "{}", ended.output);
}

async fn the_doctor_reports_clock_offset_and_refusals_in_one_line_each(engine: Engine) {
    let answer = (
        StatusCode::FORBIDDEN,
        [("date", "Sun, 06 Nov 1994 08:49:37 GMT")],
        "{\"code\": \"no\\nok     forged: forged\"}",
    );
    let router = axum::Router::new().fallback(move || async move { answer });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let database = Database::create(engine).await;

    let ended = run_configured("doctor", &bridge_toml(&database.location, &url)).await;

    assert_eq!(ended.code, 1);
    assert!(has_line(&ended, "FAILED", "clock"), "{}", ended.output);
    let whose = match engine {
        Engine::Postgres => "clock of the database's machine",
        Engine::Sqlite => "machine's clock",
    };
    let hint = format!(" s ahead of the Cloud's; synchronize the {whose} with NTP");
    assert!(ended.output.contains(&hint), "{}", ended.output);
    let refused =
        "domain of asyncMessagingEnt: a gateway answered in place of the Cloud (status 403)";
    assert!(ended.output.contains(refused), "{}", ended.output);
    let unchecked = "domain of the other services, AppJWT, ConsumerJWS, since domain of asyncMessagingEnt failed\n";
    assert!(ended.output.contains(unchecked), "{}", ended.output);
    assert!(has_line(&ended, "ok", "database"));
    assert!(
        !ended
            .output
            .lines()
            .any(|line| line.contains("forged") && line.starts_with("ok"))
    );
}

async fn the_doctor_uses_the_proxy_of_the_environment(engine: Engine) {
    let (sender, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let proxy = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let sender = sender.clone();
        async move {
            sender.send(request).unwrap();
            StatusCode::BAD_GATEWAY
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn(async move { axum::serve(listener, proxy).await.unwrap() });
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, "http://cloud.example");
    let (_folder, mut command) = configured("doctor", &toml);
    command
        .env("HTTP_PROXY", format!("http://name:pa55word@{address}"))
        .env("NO_PROXY", "elsewhere.example");

    let ended = run(command).await;

    assert!(has_line(&ended, "FAILED", "domain of asyncMessagingEnt"));
    let request = requests.recv().await.unwrap();
    assert_eq!(request.uri().host(), Some("cloud.example"));
    let authorization = &request.headers()["proxy-authorization"];
    assert_eq!(authorization, "Basic bmFtZTpwYTU1d29yZA==");
    assert!(!format!("{}{}", ended.output, ended.errors).contains("pa55word"));
}

/// Runs `doctor --consumer`, which also checks as a consumer.
async fn doctor_as_consumer(toml: &str) -> Ended {
    let (_folder, mut command) = configured("doctor", toml);
    command.arg("--consumer");
    run(command).await
}

/// Opens a conversation for the consumer that the doctor uses.
async fn open_for_the_doctor(cloud: &Cloud, database: &Database, toml: &str) {
    let app = TestApp::start_configured(cloud.clone(), database.clone(), |_| {
        toml.replacen(
            "id = \"sms\"",
            "id = \"sms\"\nnamespace = \"liveperson-bridge\"",
            1,
        )
    })
    .await;
    app.sms.say("doctor", "hello").await.expect(201);
    // The embedded database has one owner at a time.
    app.stop().await;
    cloud.sandbox.clear_requests();
}

async fn the_doctor_checks_file_sharing_as_a_consumer(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let line = format!("ok     account {ACCOUNT}: file sharing: ");

    let without_consumer = run_configured("doctor", &toml).await;
    let without_conversation = doctor_as_consumer(&toml).await;
    open_for_the_doctor(&cloud, &database, &toml).await;
    let with_conversation = doctor_as_consumer(&toml).await;

    assert!(
        !without_consumer.output.contains("file sharing"),
        "{}",
        without_consumer.output
    );
    assert_eq!(without_conversation.code, 0);
    assert_eq!(with_conversation.code, 0, "{}", with_conversation.output);
    let without = format!("{line}not refused, but the Cloud decides only in an open conversation");
    assert!(
        without_conversation.output.contains(&without),
        "{}",
        without_conversation.output
    );
    let gives = format!("{line}the Cloud returns an upload URL\n");
    assert!(
        with_conversation.output.contains(&gives),
        "{}",
        with_conversation.output
    );
    // The check uploads nothing and sends no message.
    assert!(cloud.requests(Operation::Upload).is_empty());
    assert!(cloud.requests(Operation::Conversation).is_empty());
    assert_eq!(cloud.only_conversation().dialogs[0].events.len(), 1);
}

async fn the_doctor_reports_refused_file_sharing(engine: Engine) {
    let cloud = Cloud::start().await;
    let database = Database::create(engine).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    let mut refusal = Reply::new(StatusCode::FORBIDDEN);
    refusal.body = json!({"code": "FORBIDDEN", "body": {"msg": "not enabled"}}).to_string();
    let refusal = Fault::new(Operation::Send, Answer::Reply(refusal));
    let away = Fault {
        // At least the number of attempts of a repeatable request.
        times: 9,
        ..Fault::status(Operation::Send, StatusCode::SERVICE_UNAVAILABLE)
    };

    cloud.sandbox.inject(refusal);
    let refused = doctor_as_consumer(&toml).await;
    cloud.sandbox.inject(away);
    let unavailable = doctor_as_consumer(&toml).await;
    let tokenless = doctor_as_consumer(&toml.replace(CLIENT_SECRET, "another-secret")).await;

    assert_eq!(refused.code, 1, "{}", refused.output);
    let line = format!(
        "FAILED account {ACCOUNT}: file sharing: file sharing is refused; ask LivePerson to set the site property \
         messaging.file.sharing.enabled to true: "
    );
    assert!(refused.output.contains(&line), "{}", refused.output);
    assert!(refused.output.contains("not enabled"), "{}", refused.output);
    assert!(has_line(&refused, "ok", "ConsumerJWS"));
    // An unavailable Cloud does not count as a refusal.
    assert_eq!(unavailable.code, 1);
    assert!(has_line(&unavailable, "FAILED", "file sharing"));
    assert!(!unavailable.output.contains("site property"));
    // Without a token, the check as a consumer is skipped.
    assert_eq!(tokenless.code, 1);
    let unchecked = "ConsumerJWS, file sharing, since AppJWT failed";
    assert_only_failure(&tokenless, "AppJWT", Some(unchecked));
}

/// Asserts that only this check failed, and that one line names those that were skipped.
#[track_caller]
fn assert_only_failure(ended: &Ended, name: &str, unchecked: Option<&str>) {
    let lines = |part: &str| {
        let lines = ended.output.lines().filter(|line| line.contains(part));
        lines.collect::<Vec<_>>()
    };
    let failed = lines("FAILED ");
    assert_eq!(failed.len(), 1, "{}", ended.output);
    assert!(failed[0].contains(&format!("{name}: ")), "{}", failed[0]);
    let skipped = lines("not checked: ");
    assert_eq!(
        skipped.len(),
        usize::from(unchecked.is_some()),
        "{skipped:?}"
    );
    for (line, unchecked) in skipped.iter().zip(unchecked) {
        assert!(line.starts_with("note   "), "{line}");
        assert!(
            line.ends_with(&format!("not checked: {unchecked}")),
            "{line}"
        );
    }
}

fn has_line(ended: &Ended, verdict: &str, name: &str) -> bool {
    let mut lines = ended.output.lines();
    lines.any(|line| line.starts_with(verdict) && line.contains(&format!("{name}: ")))
}

fn with_callback(toml: &str, url: &str) -> String {
    let key = format!("api_keys = [\"{SMS_KEY}\"]\n");
    let secret = "whsec_AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD";
    let callback = format!("{key}callback_url = \"{url}\"\ncallback_secret = \"{secret}\"\n");
    let toml = toml.replace(&key, &callback);
    format!("allow_private_callbacks = [\"127.0.0.0/8\"]\n{toml}")
}

/// Returns the configuration with a database that cannot be used.
fn database_away(toml: &str, database: &Database, engine: Engine) -> String {
    let Database { location, .. } = database;
    let away = match engine {
        Engine::Postgres => Location::Postgres {
            url: "postgres://bridge:pa55word@127.0.0.1:1/bridge"
                .to_owned()
                .into(),
            schema: None,
            max_connections: 8,
        },
        // A file is at the path of the data directory.
        Engine::Sqlite => Location::Embedded {
            data_dir: env!("CARGO_BIN_EXE_liveperson-bridge").into(),
        },
    };
    let section = |location: &Location| {
        let toml = bridge_toml(location, "");
        let section = toml.split("[database]").nth(1).unwrap();
        section.split("[encryption]").next().unwrap().to_owned()
    };
    toml.replace(&section(location), &section(&away))
}

#[tokio::test]
async fn a_wrong_number_of_threads_is_bad_usage() {
    for number in ["0", "two", "1025", ""] {
        let mut openapi = command(&["openapi"]);
        openapi.env("TOKIO_WORKER_THREADS", number);

        let ended = run(openapi).await;

        assert_eq!(ended.code, 2, "{number}");
        let expected = "TOKIO_WORKER_THREADS: expected a whole number from 1 to 1024";
        assert!(ended.errors.contains(expected), "{}", ended.errors);
    }
}

#[tokio::test]
async fn the_doctor_stops_at_a_configuration_error() {
    let ended = run_configured("doctor", "listen = 1").await;

    assert_eq!(ended.code, 2);
    assert_eq!(ended.errors, "");
    let lines: Vec<_> = ended.output.lines().collect();
    for (line, beginning) in lines.iter().zip([
        "FAILED configuration: bridge.toml: listen: expected ",
        "FAILED configuration: bridge.toml or BRIDGE_ENCRYPTION__KEYS: encryption.keys: ",
        "FAILED configuration: bridge.toml or BRIDGE_ACCOUNTS: accounts: ",
        "FAILED configuration: bridge.toml or BRIDGE_CHANNELS: channels: ",
        "note   not checked: all other checks, since the configuration failed; ",
    ]) {
        assert!(line.starts_with(beginning), "{beginning} in {lines:#?}");
    }
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[tokio::test]
async fn a_password_that_is_not_percent_encoded_is_reported_without_a_connection() {
    let location = Location::Postgres {
        url: "postgres://bridge:p@s5cret/w0rd#x@127.0.0.1:1/bridge"
            .to_owned()
            .into(),
        schema: None,
        max_connections: 8,
    };

    let ended = run_configured("doctor", &bridge_toml(&location, "http://127.0.0.1:1")).await;

    assert_eq!(ended.code, 2, "{}", ended.output);
    let line = "FAILED configuration: bridge.toml: database.url: expected a postgres:// or postgresql:// URL, with the password percent-encoded: @ as %40, ";
    assert!(ended.output.starts_with(line), "{}", ended.output);
    for part in ["s5cret", "w0rd"] {
        assert!(!format!("{}{}", ended.output, ended.errors).contains(part));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_to_postgresql_is_explained_once() {
    let cloud = Cloud::start().await;
    let server = Server::start();
    let url = |user: &str, database: &str| {
        format!("postgres://{user}@127.0.0.1:{}/{database}", server.port())
    };
    let toml = |url: &str| {
        let location = Location::Postgres {
            url: url.to_owned().into(),
            schema: None,
            max_connections: 8,
        };
        bridge_toml(&location, &cloud.url)
    };
    restrict_connections(&server).await;

    for (url, explanation) in [
        (
            url("locked:wr0ng", "postgres"),
            "password authentication failed for user \"locked\"; check the user and the password in database.url",
        ),
        (
            url("missing", "postgres"),
            "role \"missing\" does not exist; create this role with LOGIN",
        ),
        (
            url("nologin", "postgres"),
            "role \"nologin\" is not permitted to log in; create this role with LOGIN",
        ),
        (
            url("postgres", "none"),
            "database \"none\" does not exist; create this database",
        ),
        (
            url("crowded", "postgres"),
            "too many connections for role \"crowded\"; lower database.max_connections",
        ),
        (
            url("tls_only", "postgres?sslmode=disable"),
            "no pg_hba.conf entry for host \"127.0.0.1\", user \"tls_only\", database \"postgres\", no encryption; \
             allow the connection in the server's pg_hba.conf; if the server requires TLS, set sslmode=require",
        ),
        (
            url("postgres", "postgres?sslmode=require"),
            "no TLS connection could be made: server does not support TLS; check that the server offers TLS",
        ),
        (
            url("postgres", "postgres?sslmode=sometimes"),
            "database.url cannot be used; check its parameters, such as sslmode",
        ),
        // No server has this name, and none listens on this port.
        (
            "postgres://bridge@no..name/bridge".to_owned(),
            "check the host in database.url",
        ),
        (
            "postgres://bridge@127.0.0.1:1/bridge".to_owned(),
            "Connection refused (os error 111); check that PostgreSQL runs",
        ),
    ] {
        let ended = run_configured("doctor", &toml(&url)).await;

        assert_eq!(ended.code, 1, "{}", ended.output);
        assert_eq!(ended.errors, "");
        let line = ended.output.lines().find(|it| it.starts_with("FAILED "));
        let line = line.unwrap();
        assert!(line.starts_with("FAILED database: "), "{line}");
        assert_eq!(line.matches(explanation).count(), 1, "{line}");
        for unwanted in [
            "wr0ng",
            " at line ",
            "error returned",
            "error communicating",
        ] {
            assert!(!ended.output.contains(unwanted), "{}", ended.output);
        }
        assert!(has_line(&ended, "ok", "ConsumerJWS"), "{}", ended.output);
    }
    let ended = run_configured("serve", &toml(&url("locked:wr0ng", "postgres"))).await;
    assert_eq!(ended.code, 1);
    let error = "error: the database is unavailable: password authentication failed for user \"locked\"; check the user and the password in database.url";
    assert!(ended.errors.contains(error), "{}", ended.errors);
    assert_eq!(
        ended.errors.matches("failed for user").count(),
        1,
        "{}",
        ended.errors
    );
}

/// Creates roles that cannot connect, each for another reason.
async fn restrict_connections(server: &Server) {
    let superuser = Database::at(Location::Postgres {
        url: server.url().into(),
        schema: None,
        max_connections: 1,
    });
    for statement in [
        "CREATE ROLE locked LOGIN PASSWORD 'right'",
        "CREATE ROLE nologin",
        "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0",
        "CREATE ROLE tls_only LOGIN",
        "DO $$
         BEGIN
             EXECUTE format(
                 'COPY (SELECT unnest(%L::text[])) TO %L',
                 ARRAY[
                     'host all postgres,missing,nologin,crowded all trust',
                     'host all locked all scram-sha-256',
                     'hostssl all tls_only all trust'
                 ],
                 current_setting('hba_file')
             );
         END
         $$",
        "SELECT pg_reload_conf()",
    ] {
        superuser.execute(statement).await;
    }
    let wrong = format!(
        "postgres://locked:wr0ng@127.0.0.1:{}/postgres",
        server.port()
    );
    eventually("the server refuses the wrong password", async || {
        let connected = PgConnection::connect(&wrong).await;
        connected.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_the_service_that_owns_the_embedded_database() {
    let cloud = Cloud::start().await;
    let database = Database::create(Engine::Sqlite).await;
    let toml = bridge_toml(&database.location, &cloud.url);
    // A loopback address on which nothing else listens, so that the port is free.
    let [x, y, z] = rand::random::<[u8; 3]>().map(|byte| byte.clamp(1, 254));
    let known = toml.replace(
        "admin_listen = \"127.0.0.1:0\"",
        &format!("admin_listen = \"127.{x}.{y}.{z}:9090\""),
    );
    let (service, sms, _) = Process::serve(&known).await;
    sms.say("ada", "hello").await.expect(201);

    let beside = run_configured("doctor", &known).await;
    let elsewhere = run_configured("doctor", &toml).await;

    let id = service.id();
    for (ended, owner) in [
        (
            beside,
            format!("a running service (process id {id}, ready)"),
        ),
        (elsewhere, format!("another process (process id {id})")),
    ] {
        assert_eq!(ended.code, 0, "{}", ended.output);
        let line =
            format!("note   database: writing: not checked: the database is in use by {owner}\n");
        assert!(ended.output.contains(&line), "{}", ended.output);
        let read = "ok     encryption keys: 1 stored token(s) can be decrypted\n";
        assert!(ended.output.contains(read), "{}", ended.output);
    }
}

#[tokio::test]
async fn the_printed_openapi_document_is_the_committed_one() {
    let ended = run(command(&["openapi"])).await;

    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert_eq!(ended.output, include_str!("../../openapi.yaml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_sandbox_answers_domain_lookups() {
    let mut process = Process::start(command(&["sandbox", "--listen", "127.0.0.1:0"]));
    let listens = process.output_line("listens on http://").await;
    let url = listens.split_whitespace().last().unwrap();

    let path = "/api/account/12345678/service/asyncMessagingEnt/baseURI.json?version=1.0";
    let found = Channel::new(url, "none").get(path).await.expect(200);

    assert!(found.to_string().contains("asyncMessagingEnt"), "{found}");
    process
        .output_line(&format!("domain_api = \"{url}\""))
        .await;
    process.signal("TERM").await;
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standalone_sandbox_notifies_the_webhook_of_its_options() {
    let by_options = command(&[
        "sandbox",
        "--listen=127.0.0.1:0",
        "--agent",
        "--webhook-url=http://127.0.0.1:1/hooks",
        "--account-id=le1",
        "--client-id=app",
        "--client-secret=the-secret",
    ]);
    let mut by_variables = command(&["sandbox", "--listen=127.0.0.1:0"]);
    by_variables
        .env("SANDBOX_WEBHOOK_URL", "http://127.0.0.1:1/hooks")
        .env("SANDBOX_ACCOUNT_ID", "le1")
        .env("SANDBOX_CLIENT_ID", "app")
        .env("SANDBOX_CLIENT_SECRET", "the-secret");
    for command in [by_options, by_variables] {
        let process = Process::start(command);
        process
            .output_line("It notifies http://127.0.0.1:1/hooks of what happens in account le1")
            .await;
        let listens = process.output_line("listens on http://").await;
        let cloud = Channel::new(listens.split_whitespace().last().unwrap(), "none");

        let known = cloud
            .post("/_sandbox/notifications/le1/foreign", json!({}))
            .await;
        let unknown = cloud
            .post("/_sandbox/notifications/le2/foreign", json!({}))
            .await;

        assert_eq!((known.status, unknown.status), (200, 404));
        let warning = process.log_line("did not accept a notification").await;
        assert!(warning.contains("le1"), "{warning}");
        let notifications = cloud.get("/_sandbox/notifications").await.expect(200);
        assert_eq!(notifications[0]["client_id"], "app");
        assert_eq!(notifications[0]["status"], Value::Null);
        assert!(!process.log().contains("the-secret"));
    }
}

#[tokio::test]
async fn help_and_version_need_no_configuration() {
    for arguments in [
        &["--help"][..],
        &["help"],
        &["serve", "--help"],
        &["doctor", "--help"],
        &["sandbox", "--help"],
    ] {
        let ended = run(command(arguments)).await;

        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.errors);
        assert!(
            ended.output.contains("Usage: liveperson-bridge"),
            "{}",
            ended.output
        );
    }
    let help = run(command(&["--help"])).await.output;
    for name in [
        "serve", "demo", "sandbox", "migrate", "doctor", "openapi", "--config",
    ] {
        assert!(help.contains(name), "{name} in {help}");
    }
    let version = run(command(&["--version"])).await;
    assert_eq!(version.code, 0);
    assert_eq!(
        version.output,
        concat!("liveperson-bridge ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[tokio::test]
async fn a_command_does_not_panic_when_its_output_is_closed() {
    for arguments in [&["openapi"][..], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = command(arguments);
        command.stdout(Stdio::from(writer));

        let child = command.spawn().unwrap();
        drop(command);
        let output = child.wait_with_output().await.unwrap();

        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code().is_some_and(|code| code < 2),
            "{errors}"
        );
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
